"""How people are named: one spelling for each, and which are possible."""

import pytest
from pydantic import TypeAdapter, ValidationError

from app.accounts.names import Email, Label, Username, canonical_email, canonical_username

USERNAME, EMAIL, LABEL = (TypeAdapter(kind) for kind in (Username, Email, Label))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Ada", "ada"),
        (" ada ", "ada"),
        ("\uff21\uff44\uff41", "ada"),
        ("e\u0301va", "\u00e9va"),
        ("\u00c9VA", "\u00e9va"),
        ("\ufb01n", "fin"),
        ("\u212aelvin", "kelvin"),
        ("a.b_c-1", "a.b_c-1"),
        ("\u0905\u0928\u093f\u0932", "\u0905\u0928\u093f\u0932"),
    ],
)
def test_one_spelling(typed: str, name: str) -> None:
    """Width, composition, ligatures and case make no other name; spelling again changes nothing."""
    assert USERNAME.validate_python(typed) == name
    assert canonical_username(name) == name


@pytest.mark.parametrize(
    "typed",
    [
        *("", " ", "a b", "a@b", "a/b", "<b>", "a\u200bb", "\u202ea", "a\nb", "a\x00", "\ud800"),
        *(".a", "-a", "_a", "\u0301a", "x" * 101, "\ufdfa" * 100),
    ],
)
def test_impossible_names(typed: str) -> None:
    """No blanks, no @, nothing invisible, nothing endless (not even once it is normalised)."""
    with pytest.raises(ValidationError):
        USERNAME.validate_python(typed)


def test_emails() -> None:
    """Case and Unicode form make no other address; what is no address is said to be none."""
    assert canonical_email("Ada@Example.ORG") == "ada@example.org"
    assert canonical_email("e\u0301va@example.org") == canonical_email("\u00c9va@example.org")
    for wrong in ("ada", "a@b", "a@-b.org", "a b@c.org", "a@b.org,c@d.org", "<a@b.org>", "@b.org"):
        with pytest.raises(ValidationError):
            EMAIL.validate_python(wrong)


@pytest.mark.parametrize("typed", ["", "  ", "\x07", "a\x1b[31m", "a\u202eb", "x" * 101, "\x00"])
def test_impossible_labels(typed: str) -> None:
    """What nobody could read, or would move the cursor, is no name of a key or organisation."""
    with pytest.raises(ValidationError):
        LABEL.validate_python(typed)
    assert LABEL.validate_python(" CI, Zürich ") == "CI, Zürich"
