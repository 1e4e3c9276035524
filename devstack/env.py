"""Make `.env` from `.env.example`. Standard library only: it runs before anything is installed."""

import os
import re
import secrets
from pathlib import Path

PLACEHOLDER = "change-me"
_PREFIXES = {"FIRST_SUPERUSER_API_KEY": "p3d_admin_", "WORKER_API_KEY": "p3d_worker_"}
_BYTES = {"SECRET_KEY": 36, "FIRST_SUPERUSER_PASSWORD": 15, "RQ_DASHBOARD_PASSWORD": 15}
_ASSIGNMENT = re.compile(rf"^(?P<name>[A-Z0-9_]+)={PLACEHOLDER}$", re.MULTILINE)


def random_secret(name: str) -> str:
    """A fresh secret in the form that setting `name` has; only letters, digits, `-` and `_`."""
    return _PREFIXES.get(name, "") + secrets.token_urlsafe(_BYTES.get(name, 30))


def fill_in(example: str) -> str:
    """`example` with a secret of its own for every `change-me`."""
    return _ASSIGNMENT.sub(lambda found: f"{found['name']}={random_secret(found['name'])}", example)


def create_env(example: Path, target: Path) -> bool:
    """Write `target`, readable only by its owner, unless it exists; answer whether it was made."""
    if target.exists():
        return False
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(fill_in(example.read_text(encoding="utf-8")))
        try:
            os.link(unfinished, target)  # never replaces one that appeared meanwhile
        except FileExistsError:
            return False
    finally:
        unfinished.unlink(missing_ok=True)
    return True
