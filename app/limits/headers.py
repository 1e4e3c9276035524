"""The header fields `RateLimit` and `RateLimit-Policy`.

They are structured fields (RFC 9651) of draft-ietf-httpapi-ratelimit-headers (since version 8): of
each policy its quota `q` and window `w` in seconds, and what is left, `r`, until `t` seconds from
now.
"""

from collections.abc import Sequence
from functools import lru_cache

from app.limits.limiter import Standing
from app.limits.policies import Policy


def rate_limit_headers(standings: Sequence[Standing]) -> list[tuple[bytes, bytes]]:
    """The fields of an answer, as ASGI takes them."""
    left = ", ".join(
        f'"{item.policy.name}";r={item.remaining};t={item.seconds}' for item in standings
    )
    policies = _described(tuple(item.policy for item in standings))
    return [(b"ratelimit-policy", policies), (b"ratelimit", left.encode())]


@lru_cache
def _described(policies: tuple[Policy, ...]) -> bytes:
    return ", ".join(f'"{item.name}";q={item.quota};w={item.seconds}' for item in policies).encode()
