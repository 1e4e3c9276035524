"""API keys: their form, and the keyed hash they are kept as.

A key reads `p3d_<kind>_<id>_<secret><checksum>`: the kind and id tell keys apart in a log or a
leak scanner, the secret has 256 bits, and the CRC-32 of all before it lets a mistyped key be
refused without asking the database. `FIRST_SUPERUSER_API_KEY` and `WORKER_API_KEY` may have any
form, so only keys that claim this one are checked for it.
"""

import hmac
import secrets
import string
import zlib
from dataclasses import dataclass

from app.accounts.tables import KeyKind

_ALPHABET = string.digits + string.ascii_letters
_ID_LENGTH = 8
_SECRET_LENGTH = 43
_CHECKSUM_LENGTH = 6
MAX_KEY_LENGTH = 512
_PREFIX_LENGTH = 20


@dataclass(frozen=True)
class NewKey:
    """A key at the only time it is known in full."""

    key: str
    prefix: str


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def generate_key(kind: KeyKind) -> NewKey:
    """A new random key of a kind."""
    start = f"p3d_{kind}_{_random_text(_ID_LENGTH)}"
    body = f"{start}_{_random_text(_SECRET_LENGTH)}"
    return NewKey(key=body + _checksum(body), prefix=start)


def key_prefix(key: str) -> str:
    """What may be shown of a key: never more than a third of it."""
    return key[: min(_PREFIX_LENGTH, len(key) // 3)]


def may_be_key(key: str) -> bool:
    """Whether a key could exist at all: right length, and the checksum fits if it has one."""
    if not key or len(key) > MAX_KEY_LENGTH or not key.isascii():
        return False
    parts = key.split("_")
    generated = len(parts) == 4 and parts[0] == "p3d" and parts[1] in set(KeyKind)  # noqa: PLR2004
    length = _SECRET_LENGTH + _CHECKSUM_LENGTH
    if generated and len(parts[2]) == _ID_LENGTH and len(parts[3]) == length:
        return hmac.compare_digest(_checksum(key[:-_CHECKSUM_LENGTH]), key[-_CHECKSUM_LENGTH:])
    return True


def hash_key(key: str, secret: str) -> str:
    """HMAC-SHA-256 of a key: without `SECRET_KEY` a stolen table cannot even be searched."""
    return hmac.digest(secret.encode(), key.encode(), "sha256").hex()
