"""`python -m app.admin storage …`."""

from typing import Annotated

import typer

from app.admin.shell import fail, print_table, run
from app.config import Settings
from app.db.session import Database
from app.queueing.orphans import delete_orphans, find_orphans
from app.queueing.retention import Due, preview
from app.storage.base import StorageUnavailableError, StoredObject
from app.storage.minio_store import MinioStore

commands = typer.Typer(
    help="What retention will delete, and what it cannot know of.", no_args_is_help=True
)

_SHOWN = 100


@commands.command()
def due() -> None:
    """Count what retention would expire and delete now; nothing is changed.

    The dispatcher does it by itself, every minute.
    """

    async def read(database: Database, _: Settings) -> Due:
        return await preview(database)

    found = run(read)
    rows = [(found.jobs, found.objects, found.bytes)]
    print_table(["jobs to expire", "objects to delete", "bytes"], rows)


@commands.command()
def orphans(
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete them. Is the bucket this platform's alone?")
    ] = False,
) -> None:
    """List objects older than a day, under our own prefixes, that no row of the database knows.

    There are none unless the database was restored from a backup, or somebody else writes into the
    bucket; another platform's files would be listed, too.
    """

    async def find(database: Database, settings: Settings) -> list[StoredObject]:
        store = MinioStore(settings)
        try:
            return [item async for page in find_orphans(database, store) for item in page]
        except StorageUnavailableError as error:
            fail(f"Storage cannot be asked: {error}")
        finally:
            await store.close()

    async def remove(database: Database, settings: Settings) -> tuple[int, int]:
        store = MinioStore(settings)
        try:
            return await delete_orphans(database, store)
        except StorageUnavailableError as error:
            fail(f"Storage cannot be asked: {error}")
        finally:
            await store.close()

    if delete:
        deleted, remaining = run(remove)
        typer.echo(f"Deleted {deleted} objects; {remaining} could not be deleted.")
        return
    found = run(find)
    rows = [(item.key, item.size_bytes, f"{item.modified_at:%Y-%m-%d}") for item in found[:_SHOWN]]
    print_table(["key", "bytes", "written"], rows)
    typer.echo(f"{len(found)} objects, {sum(item.size_bytes for item in found)} bytes in all.")
