"""How people and organisations are named: one spelling for each, and which are possible."""

import unicodedata
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, StringConstraints

from contract.base import Text

_MARKS = frozenset("._-")
_EMAIL_LENGTH = 254


def canonical_username(username: str) -> str:
    """The spelling by which a user is known: lower case in NFKC (RFC 8265, section 3.3).

    Half width and full width, composed and decomposed, upper and lower case are the same name.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).lower()).strip()


def canonical_email(address: str) -> str:
    """The spelling by which an e-mail address is known; whether it is delivered to is not asked.

    Raises:
        ValueError: it is no e-mail address; says why.
    """
    try:
        # Mail systems that tell upper from lower case before the @ exist in the standard only.
        return validate_email(address, check_deliverability=False).normalized.lower()
    except EmailNotValidError as error:
        raise ValueError(str(error).rstrip(".")) from error


def _check_username(username: str) -> str:
    name = canonical_username(username)
    # The canonical spelling may be longer; without an @ a name is never somebody's e-mail address.
    fits = 0 < len(name) <= 100 and all(  # noqa: PLR2004
        letter in _MARKS or unicodedata.category(letter)[0] in "LMN" for letter in name
    )
    if not fits or name[0] in _MARKS or unicodedata.category(name[0])[0] == "M":
        raise ValueError(
            "must begin with a letter or digit, and hold only letters, digits and . _ -"
        )
    return name


def _check_label(label: str) -> str:
    label = unicodedata.normalize("NFC", label).strip()
    if not label or any(unicodedata.category(letter)[0] == "C" for letter in label):
        raise ValueError("must hold something to read, and no control characters")
    return label


Username = Annotated[
    Text, StringConstraints(min_length=1, max_length=100), AfterValidator(_check_username)
]
"""The name of a new user, in its canonical spelling."""

Email = Annotated[
    Text,
    StringConstraints(min_length=3, max_length=_EMAIL_LENGTH),
    AfterValidator(canonical_email),
]
"""An e-mail address, in its canonical spelling."""

Label = Annotated[
    Text, StringConstraints(min_length=1, max_length=100), AfterValidator(_check_label)
]
"""What a person calls an organisation or a key."""
