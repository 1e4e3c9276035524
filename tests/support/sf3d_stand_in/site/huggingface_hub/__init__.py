"""As much of the hub's client as upstream calls: there is no network in tests."""

import os
from typing import NoReturn


class RepositoryNotFoundError(Exception):
    """The hub has no such repository, or does not show it."""


class GatedRepoError(RepositoryNotFoundError):
    """The hub wants the licence accepted first."""


class EntryNotFoundError(Exception):
    """The repository has no such file."""


class LocalEntryNotFoundError(EntryNotFoundError, FileNotFoundError, ValueError):
    """It is not here, and the hub cannot be reached."""


def hf_hub_download(repo_id: str, filename: str) -> NoReturn:
    """Fail in the way that the test has chosen."""
    kinds = (GatedRepoError, RepositoryNotFoundError, EntryNotFoundError, LocalEntryNotFoundError)
    (kind,) = [kind for kind in kinds if kind.__name__ == os.environ["STAND_IN_HUB"]]
    raise kind(f"cannot download {filename} of {repo_id}")
