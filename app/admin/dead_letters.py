"""`python -m app.admin dead-letters …`."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import typer

from app.admin.shell import fail, operator, print_table, run
from app.config import Settings
from app.db.session import Database
from app.errors import AppError
from app.jobs.dead_letters import DeadLetterFilters, find_dead_letters, redrive

commands = typer.Typer(
    help="Dead letters: jobs that failed with their attempts spent.", no_args_is_help=True
)

_BATCH = 100
_SHOWN_OF_MESSAGE = 80

OfOrganisation = Annotated[str | None, typer.Option("--organisation", "-o", help="By name.")]
OfModel = Annotated[str | None, typer.Option("--model", "-m", help="Jobs of this model.")]
WithCode = Annotated[str | None, typer.Option("--code", "-c", help="Failed with this code.")]
Permanent = Annotated[
    bool, typer.Option("--permanent", help="Also those that would fail again, such as bad input.")
]


@commands.command("list")
def list_all(
    organisation: OfOrganisation = None,
    model: OfModel = None,
    code: WithCode = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    *,
    permanent: Permanent = False,
) -> None:
    """List dead letters, oldest first."""
    filters = DeadLetterFilters(organisation, model, code, permanent)

    async def read(database: Database, _: Settings) -> list[tuple[object, ...]]:
        async with database.transaction() as session:
            found = await find_dead_letters(session, filters, limit=limit)
            return [
                (
                    *(letter.job.id, letter.job.completed_at),
                    *(letter.organisation, letter.username),
                    *(letter.job.model_id, letter.job.error_code),
                    (letter.job.error_message or "")[:_SHOWN_OF_MESSAGE],
                )
                for letter in found
            ]

    print_table(["job", "failed", "organisation", "user", "model", "code", "message"], run(read))


@commands.command("redrive")
def redrive_jobs(
    jobs: Annotated[list[UUID] | None, typer.Argument(help="Ids of jobs.")] = None,
    organisation: OfOrganisation = None,
    model: OfModel = None,
    code: WithCode = None,
    *,
    permanent: Permanent = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All dead letters, or all that the options name.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which it would be.")] = False,
) -> None:
    """Queue failed jobs again, each with a new budget of attempts.

    Exit code 1 if any of them could not be queued.
    """
    filters = DeadLetterFilters(organisation, model, code, permanent)
    if bool(jobs) == everything:
        raise typer.BadParameter("name jobs, or say --all")
    if jobs and filters != DeadLetterFilters():
        raise typer.BadParameter("the filters go with --all")

    async def do(database: Database, _: Settings) -> tuple[int, int]:
        if jobs:
            return await _redrive(database, jobs, dry_run=dry_run)
        return await _redrive_all(database, filters, dry_run=dry_run)

    done, refused = run(do)
    typer.echo(f"{'Would queue' if dry_run else 'Queued'} {done} jobs again.")
    if refused:
        fail(f"{refused} could not be queued.")


async def _redrive_all(
    database: Database, filters: DeadLetterFilters, *, dry_run: bool
) -> tuple[int, int]:
    """Page by page: jobs that fail again meanwhile don't begin it anew."""
    last: UUID | None = None
    done = refused = 0
    while True:
        async with database.transaction() as session:
            found = await find_dead_letters(session, filters, after=last, limit=_BATCH)
        if not found:
            return done, refused
        ids = [letter.job.id for letter in found]
        last = ids[-1]
        counts = await _redrive(database, ids, dry_run=dry_run)
        done, refused = done + counts[0], refused + counts[1]


async def _redrive(
    database: Database, job_ids: Sequence[UUID], *, dry_run: bool
) -> tuple[int, int]:
    """How many were queued, and how many could not be; each in a transaction of its own."""
    done = 0
    for job_id in job_ids:
        if dry_run:
            typer.echo(job_id)
            done += 1
            continue
        try:
            async with database.transaction() as session:
                await redrive(session, job_id, operator())
        except AppError as error:
            typer.echo(f"{job_id}: {error.detail}", err=True)
        else:
            done += 1
    return done, len(job_ids) - done
