"""Quotas as options and tables of commands: the same words for users and for organisations."""

from typing import Annotated, Any

import typer

from app.accounts.tables import Organisation, User
from app.admin.shell import fail, print_table
from app.config import MAX_QUOTA, Settings
from app.usage.quotas import Owner, Resource
from app.usage.service import Quotas

DEFAULT = -1
"""What stands for the setting, so that an option that was left out changes nothing."""


def _limit(of_what: str) -> Any:
    words = f"{of_what}; 0 is no limit, -1 what the setting says."
    return typer.Option(min=DEFAULT, max=MAX_QUOTA, metavar="NUMBER", help=words)


QueuedJobs = Annotated[int | None, _limit("Jobs that may be QUEUED")]
StorageBytes = Annotated[int | None, _limit("Bytes of uploads and results")]
GpuSeconds = Annotated[int | None, _limit("GPU-seconds a month, UTC")]
ActiveJobs = Annotated[int | None, _limit("Jobs dispatched or running")]


def chosen(**options: int | None) -> dict[str, int | None]:
    """What is to be written, by column: nothing of an option left out, None for the setting.

    Ends the process if there is nothing to write.
    """
    values = {
        name: None if value == DEFAULT else value
        for name, value in options.items()
        if value is not None
    }
    if not values:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        fail(f"Nothing to change: give one of {names}.")
    return values


def own_quotas(owner: User | Organisation) -> str:
    """The quotas that are not the settings', in one line."""
    own = {resource: getattr(owner, f"max_{resource}") for resource in Resource}
    return " ".join(
        f"{resource}={limit or 'none'}" for resource, limit in own.items() if limit is not None
    )


def print_quotas(
    row: User | Organisation, owner: Owner, quotas: Quotas | None, settings: Settings
) -> None:
    """Print each quota of a user or of an organisation: its use, its limit and who says so.

    Args:
        row: whose quotas.
        owner: which of both it is.
        quotas: as they stand; None if nobody is there to use anything.
        settings: what holds where the row says nothing.
    """
    rows = []
    for resource in Resource:
        used = quotas[owner, resource].used if quotas else 0
        own = getattr(row, f"max_{resource}")
        setting = f"max_{resource}_per_{owner}"
        limit = getattr(settings, setting) if own is None else own
        rows.append(
            (resource, f"{used:.0f}", limit or "none", setting.upper() if own is None else "set")
        )
    print_table(["quota", "used", "limit", "by"], rows)
