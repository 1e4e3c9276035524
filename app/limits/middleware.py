"""Limits at the edge: requests of nobody knows whom, and the headers of all answers.

Whose a request is, is found out by the route (or the shortcut before it), which counts it for its
user. What nobody has counted by the time of its answer, such as one with a wrong key or for a path
that there is not, is counted for its address; one that shows no key, before anything is done.
"""

import ipaddress
from collections.abc import Collection

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.limits.errors import RateLimitExceededError
from app.limits.headers import rate_limit_headers
from app.limits.limiter import STANDINGS, Limiter
from app.web.addresses import client_address
from app.web.problems import problem_response

_CREDENTIALS = frozenset({b"x-api-key", b"authorization"})
_IPV6_NETWORK_BITS = 64


class RateLimitMiddleware:
    """Counts what no route counts, and says in each answer what is left.

    Args:
        app: what is behind it.
        trusted_proxies: how many proxies tell the client's address, see `client_address`.
        unlimited: beginnings of paths that are not limited.
    """

    def __init__(self, app: ASGIApp, *, trusted_proxies: int, unlimited: Collection[str]) -> None:
        self.app = app
        self._trusted_proxies = trusted_proxies
        self._unlimited = tuple(unlimited)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or scope["path"].startswith(self._unlimited):
            await self.app(scope, receive, send)
            return
        refused = False

        async def send_with_headers(message: Message) -> None:
            nonlocal refused
            if refused:
                return  # the rest of an answer that is not given
            if message["type"] == "http.response.start":
                if STANDINGS not in scope["state"]:
                    try:
                        await self._count_address(scope)
                    except RateLimitExceededError as error:
                        await problem_response(error)(scope, receive, send_with_headers)
                        refused = True
                        return
                standings = scope["state"].get(STANDINGS)
                if standings:
                    message["headers"] = [
                        *message.get("headers", ()),
                        *rate_limit_headers(standings),
                    ]
            await send(message)

        if _CREDENTIALS.isdisjoint(dict(scope["headers"])):
            try:
                await self._count_address(scope)
            except RateLimitExceededError as error:
                await problem_response(error)(scope, receive, send_with_headers)
                return
        await self.app(scope, receive, send_with_headers)

    async def _count_address(self, scope: Scope) -> None:
        limiter: Limiter = scope["app"].state.limiter
        scope["state"][STANDINGS] = []  # counted, even if nothing limits it
        address = client_address(Request(scope), self._trusted_proxies)
        await limiter.count_address(scope, _network(address))


def _network(address: str | None) -> str:
    """Whom an address belongs to: of IPv6, the network that one subscriber has at least."""
    if address is None or ":" not in address:
        return address or "unknown"
    network = ipaddress.ip_network(f"{address}/{_IPV6_NETWORK_BITS}", strict=False)
    return str(network.network_address)
