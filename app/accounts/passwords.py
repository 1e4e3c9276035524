"""Passwords: argon2id (RFC 9106), hashed off the event loop."""

import asyncio

from pwdlib import PasswordHash

_hasher = PasswordHash.recommended()


async def hash_password(password: str) -> str:
    """The salted hash of a password."""
    return await asyncio.to_thread(_hasher.hash, password)


async def verify_password(password: str, password_hash: str) -> bool:
    """Whether a password is the one that was hashed."""
    return await asyncio.to_thread(_hasher.verify, password, password_hash)
