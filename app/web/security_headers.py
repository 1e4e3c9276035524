"""The security headers of every answer."""

import hashlib
import re
from base64 import b64encode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = b"content-security-policy"
_API_POLICY = b"default-src 'none'; frame-ancestors 'none'"
# What every answer has, unless it says otherwise itself.
_DEFAULTS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (_POLICY, _API_POLICY),
    (b"cache-control", b"no-store"),
]
_HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")

_INLINE_SCRIPT = re.compile(rb"<script(?:\s[^>]*)?>(.*?)</script>", re.DOTALL | re.IGNORECASE)


class SecurityHeadersMiddleware:
    """Adds to every answer the security headers that it does not have; the outermost of all.

    Args:
        app: what is behind it.
        trusted_proxies: how many proxies of the operator's stand in front; only with one is
            `X-Forwarded-Proto` believed.
    """

    def __init__(self, app: ASGIApp, *, trusted_proxies: int) -> None:
        self.app = app
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        page: Message | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal page
            if message["type"] == "http.response.start":
                headers = dict(message.get("headers", ()))
                if headers.get(b"content-type", b"").startswith(b"text/html"):
                    page = message  # its policy depends on what is in it
                    return
                self._complete(scope, message, headers)
            elif page is not None:
                policy = (_POLICY, page_policy(message.get("body", b"")))
                page["headers"] = [*page.get("headers", ()), policy]
                self._complete(scope, page, dict(page["headers"]))
                await send(page)
                page = None
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _complete(self, scope: Scope, start: Message, headers: dict[bytes, bytes]) -> None:
        added = [default for default in _DEFAULTS if default[0] not in headers]
        if came_by_https(scope, self._trusted_proxies):
            # Browsers would not, and must not, learn it from an answer by plain HTTP (RFC 6797).
            added.append(_HTTPS_ONLY)
        start["headers"] = [*start.get("headers", ()), *added]


def came_by_https(scope: Scope, trusted_proxies: int) -> bool:
    """Whether the client speaks https, to this server or to the operator's proxy before it."""
    if scope["scheme"] == "https":
        return True
    if not trusted_proxies:
        return False
    told = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    return bool(told) and told[-1].rpartition(b",")[2].strip().lower() == b"https"


def page_policy(page: bytes) -> bytes:
    """The content security policy of a page of ours, such as /docs.

    It may run the files of this server, and of inline scripts exactly those that it has: they are
    named by their SHA-256 (CSP level 3). Styles are not bound so, since ReDoc makes them as it
    runs.
    """
    hashes = " ".join(
        f"'sha256-{b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(page)
        if script.strip()
    )
    return (
        f"default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; worker-src blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ).encode()
