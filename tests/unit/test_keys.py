"""API keys: their form, their checksum and the hash they are kept as."""

import re
import string

import pytest

from app.accounts.keys import MAX_KEY_LENGTH, generate_key, hash_key, key_prefix, may_be_key
from app.accounts.tables import KeyKind

_LETTERS = string.digits + string.ascii_letters


@pytest.mark.parametrize("kind", KeyKind)
def test_form(kind: KeyKind) -> None:
    """A key names its kind, has an id, a secret of 43 letters and a checksum of six."""
    new = generate_key(kind)
    assert re.fullmatch(rf"p3d_{kind}_[0-9A-Za-z]{{8}}_[0-9A-Za-z]{{49}}", new.key)
    assert new.key.startswith(new.prefix)
    assert re.fullmatch(rf"p3d_{kind}_[0-9A-Za-z]{{8}}", new.prefix)
    assert may_be_key(new.key)


def test_keys_differ() -> None:
    """No two keys are alike."""
    assert len({generate_key(KeyKind.USER).key for _ in range(100)}) == 100


def test_checksum_catches_every_mistyped_character() -> None:
    """Any one character of the id, secret or checksum replaced makes the key impossible."""
    key = generate_key(KeyKind.USER).key
    for place in range(len("p3d_user_"), len(key)):
        if key[place] == "_":
            continue
        for letter in _LETTERS:
            if letter != key[place]:
                assert not may_be_key(key[:place] + letter + key[place + 1 :])


def test_checksum_catches_swapped_neighbours() -> None:
    """Two neighbouring characters swapped make the key impossible."""
    key = generate_key(KeyKind.USER).key
    swaps = 0
    for place in range(key.rindex("_") + 1, len(key) - 1):
        one, other = key[place], key[place + 1]
        if one != other:
            swaps += 1
            assert not may_be_key(key[:place] + other + one + key[place + 2 :])
    assert swaps > 20


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY_LENGTH + 1), "clé-secrète", "ключ", "\ud800"])
def test_impossible_keys(key: str) -> None:
    """What is empty, endless or not ASCII is no key."""
    assert not may_be_key(key)


@pytest.mark.parametrize("key", ["change-me", "p3d_user_short_x", "a_b_c_d", "x" * MAX_KEY_LENGTH])
def test_keys_of_other_forms_are_possible(key: str) -> None:
    """A key of `.env` may have any form, so it is not refused for having no checksum."""
    assert may_be_key(key)


def test_hash_is_keyed() -> None:
    """The stored hash depends on the key and on SECRET_KEY, and shows neither."""
    hashed = hash_key("some-key", "secret-one")
    assert re.fullmatch(r"[0-9a-f]{64}", hashed)
    assert hashed == hash_key("some-key", "secret-one")
    assert hashed != hash_key("some-key", "secret-two")
    assert hashed != hash_key("other-key", "secret-one")


@pytest.mark.parametrize("key", ["abcdef", "x" * 30, "x" * 500])
def test_prefix_gives_little_away(key: str) -> None:
    """What is shown of a key is its beginning, never more than a third or 20 characters."""
    prefix = key_prefix(key)
    assert key.startswith(prefix)
    assert len(prefix) == min(20, len(key) // 3)
