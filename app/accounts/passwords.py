"""Passwords: what a new one must have, and argon2id (RFC 9106) off the event loop.

A hash takes 64 MiB and about a tenth of a second of several cores on purpose. So only a few are
made at once, on threads of their own, and when too many wait the next one is refused: a flood of
log-ins costs other requests little.
"""

import asyncio
import functools
import os
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

from pwdlib import PasswordHash
from pydantic import AfterValidator, Field, SecretStr

from app.errors import ServiceUnavailableError

T = TypeVar("T")

MIN_LENGTH = 8
MAX_BYTES = 1024
_MAX_WAITING = 64

_hasher = PasswordHash.recommended()


class _Threads:
    """The threads that hash, and how many hashes are under way or wait for one."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._room = threads + waiting

    async def run(self, function: Callable[..., T], *arguments: str | None) -> T:
        """What a function returns, called on one of the threads.

        Raises:
            ServiceUnavailableError: too many wait already.
        """
        if self._room <= 0:
            raise ServiceUnavailableError(
                "Too many passwords are being checked just now. Try again in a few seconds."
            )
        self._room -= 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, function, *arguments)
        finally:
            self._room += 1


_threads = _Threads(max(1, (os.cpu_count() or 2) // 2), _MAX_WAITING)


def _normalised(password: str) -> str:
    """The same password from every keyboard (RFC 8265, section 4.2)."""
    return unicodedata.normalize("NFC", password)


@functools.lru_cache(maxsize=4)
def _dummy_hash(hasher: PasswordHash) -> str:
    """The hash of a password that nobody has."""
    return hasher.hash(secrets.token_urlsafe())


def _verify(password: str, password_hash: str | None) -> tuple[bool, str | None]:
    hasher = _hasher
    if password_hash is None:
        hasher.verify(password, _dummy_hash(hasher))
        return False, None
    return hasher.verify_and_update(password, password_hash)


async def hash_password(password: str) -> str:
    """The salted hash of a password.

    Raises:
        ServiceUnavailableError: too many are being hashed.
    """
    return await _threads.run(_hasher.hash, _normalised(password))


async def verify_password(password: str, password_hash: str | None) -> tuple[bool, str | None]:
    """Whether a password is the one that was hashed; as much work if there is no hash.

    Returns:
        Whether it is, and its hash by today's parameters where the hash is by earlier ones.

    Raises:
        ServiceUnavailableError: too many are being checked.
    """
    return await _threads.run(_verify, _normalised(password), password_hash)


def missing_in_password(password: str) -> list[str]:
    """What a new password lacks, in words; nothing if it will do."""
    wanted = {
        f"{MIN_LENGTH} characters": len(password) >= MIN_LENGTH,
        "an upper-case letter": any(letter.isupper() for letter in password),
        "a digit": any(letter.isdigit() for letter in password),
        "a special character": any(
            not letter.isalnum() and not letter.isspace() for letter in password
        ),
    }
    return [what for what, there in wanted.items() if not there]


def check_password(password: str) -> None:
    """Raise `ValueError`, which says what is missing, unless a password will do for a new one."""
    if missing := missing_in_password(_normalised(password)):
        raise ValueError(f"must have at least {', '.join(missing)}")


def random_password() -> str:
    """A password for somebody to begin with."""
    return f"{secrets.token_urlsafe(12)}-{secrets.choice('ABCDEFGH')}{secrets.randbelow(10)}"


def _bounded(password: SecretStr) -> SecretStr:
    """Refuse what is endless before anything is hashed."""
    text = password.get_secret_value()
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError("has a character that cannot be stored") from error
    if size > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES} bytes")
    return password


def _good_enough(password: SecretStr) -> SecretStr:
    check_password(password.get_secret_value())
    return password


Password = Annotated[SecretStr, Field(min_length=1, max_length=MAX_BYTES), AfterValidator(_bounded)]
"""A password that somebody has."""

NewPassword = Annotated[Password, AfterValidator(_good_enough)]
"""A password to be."""
