"""Conditional requests (RFC 9110, section 13) and `Prefer: wait` (RFC 7240)."""

import hashlib
import re

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?:$|[,;\s])", re.IGNORECASE)

MAX_WAIT_SECONDS = 60


def etag_of(body: bytes) -> str:
    """The strong entity tag of a body."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this representation already."""
    if not if_none_match:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def preferred_wait(prefer: str | None) -> int:
    """How many seconds the client would wait for a change, at most 60; 0 if it did not say."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else 0
