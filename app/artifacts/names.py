"""Object keys: always made here, never by a client or a worker."""

import re
import unicodedata
from uuid import UUID

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_ONLY_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}")
_MAX_LENGTH = 100
_MAX_EXTENSION = 10

PREFIXES = ("jobs/", "uploads/")
"""What all our keys begin with."""


def safe_file_name(name: str) -> str:
    """A file name with nothing in it that a path, URL or header could misread.

    Folders are dropped, letters lose their accents, everything else unusual becomes `_`; the
    extension is kept. Never empty and never hidden.
    """
    base = re.split(r"[/\\]", name)[-1]
    plain = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode()
    cleaned = _UNSAFE.sub("_", plain)
    if _ONLY_EXTENSION.fullmatch(cleaned) and not base.startswith("."):
        cleaned = f"file{cleaned}"  # the name was in letters that have no ASCII form
    cleaned = cleaned.strip("._-")
    if not cleaned:
        return "file"
    if len(cleaned) <= _MAX_LENGTH:
        return cleaned
    stem, dot, extension = cleaned.rpartition(".")
    if not dot or len(extension) > _MAX_EXTENSION:
        return cleaned[:_MAX_LENGTH]
    return f"{stem[: _MAX_LENGTH - len(extension) - 1]}.{extension}"


def upload_key(user_id: UUID, ticket_id: UUID, name: str) -> str:
    """Where a user's upload goes."""
    return f"uploads/{user_id}/{ticket_id}/{safe_file_name(name)}"


def artifact_key(job_id: UUID, attempt_id: UUID, name: str) -> str:
    """Where an attempt's artifact goes; the attempt in it keeps zombies off the winner's files."""
    return f"jobs/{job_id}/{attempt_id}/{name}"
