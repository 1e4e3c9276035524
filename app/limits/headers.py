"""The header fields `RateLimit` and `RateLimit-Policy`.

They are structured fields (RFC 9651) of draft-ietf-httpapi-ratelimit-headers (since version 8): of
each policy its quota `q` and window `w` in seconds, and what is left, `r`, until `t` seconds from
now.
"""

from collections.abc import Sequence

from app.limits.limiter import Standing


def rate_limit_headers(standings: Sequence[Standing]) -> list[tuple[bytes, bytes]]:
    """The fields of an answer, as ASGI takes them."""
    left = [b"%b;r=%d;t=%d" % (policy.quoted, r, t) for policy, r, t in standings]
    policies = [policy.described for policy, _, _ in standings]
    return [(b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(left))]
