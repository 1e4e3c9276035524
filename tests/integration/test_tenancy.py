"""The second wall: what forgets to ask whose it is still sees its own organisation only."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.db import tenancy
from app.db.base import new_id
from app.db.metadata import metadata
from app.db.pool import PlainPool
from app.db.session import Database
from app.db.tenancy import (
    APPEND_ONLY,
    COUNTERS,
    POLICIES,
    SHARED,
    TENANT_ROLE,
    WRITTEN_WITH_THEIR_JOB,
    enter_tenant,
)
from app.jobs import service
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.runs import Stage

_REFUSED = r"row-level security|permission denied|must be owner"


@contextmanager
def as_tenant(organisation_id: UUID) -> Iterator[None]:
    """What a request of somebody of this organisation does."""
    token = tenancy._organisation.set(organisation_id)
    try:
        yield
    finally:
        tenancy._organisation.reset(token)


# One row for each person in the tables that a job does not fill.
_ROWS = (
    "INSERT INTO sessions (id, user_id, expires_at) VALUES (:id, :user, now())",
    "INSERT INTO refresh_tokens (token_hash, session_id) SELECT gen_random_uuid(), :id",
    """INSERT INTO audit_events (id, organisation_id, action, actor_name)
    VALUES (:id, :organisation, 'tested', 'somebody')""",
    """INSERT INTO webhooks (id, organisation_id, user_id, url, events)
    VALUES (:id, :organisation, :user, 'https://example.com', '{}')""",
    """INSERT INTO deliveries
    (id, event_id, channel, type, organisation_id, user_id, url, destination, data)
    VALUES (:id, :id, 'callback', 't', :organisation, :user, 'https://example.com', 'd', '{}')""",
    "INSERT INTO notification_preferences (user_id) VALUES (:user)",
    "INSERT INTO gpu_usage (user_id, month, seconds) VALUES (:user, '2026-11-01', 1)",
)


@pytest.fixture
async def two(people: People, stage: Stage) -> tuple[Person, Person]:
    """One person each of two organisations, who both have something in every table."""
    ada, eve = await people.make(), await people.make(organisation="Elsewhere")
    for person in (ada, eve):
        await stage.succeeded(person)
        values = {
            "id": new_id(),
            "user": person.id,
            "organisation": await _organisation(stage.database, person),
        }
        async with stage.database.transaction() as session:
            for statement in _ROWS:
                given = {name: value for name, value in values.items() if f":{name}" in statement}
                await session.execute(text(statement), given)
    return ada, eve


async def _organisation(database: Database, person: Person) -> UUID:
    return (await person.principal(database)).organisation_id


async def _count(database: Database) -> dict[str, int]:
    async with database.transaction() as session:
        return {
            table: (await session.execute(select(func.count()).select_from(known))).scalar_one()
            for table, known in metadata.tables.items()
            if table in POLICIES
        }


async def test_every_table_is_somebodys(database: Database) -> None:
    """Each table has a policy or is said to be shared, and the database has just these."""
    assert set(metadata.tables) == set(POLICIES) | SHARED | COUNTERS
    async with database.transaction() as session:
        found = (
            await session.execute(
                text(
                    "SELECT tablename, roles, with_check FROM pg_policies"
                    " WHERE schemaname = 'public'"
                )
            )
        ).all()
        secured = set(
            (
                await session.execute(
                    text("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind = 'r'")
                )
            ).scalars()
        )
    assert {row.tablename for row in found} == set(POLICIES) == secured
    assert {tuple(row.roles) for row in found} == {(TENANT_ROLE,)}
    assert {row.tablename for row in found if row.with_check == "true"} == WRITTEN_WITH_THEIR_JOB


async def test_policies_are_those_of_the_code(database: Database) -> None:
    """What a migration wrote means what the code says: the same rows pass."""
    async with database.transaction() as session:
        stored = {
            row.tablename: row.qual
            for row in await session.execute(text("SELECT tablename, qual FROM pg_policies"))
        }
        for table, expression in POLICIES.items():
            await session.execute(
                text(f"CREATE POLICY probe ON {table} TO {TENANT_ROLE} USING ({expression})")
            )
        probes = {
            row.tablename: row.qual
            for row in await session.execute(
                text("SELECT tablename, qual FROM pg_policies WHERE policyname = 'probe'")
            )
        }
        await session.rollback()
    assert stored == probes


async def test_what_is_append_only_cannot_be_changed(database: Database) -> None:
    """The role has no right to change the audit trail, beside the trigger that refuses it."""
    async with database.transaction() as session:
        for table in APPEND_ONLY:
            for right, expected in (("INSERT", True), ("UPDATE", False), ("DELETE", False)):
                statement = text("SELECT has_table_privilege(:role, :table, :right)")
                values = {"role": TENANT_ROLE, "table": table, "right": right}
                assert (await session.execute(statement, values)).scalar_one() is expected


async def test_query_without_a_guard_sees_one_organisation(
    two: tuple[Person, Person], database: Database
) -> None:
    """In every table both have rows, and a tenant's bare query finds its own alone."""
    everything = await _count(database)
    shares = []
    for person in two:
        with as_tenant(await _organisation(database, person)):
            shares.append(await _count(database))
    for table, rows in everything.items():
        ours, theirs = (share[table] for share in shares)
        assert 0 < ours == theirs, table
        assert ours + theirs <= rows, table


async def test_route_without_its_guard_finds_nothing(
    two: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the check of a service is gone, another organisation's job is still unknown."""
    ada, eve = two
    job = (await eve.client.get(f"{JOBS}/")).json()["items"][0]

    def unguarded(_: Any, job: Any, **__: Any) -> Any:
        if job is None:
            raise service.JobNotFoundError
        return job

    monkeypatch.setattr(service, "_require", unguarded)
    for path in ("", "/events", "/artifacts", "/download"):
        answer = await ada.client.get(f"{JOBS}/{job['id']}{path}")
        assert_problem(answer, 404, "JOB_NOT_FOUND")
    for path in ("/cancel", "/retry", "/reproduce"):
        answer = await ada.client.post(f"{JOBS}/{job['id']}{path}")
        assert_problem(answer, 404, "JOB_NOT_FOUND")
    assert (await eve.client.get(f"{JOBS}/{job['id']}")).status_code == 200


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET organisation_id = :other",
        """INSERT INTO users (id, organisation_id, username, password_hash, role)
        VALUES (gen_random_uuid(), :other, 'intruder', 'x', 'admin')""",
        """INSERT INTO upload_tickets (id, user_id, object_key, kind, name, media_type, expires_at)
        SELECT gen_random_uuid(), :user, 'k', 'input', 'n', 'm', now()""",
        "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY",
        "UPDATE models SET enabled = false",
    ],
)
async def test_tenant_cannot_write_across(
    two: tuple[Person, Person], database: Database, statement: str
) -> None:
    """What would put rows into another organisation, or lower the wall, is refused."""
    ada, eve = two
    values = {"other": await _organisation(database, eve), "user": eve.id}
    values = {name: value for name, value in values.items() if f":{name}" in statement}
    with as_tenant(await _organisation(database, ada)), pytest.raises(DBAPIError, match=_REFUSED):
        async with database.transaction() as session:
            await session.execute(text(statement), values)


async def test_update_without_a_guard_changes_nothing_elsewhere(
    two: tuple[Person, Person], database: Database
) -> None:
    """A bare UPDATE or DELETE reaches one organisation's rows."""
    ada, eve = two
    with as_tenant(await _organisation(database, ada)):
        async with database.transaction() as session:
            await session.execute(text("UPDATE jobs SET prompt = 'mine'"))
            await session.execute(text("DELETE FROM job_events"))
    job = (await eve.client.get(f"{JOBS}/")).json()["items"][0]
    assert job["prompt"] is None
    assert await eve.events(job["id"])


async def test_tasks_do_not_share_a_tenant(two: tuple[Person, Person], database: Database) -> None:
    """Requests that run at the same time, on the same connections, see each their own."""
    organisations = [await _organisation(database, person) for person in two]

    async def request(organisation_id: UUID) -> set[UUID]:
        enter_tenant(organisation_id)
        seen: set[UUID] = set()
        for _ in range(20):
            async with database.transaction() as session:
                found = await session.execute(text("SELECT organisation_id FROM jobs"))
                seen.update(found.scalars())
        return seen

    seen = await asyncio.gather(*(request(organisations[n % 2]) for n in range(8)))
    assert seen == [{organisations[n % 2]} for n in range(8)]
    assert tenancy._organisation.get() is None


async def test_plain_pool_follows_the_organisation(
    two: tuple[Person, Person], settings: Settings, database: Database
) -> None:
    """One connection, asked for both in turn; after a failure to enter it is asked for neither."""
    pool = PlainPool(settings.database_dsn, size=1)
    await pool.start()
    organisations = [await _organisation(database, person) for person in two]
    try:
        for organisation_id in organisations * 2:
            rows = await pool.fetch(organisation_id, "SELECT organisation_id FROM jobs")
            assert [row["organisation_id"] for row in rows] == [organisation_id]
        with pytest.raises(asyncpg.PostgresError):
            await pool.fetch(organisations[0], "SELECT 1 / 0")
        rows = await pool.fetch(organisations[1], "SELECT organisation_id FROM jobs")
        assert [row["organisation_id"] for row in rows] == [organisations[1]]
    finally:
        pool.close()


async def test_request_does_not_inherit_a_tenant(two: tuple[Person, Person], app: FastAPI) -> None:
    """A request that begins in another one's context, as pipelined ones do, begins outside."""
    ada, eve = two
    organisation_id = await _organisation(app.state.database, ada)
    transport = httpx.ASGITransport(app)
    headers = {"x-api-key": eve.key}
    with as_tenant(organisation_id):
        app.state.authenticator.forget_all()
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get(f"{JOBS}/", headers=headers)
    assert answer.status_code == 200
    assert {job["requested_by"] for job in answer.json()["items"]} == {str(eve.id)}
