"""Passwords: what a new one must have."""

import importlib.util

import pytest

from app.accounts import passwords
from app.accounts.passwords import (
    check_password,
    hash_password,
    missing_in_password,
    random_password,
    verify_password,
)


@pytest.mark.parametrize(
    ("password", "missing"),
    [
        ("Aa1-aaaa", []),
        ("Éé1 aaa€", []),
        ("Aa1-aaa", ["8 characters"]),
        ("aa1-aaaa", ["an upper-case letter"]),
        ("Aaa-aaaa", ["a digit"]),
        ("Aa1aaaaa", ["a special character"]),
        ("Aa1 aaaa", ["a special character"]),
        ("", ["8 characters", "an upper-case letter", "a digit", "a special character"]),
    ],
)
def test_rule(password: str, missing: list[str]) -> None:
    """Each thing that is missing is named, and nothing else."""
    assert missing_in_password(password) == missing


def test_random_passwords_will_do() -> None:
    """A password that is made for somebody fits the rule, and no two are alike."""
    made = {random_password() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        check_password(password)


async def test_hash_is_argon2id_and_salted() -> None:
    """Equal passwords have different hashes, by argon2id as RFC 9106 recommends it second."""
    # A copy of the module as it is: other tests make its hashes cheap.
    fresh = importlib.util.module_from_spec(passwords.__spec__)
    passwords.__spec__.loader.exec_module(fresh)
    one, other = [await fresh.hash_password("Correct-Horse-9") for _ in range(2)]
    assert one != other
    assert one.startswith("$argon2id$v=19$m=65536,t=3,")
    assert await fresh.verify_password("Correct-Horse-9", one) == (True, None)
    assert await fresh.verify_password("Correct-Horse-8", one) == (False, None)
    assert await fresh.verify_password("Correct-Horse-9", None) == (False, None)


async def test_every_keyboard_types_the_same() -> None:
    """Composed and decomposed letters are the same password."""
    hashed = await hash_password("\u00c9t\u00e9-2026")
    right, _ = await verify_password("E\u0301te\u0301-2026", hashed)
    assert right
