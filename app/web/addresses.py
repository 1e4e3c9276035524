"""Where a request comes from."""

import ipaddress

from fastapi import Request


def client_address(request: Request, trusted_proxies: int) -> str | None:
    """The address of the client, None where the server has not learned one.

    Args:
        request: the request.
        trusted_proxies: how many proxies of the operator's stand in front. Each appends to
            `X-Forwarded-For` whom it was asked by, so the client is as many places from its end;
            what is further left the client may have made up.
    """
    peer = request.client.host if request.client else None
    if trusted_proxies:
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        if len(forwarded) >= trusted_proxies:
            return _address(forwarded[-trusted_proxies]) or _address(peer)
    return _address(peer)


def _address(text: str | None) -> str | None:
    """An IP address in its usual form; None if it is none."""
    try:
        ip = ipaddress.ip_address((text or "").strip().strip("[]"))
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.IPv6Address(int(ip)))  # without a zone
    return str(ip)
