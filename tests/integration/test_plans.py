"""The hot queries in large tables: index scans, however many jobs there are.

What is executed is recorded and explained just as it was executed, with its values.
"""

import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.accounts.roles import Role
from app.artifacts.commits import CheckedObject, find_tickets
from app.artifacts.keeping import drop_checkpoints, find_unkept, let_go
from app.artifacts.streams import find_abandoned
from app.artifacts.tickets import create_artifact_ticket
from app.catalog.known import KnownModels
from app.config import Settings
from app.db.base import new_id
from app.db.session import Database
from app.jobs.admission import admit_jobs
from app.jobs.cached_results import use_again
from app.jobs.claiming import claim
from app.jobs.creation import Draft, JobWriter
from app.jobs.fence import require_running
from app.jobs.lifecycle import JobStatus
from app.jobs.moving import LeftBehind, find_left_behind, follow
from app.jobs.poll import JobReader
from app.jobs.recovery import take_over
from app.jobs.repository import (
    find_by_idempotency_key,
    find_events,
    find_expired_jobs,
    find_lost_attempts,
    look_at_job,
    move_job,
)
from app.jobs.schemas import JobFilters
from app.jobs.service import list_jobs
from app.jobs.success import end_with_success
from app.queueing.dispatcher import Dispatcher
from app.usage.service import UsageLimits
from contract.artifacts import UploadTicketRequest
from contract.attempts import AttemptSucceeded, ClaimRequest
from contract.kinds import ArtifactKind
from tests.support.jobs import end_lease
from tests.support.many_jobs import busiest_user, make_many_jobs

JOBS = 10_000
GROWING = {"jobs", "attempts", "job_events", "artifacts", "upload_tickets", "user_queue"}


@dataclass
class Crowd:
    """Very many jobs, and some of whom and what there is."""

    database: Database
    user: Principal
    admin: Principal
    ids: dict[str, UUID]


_is_listening = ContextVar("is_listening", default=False)
"""Whether the test's own task executes a statement, and not the pulse of this process."""


@dataclass
class Recorder:
    """The statements that were executed, with their values."""

    statements: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    @contextmanager
    def listening(self, database: Database) -> Iterator[None]:
        """Record what goes through SQLAlchemy."""

        def record(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
            if _is_listening.get():
                self.statements.append((statement, tuple(values)))

        engine = database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", record)
        listening = _is_listening.set(True)
        try:
            yield
        finally:
            _is_listening.reset(listening)
            event.remove(engine, "before_cursor_execute", record)

    async def fetch(self, _: UUID, statement: str, *values: Any) -> list[Any]:
        """Record what would go through a pool of asyncpg; answers nothing."""
        self.statements.append((statement, values))
        return []


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from scans(below)


async def explain(connection: Any, statement: str, values: Sequence[Any]) -> dict[str, Any]:
    """The plan of a statement; what only reads is executed, to see how much it reads."""
    options = "ANALYZE, FORMAT JSON" if statement.lstrip().startswith("SELECT") else "FORMAT JSON"
    transaction = connection.transaction()
    await transaction.start()
    try:
        found = await connection.fetchval(f"EXPLAIN ({options}) {statement}", *values)
    finally:
        await transaction.rollback()
    plans = json.loads(found) if isinstance(found, str) else found
    return dict(plans[0]["Plan"])


async def assert_index_scans(database: Database, recorder: Recorder, most: int = JOBS) -> None:
    """Check that no statement reads a growing table from end to end, nor too much of its index."""
    assert recorder.statements
    async with database.engine.connect() as borrowed:
        connection = (await borrowed.get_raw_connection()).driver_connection
        for statement, values in recorder.statements:
            for node in scans(await explain(connection, statement, values)):
                table = node.get("Relation Name")
                shown = f"{node['Node Type']} of {table} in {statement}"
                assert node["Node Type"] != "Seq Scan" or table not in GROWING, shown
                thrown_away = node.get("Rows Removed by Filter", 0)
                if table in GROWING:
                    assert thrown_away * node.get("Actual Loops", 1) <= most, shown


@pytest.fixture
async def crowd(database: Database, settings: Settings) -> AsyncIterator[Crowd]:
    """A large table."""
    connection = await asyncpg.connect(settings.database_dsn)
    try:
        await make_many_jobs(connection, 0, JOBS)
        user_id, organisation_id = await busiest_user(connection)
        ids = {
            name: await connection.fetchval(statement)
            for name, statement in {
                "ended": "SELECT id FROM jobs WHERE status = 'SUCCEEDED' LIMIT 1",
                "waiting": "SELECT id FROM jobs WHERE status = 'QUEUED' AND slot IS NULL LIMIT 1",
                "attempt": "SELECT id FROM attempts WHERE status = 'DISPATCHED' LIMIT 1",
            }.items()
        }
        yield Crowd(
            database,
            Principal(user_id, organisation_id, "many", Role.OPERATOR),
            Principal(user_id, organisation_id, "many", Role.ADMIN),
            ids,
        )
        await connection.execute("DROP TABLE many_users")
    finally:
        await connection.close()


@contextmanager
def through_pool(owner: Any, recorder: Recorder) -> Iterator[None]:
    """Record what a reader or writer sends by asyncpg, instead of sending it."""
    pool, owner._pool = owner._pool, recorder
    try:
        yield
    finally:
        owner._pool = pool


async def test_dispatcher_and_rescuer(crowd: Crowd, settings: Settings) -> None:
    """A dispatch pass, pushing again, withdrawing, moving, a rescue and each duty of retention."""
    database, recorder = crowd.database, Recorder()
    dispatcher = Dispatcher(database, None, settings)  # type: ignore[arg-type]
    with recorder.listening(database):
        async with AsyncSession(database.engine) as session:
            assert await admit_jobs(session, settings)
            await dispatcher._find_unclaimed(session)
            await session.rollback()
        async with AsyncSession(database.engine) as session:
            assert await find_left_behind(session) == []
            assert await follow(session, LeftBehind("inflate-v1", "cpu", "elsewhere"))
            await session.rollback()
        async with AsyncSession(database.engine) as session:
            await find_lost_attempts(session, 100)
            await find_expired_jobs(session, 200)
            await find_unkept(session, 200)
            await find_abandoned(session, 200)
            await let_go(session, crowd.ids["ended"])
            await drop_checkpoints(session, crowd.ids["ended"])
            await session.rollback()
        await dispatcher.withdraw_stranded()
    await assert_index_scans(database, recorder, 1000)


async def test_what_is_used(crowd: Crowd, settings: Settings) -> None:
    """Reading what a user and an organisation use, and admitting within its limit."""
    database, recorder = crowd.database, Recorder()
    limited = settings.model_copy(update={"max_active_jobs_per_organisation": 100})
    usage = UsageLimits(database, limited)
    with recorder.listening(database):
        await usage.require_room_for_job(crowd.user)
        async with database.transaction() as session:
            await usage.require_room_for_upload(session, crowd.user, 1)
        async with database.transaction() as session:
            await admit_jobs(session, limited)
    await assert_index_scans(database, recorder, 1000)


async def test_an_attempt_from_claim_to_rescue(crowd: Crowd, settings: Settings) -> None:
    """What a worker's calls and the rescuer execute for one attempt."""
    database, recorder = crowd.database, Recorder()
    attempt_id = crowd.ids["attempt"]
    with recorder.listening(database):
        request = ClaimRequest(worker_name="many-1", claim_id=new_id())
        claimed = await claim(database, settings, attempt_id, request)
        async with database.statements() as connection:
            attempt = await require_running(connection, settings, attempt_id, claimed.token)
            promise = UploadTicketRequest(
                kind=ArtifactKind.MODEL_3D,
                name="model.glb",
                media_type="model/gltf-binary",
                size_bytes=12,
                sha256="0" * 64,
            )
            ticket = await create_artifact_ticket(connection, settings, attempt, promise)
            await find_tickets(connection, attempt_id, [ticket.id])
        async with AsyncSession(database.engine) as session:
            report = AttemptSucceeded(artifact_ids=[ticket.id])
            stored = [CheckedObject.of(ticket, "etag")]
            connection = await session.connection()
            assert await end_with_success(connection, attempt, report, stored) is not None
            await session.rollback()
        await end_lease(database, attempt_id)
        async with database.transaction() as session:
            assert await take_over(session, settings, attempt_id)
    await assert_index_scans(database, recorder, 1000)


async def test_one_job(crowd: Crowd, app: FastAPI) -> None:
    """Creating, polling, events, idempotency and cancelling."""
    database, recorder = crowd.database, Recorder()
    reader: JobReader = app.state.job_reader
    writer: JobWriter = app.state.job_writer
    known = await KnownModels(database).read("inflate-v1")
    ended, waiting = crowd.ids["ended"], crowd.ids["waiting"]
    with through_pool(reader, recorder), through_pool(writer, recorder):
        await reader._fetch_of(crowd.user.organisation_id, [ended, waiting])
        await writer._execute(crowd.user, [Draft(known, {}, None, "request", "trace")])
    of = crowd.user.organisation_id
    rows = {row["id"]: row for row in await reader._fetch_of(of, [waiting])}
    with recorder.listening(database):
        await reader._estimate(rows[waiting])
        await look_at_job(database, ended, after=0, type_pattern=None, limit=100)
        async with AsyncSession(database.engine) as session:
            await find_events(session, ended, after=0, type_pattern="job.*", limit=100)
            await find_by_idempotency_key(session, crowd.user.user_id, "key")
            again = Draft(known, {}, None, "request", "trace", cache_key="key")
            assert await use_again(database, crowd.user, again) is None
            assert await move_job(
                session,
                waiting,
                JobStatus.CANCELLED,
                expected={JobStatus.QUEUED},
                event_type="job.cancelled",
            )
            await session.rollback()
    await assert_index_scans(database, recorder, 1000)


async def test_every_list(crowd: Crowd) -> None:
    """Each combination of filters, for those who see their own jobs and for those who see all."""
    database, recorder = crowd.database, Recorder()
    month_ago = datetime.now(UTC) - timedelta(days=30)
    filters: dict[str, Any] = {
        "status": [JobStatus.FAILED],
        "model_id": "inflate-v1",
        "requested_by": crowd.user.user_id,
        "created_after": month_ago,
        "created_before": datetime.now(UTC),
    }
    chosen = [
        dict(some)
        for count in range(len(filters) + 1)
        for some in itertools.combinations(filters.items(), count)
    ]
    with recorder.listening(database):
        for some, principal, before in itertools.product(
            chosen, (crowd.user, crowd.admin), (None, crowd.ids["ended"])
        ):
            async with database.transaction() as session:
                await list_jobs(session, principal, JobFilters(**some), before=before, limit=21)
    assert len(recorder.statements) == 4 * 2 ** len(filters)
    await assert_index_scans(database, recorder)
