"""HTTP clients as the worker uses them."""

import ssl
from functools import cache

import httpx

STORAGE_READ_SECONDS = 120
"""How long storage may be silent: it may be slow with large files."""

DIRECT = ("all://localhost", "all://127.0.0.1", "all://[::1]")
"""Addresses of this machine: never asked of a proxy, whatever the environment says."""


@cache
def _tls() -> ssl.SSLContext:
    """Certificates are read once: that takes longer than all the calls of a short run."""
    return httpx.create_ssl_context()


def make_client(*, read_seconds: float = 30) -> httpx.Client:
    """A client that follows no redirects and uses the environment's proxies, except for loopback.

    Args:
        read_seconds: how long an answer may be silent.
    """
    return httpx.Client(
        verify=_tls(),
        timeout=httpx.Timeout(connect=10, read=read_seconds, write=60, pool=10),
        mounts=dict.fromkeys(DIRECT),
        follow_redirects=False,
    )


def describe_network_error(error: httpx.HTTPError) -> str:
    """What went wrong on the wire, without the address (it may be presigned)."""
    kind = type(error).__name__.removesuffix("Error")
    text = str(error)
    return kind if not text or "://" in text else f"{kind}: {text}"
