"""POST to a URL that a user has chosen, without reaching anything that user could not reach.

The name is resolved once, every address of it is checked, and the connection goes to one of those
very addresses: whoever answers DNS cannot give another one in between (DNS rebinding). TLS and the
Host header are of the name. No redirect is followed, no proxy of the environment is used, nothing
is decompressed, and only the beginning of an answer is read.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpcore
from typing_extensions import override

from app.notifications.addresses import IpNetwork, why_forbidden
from app.notifications.urls import Destination

TIME_LIMIT_SECONDS = 15.0
"""For all of it: resolving, connecting, sending and reading."""

MAX_ANSWER_BYTES = 64 << 10

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host, as text."""


class ForbiddenAddressError(Exception):
    """The host's name leads to an address that is not called."""


class UnknownHostError(Exception):
    """The host's name leads nowhere."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back."""

    status: int
    start: bytes
    """The body, or at least the first 64 KiB of it."""
    retry_after: str | None = None
    """The header of that name, as it came."""


class Resolver:
    """Asks the system's resolver, in threads of its own: names that are slow hold up no others.

    Args:
        threads: how many names may be asked for at once.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host.

        Raises:
            UnknownHostError: it has none, or nobody could say.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            raise UnknownHostError("The host's name cannot be resolved.") from error
        return [str(address[0]) for *_, address in found]

    def close(self) -> None:
        """Let the threads go, without waiting for those who still ask."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, and to nothing that was not checked."""

    def __init__(self, resolve: Resolve, networks: Sequence[IpNetwork]) -> None:
        self._resolve = resolve
        self._networks = networks
        self._inner = httpcore.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        if not addresses:
            raise UnknownHostError("The host's name cannot be resolved.")
        for address in addresses:
            # One that may not be called spoils all: the rest would only hide it.
            reason = why_forbidden(ipaddress.ip_address(address), self._networks)
            if reason:
                raise ForbiddenAddressError(f"The host is {reason}, which is not called.")
        error: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = error or failed
        assert error is not None
        raise error


class GuardedHttp:
    """Sends one request at a time over a connection of its own.

    Args:
        networks: networks that may be called although they are not public.
        resolve: answers the addresses of a name.
        tls: whom to trust; by default whom the system trusts.
        time_limit: seconds for a whole request.
    """

    def __init__(
        self,
        networks: Sequence[IpNetwork],
        resolve: Resolve,
        *,
        tls: ssl.SSLContext | None = None,
        time_limit: float = TIME_LIMIT_SECONDS,
    ) -> None:
        self._backend = _CheckedBackend(resolve, networks)
        self._tls = tls or ssl.create_default_context()
        self._time_limit = time_limit

    async def post(
        self, destination: Destination, headers: Mapping[str, str], body: bytes
    ) -> HttpAnswer:
        """POST a body; answers whatever status comes back, a redirect included.

        Raises:
            TimeoutError: it took longer than the time limit.
            ForbiddenAddressError, UnknownHostError: the host is not called.
            httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError:
                no connection, or no HTTP.
        """
        url = httpcore.URL(
            scheme=destination.scheme,
            host=destination.host,
            port=destination.port,
            target=destination.target,
        )
        async with (
            asyncio.timeout(self._time_limit),
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, network_backend=self._backend, max_keepalive_connections=0
            ) as pool,
            pool.stream("POST", url, headers=list(headers.items()), content=body) as answer,
        ):
            start = b""
            async for chunk in answer.aiter_stream():
                start += chunk
                if len(start) >= MAX_ANSWER_BYTES:
                    break
            asked = [value for name, value in answer.headers if name.lower() == b"retry-after"]
            retry_after = asked[0].decode("latin-1") if asked else None
            return HttpAnswer(answer.status, start[:MAX_ANSWER_BYTES], retry_after)
