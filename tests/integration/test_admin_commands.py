"""`python -m app.admin`, as an operator runs it beside a running API."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest
from click.testing import Result
from sqlalchemy import make_url, select, text, update
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from app.accounts import authenticator
from app.accounts.roles import Role
from app.accounts.tables import Organisation, User
from app.admin.__main__ import app as commands
from app.audit import retention
from app.audit.service import Action
from app.audit.tables import AuditEvent
from app.config import Settings, get_settings
from app.db.session import Database
from app.jobs.tables import Job
from app.storage.base import ObjectStore
from tests.conftest import ROOT, environment
from tests.support.apps import DEAD_PORT
from tests.support.people import AUTH, PASSWORD, People, Person
from tests.support.problems import assert_problem
from tests.support.runs import Stage
from tests.support.signals import until_refused

Admin = Callable[..., Awaitable[Result]]
ME = f"{AUTH}/me"


@pytest.fixture
def admin(settings: Settings, database: Database) -> Iterator[Admin]:
    """Runs a command with the settings of the tests, and answers how it ended."""
    variables = {**environment(settings), "COLUMNS": "200"}

    async def run(*arguments: str, stdin: str = "", code: int = 0, **changed: str) -> Result:
        get_settings.cache_clear()
        # In a thread, since a command has an event loop of its own.
        ended = await asyncio.to_thread(
            CliRunner().invoke, commands, arguments, input=stdin, env={**variables, **changed}
        )
        assert ended.exit_code == code, (ended.output, ended.exception)
        assert isinstance(ended.exception, SystemExit | None), ended.exception
        return ended

    yield run
    get_settings.cache_clear()


async def test_process(settings: Settings, database: Database) -> None:
    """`python -m app.admin` is a command: output, errors and exit code are a process's."""

    async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "app.admin", *arguments],
            cwd=ROOT,
            env=environment(settings),
            capture_output=True,
            text=True,
            check=False,
        )

    done = await run("organisations", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Default" in done.stdout
    done = await run("organisations", "create", "Default")
    assert done.returncode == 1
    assert "is taken" in done.stderr
    assert "Traceback" not in done.stderr


async def test_help(admin: Admin) -> None:
    """Every command says what it does."""
    for command, words in (
        ((), ["users", "keys", "organisations", "dead-letters"]),
        (("users",), ["create", "set-role", "deactivate", "reset-password"]),
        (("keys",), ["create", "list", "revoke", "rotate"]),
        (("dead-letters", "redrive"), ["--dry-run", "--all"]),
    ):
        out = (await admin(*command, "--help")).stdout
        assert [word for word in words if word not in out] == []


async def test_first_steps(admin: Admin, http: httpx.AsyncClient) -> None:
    """An organisation, its admin and a key from the shell work over HTTP."""
    await admin("organisations", "create", "Analysts")
    made = await admin(
        "users", "create", "Ada", "-o", "Analysts", "--role", "admin", "--email", "ADA@example.org"
    )
    password = made.stdout.partition("Password: ")[2].strip()
    login = {"username": "ada@example.org", "password": password}
    assert (await http.post(f"{AUTH}/login", json=login)).status_code == 200
    key = (await admin("keys", "create", "--user", "ada", "--name", "ci", "--scope", "read")).stdout
    me = (await http.get(ME, headers={"x-api-key": key.strip()})).json()
    assert (me["organisation"]["name"], me["role"]) == ("Analysts", "admin")
    assert me["scopes"] == ["read"]
    assert "Analysts" in (await admin("organisations", "list")).stdout
    assert "ada@example.org" in (await admin("users", "list", "-o", "Analysts")).stdout
    listed = (await admin("keys", "list", "--user", "ada")).stdout
    assert "ci" in listed
    assert key.strip() not in listed


async def test_password_from_standard_input(admin: Admin, http: httpx.AsyncClient) -> None:
    """A password is read, not given as an argument; one that will not do is said to lack what."""
    done = await admin("users", "create", "ada", "--password-stdin", stdin="weak\n", code=1)
    assert "8 characters" in done.stderr
    done = await admin("users", "create", "ada", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert PASSWORD not in done.stdout
    login = {"username": "ada", "password": PASSWORD}
    assert (await http.post(f"{AUTH}/login", json=login)).status_code == 200


async def test_changes_reach_running_processes(
    admin: Admin, people: People, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is revoked, rotated or deactivated from the shell is refused at once by the API."""
    monkeypatch.setattr(authenticator, "CACHE_SECONDS", 3600.0)
    person = await people.make()
    one, other = await person.another_key(), await person.another_key()

    async def refused(key: str) -> int:
        answer = await until_refused(lambda: http.get(ME, headers={"x-api-key": key}))
        return answer.status_code

    for key in (one, other):
        assert (await http.get(ME, headers={"x-api-key": key["key"]})).status_code == 200
    await admin("keys", "revoke", one["prefix"])
    assert await refused(one["key"]) == 401
    new = (await admin("keys", "rotate", other["id"], "--grace-seconds", "0")).stdout.strip()
    assert await refused(other["key"]) == 401
    assert (await http.get(ME, headers={"x-api-key": new})).status_code == 200
    await admin("users", "deactivate", person.username)
    assert await refused(new) == 401
    await admin("users", "activate", person.username)
    await admin("users", "set-role", person.username, "viewer")
    assert (await http.get(ME, headers={"x-api-key": new})).json()["role"] == "viewer"
    done = await admin("users", "reset-password", person.username)
    password = done.stdout.partition("Password: ")[2].strip()
    login = {"username": person.username, "password": password}
    assert (await http.post(f"{AUTH}/login", json=login)).status_code == 200


async def test_worker_keys(admin: Admin, http: httpx.AsyncClient) -> None:
    """A key for a GPU machine opens the worker's routes."""
    key = (await admin("keys", "create", "--worker", "--name", "gpu-7")).stdout.strip()
    answer = await http.post("/worker/v1/workers/heartbeat", headers={"x-api-key": key})
    assert answer.status_code == 422  # let in; the body is missing
    assert "gpu-7" in (await admin("keys", "list", "--worker")).stdout


async def test_errors_are_sentences(admin: Admin, people: People) -> None:
    """What can't be done is said in a sentence, with exit code 1; what is misspelled, with 2."""
    person = await people.make(role=Role.ADMIN, organisation="Solo")
    for arguments, said, code in (
        (("users", "create", "a b"), "letters, digits", 2),
        (("users", "create", "ada", "--email", "nonsense"), "@", 2),
        (("users", "create", "ada", "--role", "king"), "king", 2),
        (("users", "create", "ada", "-o", "None Such"), "no organisation None Such", 1),
        (("users", "create", person.username.upper(), "-o", "Solo"), "is taken", 1),
        (("users", "set-role", person.username, "viewer"), "last active admin", 1),
        (("users", "deactivate", "nobody"), "no user nobody", 1),
        (("organisations", "create", "Solo"), "is taken", 1),
        (("keys", "create"), "--user or --worker", 2),
        (("keys", "create", "--worker", "--scope", "read"), "no scopes", 2),
        (("keys", "revoke", "p3d_user_nothing"), "no key", 1),
        (("keys", "rotate", "01a1f888-73af-74cc-b052-31987fc97afa"), "no key", 1),
        (("dead-letters", "redrive"), "--all", 2),
        (("dead-letters", "redrive", "nonsense"), "UUID", 2),
        (("dead-letters", "redrive", "01a1f888-73af-74cc-b052-31987fc97afa"), "no such job", 1),
        (("nonsense",), "nonsense", 2),
    ):
        assert said in (await admin(*arguments, code=code)).stderr, arguments


async def test_database_that_is_away(admin: Admin) -> None:
    """Without a database there is a sentence, not a traceback."""
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    done = await admin("users", "list", code=1, DATABASE_URL=url)
    assert "DATABASE_URL cannot be reached" in done.stderr


async def _dead(stage: Stage, person: Person, *, permanent: bool = False) -> str:
    job = await stage.failed(person)
    async with stage.database.transaction() as session:
        await session.execute(
            update(Job).where(Job.id == job["id"]).values(error_permanent=permanent)
        )
    return str(job["id"])


async def test_dead_letters(admin: Admin, people: People, stage: Stage, database: Database) -> None:
    """Failed jobs are listed and queued again, one or all; those that would fail again are not."""
    person, stranger = await people.make(), await people.make(organisation="Globex")
    one, other = await _dead(stage, person), await _dead(stage, person)
    foreign = await _dead(stage, stranger)
    hopeless = await _dead(stage, person, permanent=True)
    listed = (await admin("dead-letters", "list")).stdout
    assert all(job_id in listed for job_id in (one, other, foreign))
    assert hopeless not in listed
    assert hopeless in (await admin("dead-letters", "list", "--permanent")).stdout
    assert foreign not in (await admin("dead-letters", "list", "-o", "Acme")).stdout
    assert one not in (await admin("dead-letters", "list", "--code", "NONE_SUCH")).stdout
    await admin("dead-letters", "redrive", one)
    assert (await person.get(one))["status"] == "QUEUED"
    dry = await admin("dead-letters", "redrive", "--all", "--dry-run")
    assert "Would queue 2" in dry.stdout
    assert (await person.get(other))["status"] == "FAILED"
    done = await admin("dead-letters", "redrive", "--all", "-o", "Acme")
    assert "Queued 1" in done.stdout
    assert (await person.get(other))["status"] == "QUEUED"
    assert (await stranger.get(foreign))["status"] == "FAILED"
    again = await admin("dead-letters", "redrive", one, code=1)
    assert one in again.stderr
    assert "QUEUED" in again.stderr


async def test_commands_are_in_the_audit_trail(
    admin: Admin, people: People, database: Database
) -> None:
    """What is done from the shell is on record in the organisation that it was done to."""
    person = await people.make(role=Role.ADMIN)
    await admin("users", "create", "ada", "-o", "Acme")
    await admin("keys", "create", "--user", "ada")
    events = (await person.client.get("/api/v1/audit/")).json()["items"]
    assert [event["action"] for event in events] == ["key.created", "user.created"]
    assert all(event["actor_name"].endswith("(app.admin)") for event in events)
    assert all(event["actor_id"] is None for event in events)


async def test_names_do_not_move_the_cursor(
    admin: Admin, people: People, database: Database
) -> None:
    """A name with control characters, from before they were refused, is printed without them."""
    person = await people.make()
    async with database.transaction() as session:
        await session.execute(
            update(User).where(User.id == person.id).values(username="ada\x1b[2J")
        )
    listed = (await admin("users", "list")).stdout
    assert "\x1b" not in listed
    assert "ada?[2J" in listed


async def test_commands_record_nothing_when_refused(
    admin: Admin, people: People, database: Database
) -> None:
    """A command that is refused leaves no event."""
    await people.make(organisation="Solo", role=Role.ADMIN)
    await admin("users", "create", "user1", "-o", "Solo", code=1)
    async with database.transaction() as session:
        found = select(AuditEvent.target_id).where(
            AuditEvent.action == Action.USER_CREATED, AuditEvent.data["username"].astext == "user1"
        )
        assert (await session.scalars(found)).all() == []


async def test_organisation_is_changed(admin: Admin, database: Database) -> None:
    """Retention and quotas are set and taken back; what was not named stays."""
    await admin(
        *("organisations", "set", "Default", "--retention-days", "30", "--max-active-jobs", "2")
    )
    await admin("organisations", "set", "Default", "--max-active-jobs", "-1")
    async with database.transaction() as session:
        found = (await session.execute(select(Organisation))).scalar_one()
    assert (found.retention_days, found.max_active_jobs) == (30, None)
    for arguments, reason in (
        (("Default",), "Nothing to change"),
        (("Default", "--retention-days", "0"), "one day at least"),
        (("Nobody", "--retention-days", "1"), "no organisation Nobody"),
    ):
        refused = await admin("organisations", "set", *arguments, code=1)
        assert reason in refused.stderr


async def test_quotas_of_a_user(admin: Admin, people: People, database: Database) -> None:
    """They are set and taken back, count with the next request, are shown, and are on record."""
    person, boss = await people.make(), await people.make(role=Role.ADMIN)
    await admin(
        *("users", "set", person.username.upper(), "--max-queued-jobs", "1"),
        *("--max-active-jobs", "2", "--max-gpu-seconds", "0"),
    )
    usage = (await person.client.get("/api/v1/usage")).json()["user"]
    assert [usage[name]["limit"] for name in ("active_jobs", "queued_jobs")] == [2, 1]
    await person.job()
    assert_problem(await person.submit(), 429, "QUOTA_EXCEEDED")
    shown = _table((await admin("users", "show", person.username)).stdout)
    assert shown["queued_jobs"] == ["1", "1", "set"]
    assert shown["gpu_seconds"] == ["0", "none", "set"]
    assert shown["storage_bytes"][1:] == ["none", "MAX_STORAGE_BYTES_PER_USER"]
    listed = (await admin("users", "list")).stdout
    assert "active_jobs=2 queued_jobs=1 gpu_seconds=none" in listed
    await admin("users", "set", person.username, "--max-queued-jobs", "-1")
    await person.job()
    events = (await boss.client.get("/api/v1/audit/", params={"target_id": person.id})).json()
    back, given = events["items"]
    assert {back["action"], given["action"]} == {Action.USER_CHANGED}
    assert given["data"] == {
        "username": person.username,
        "max_active_jobs": 2,
        "max_queued_jobs": 1,
        "max_gpu_seconds": 0,
    }
    assert back["data"] == {"username": person.username, "max_queued_jobs": None}


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        ((), "--max-active-jobs, --max-queued-jobs", 1),
        (("--max-active-jobs", "0"), "`users deactivate`", 1),
        (("--max-active-jobs", "1001"), "1000", 2),
        (("--max-queued-jobs", "-2"), "-1", 2),
        (("--max-storage-bytes", str(2**63)), str(2**63 - 1), 2),
        (("--max-storage-bytes", "10GB"), "valid integer", 2),
    ],
)
async def test_quotas_that_are_none(
    admin: Admin, people: People, arguments: tuple[str, ...], said: str, code: int
) -> None:
    """What is no quota is refused with what would be one, and nothing is changed."""
    person = await people.make()
    assert said in (await admin("users", "set", person.username, *arguments, code=code)).stderr
    shown = _table((await admin("users", "show", person.username)).stdout)
    assert [row[-1] for row in shown.values()].count("set") == 0


async def test_quotas_of_nobody(admin: Admin) -> None:
    """Whoever does not exist has none."""
    for command in (("set", "nobody", "--max-queued-jobs", "1"), ("show", "nobody")):
        assert "no user nobody" in (await admin("users", *command, code=1)).stderr
    done = await admin("organisations", "show", "Nobody", code=1)
    assert "no organisation Nobody" in done.stderr


def _table(out: str) -> dict[str, list[str]]:
    """The rows of the table of quotas, by its first column."""
    rows = [line.split() for line in out.partition("quota ")[2].splitlines()[1:]]
    return {row[0]: row[1:] for row in rows}


async def test_organisation_is_shown(admin: Admin, people: People) -> None:
    """With what all of its members use together; also one that nobody is in yet."""
    for person in (await people.make(), await people.make()):
        await person.job()
    await admin("organisations", "set", "Acme", "--max-queued-jobs", "9")
    shown = (await admin("organisations", "show", "Acme")).stdout
    assert "as each model says" in shown
    assert _table(shown)["queued_jobs"] == ["2", "9", "set"]
    assert "queued_jobs=9" in (await admin("organisations", "list")).stdout
    await admin("organisations", "create", "Empty")
    empty = _table((await admin("organisations", "show", "Empty")).stdout)
    assert empty["active_jobs"] == ["0", "none", "MAX_ACTIVE_JOBS_PER_ORGANISATION"]


async def _as_owner(database: Database, statement: str) -> None:
    """Change audit events, as only their owner can."""
    async with database.transaction() as session:
        for step in (
            "ALTER TABLE audit_events DISABLE TRIGGER append_only",
            statement,
            "ALTER TABLE audit_events ENABLE TRIGGER append_only",
        ):
            await session.execute(text(step))


AGE = "UPDATE audit_events SET created_at = created_at - interval '100 days'"


async def test_audit_trail_is_purged(
    admin: Admin, people: People, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is old goes, in batches; each trail says so; the table is append-only as before."""
    monkeypatch.setattr(retention, "_BATCH", 2)
    await _as_owner(database, "DELETE FROM audit_events")  # other tests'
    ada = await people.make(role=Role.ADMIN)
    eve = await people.make(role=Role.ADMIN, organisation="Globex")
    for _ in range(3):
        await ada.another_key()
    await eve.another_key()
    await ada.client.post(f"{AUTH}/login", json={"username": "nobody", "password": "x"})
    await _as_owner(database, AGE)
    await ada.another_key()
    dry = await admin("audit", "purge", "--older-than-days", "90", "--dry-run")
    assert "Would delete 5 events" in dry.stdout
    assert "Acme" in dry.stdout
    assert "(nobody's)" in dry.stdout
    assert "Deleted 5 events" in (await admin("audit", "purge", "--older-than-days", "90")).stdout
    items = (await ada.client.get("/api/v1/audit/")).json()["items"]
    assert [(event["action"], event["data"].get("events")) for event in items] == [
        (Action.TRAIL_PURGED, 1),
        (Action.TRAIL_PURGED, 2),
        (Action.KEY_CREATED, None),
    ]
    assert items[0]["actor_name"].endswith("(app.admin)")
    [of_eve] = (await eve.client.get("/api/v1/audit/")).json()["items"]
    assert of_eve["action"] == Action.TRAIL_PURGED
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.transaction() as session:
            await session.execute(text("DELETE FROM audit_events"))
    assert "Deleted 0" in (await admin("audit", "purge", "--older-than-days", "90")).stdout
    for arguments in ((), ("--older-than-days", "0"), ("--older-than-days", "soon")):
        refused = await admin("audit", "purge", *arguments, code=2)
        assert "--older-than-days" in refused.stderr


async def test_only_the_owner_purges(
    admin: Admin, people: People, database: Database, settings: Settings
) -> None:
    """Neither the role of requests nor a user of Postgres with every right on the table may."""
    await _as_owner(database, "DELETE FROM audit_events")  # other tests'
    await (await people.make(role=Role.ADMIN)).another_key()
    await _as_owner(database, AGE)
    async with database.transaction() as session:
        for statement in (
            f"CREATE ROLE purger LOGIN PASSWORD '{PASSWORD}'",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO purger",
            "ALTER ROLE purger BYPASSRLS",
        ):
            await session.execute(text(statement))
    url = make_url(settings.database_url).set(username="purger", password=PASSWORD)
    try:
        done = await admin(
            *("audit", "purge", "--older-than-days", "90"),
            code=1,
            DATABASE_URL=url.render_as_string(hide_password=False),
        )
        assert "owner of the table" in done.stderr
    finally:
        async with database.transaction() as session:
            await session.execute(text("DROP OWNED BY purger"))
            await session.execute(text("DROP ROLE purger"))
    assert (
        "Would delete 1"
        in (await admin("audit", "purge", "--older-than-days", "90", "--dry-run")).stdout
    )


async def test_storage_commands(admin: Admin, store: ObjectStore, people: People) -> None:
    """What is due is counted; young objects are no orphans yet; storage that is away says so."""
    await (await people.make()).upload()
    assert "jobs to expire" in (await admin("storage", "due")).stdout
    await store.write("jobs/a/b/left.glb", b"left", "application/octet-stream")
    assert "0 objects" in (await admin("storage", "orphans")).stdout
    assert "Deleted 0 objects" in (await admin("storage", "orphans", "--delete")).stdout
    away = f"http://127.0.0.1:{DEAD_PORT}"
    refused = await admin("storage", "orphans", code=1, MINIO_ENDPOINT=away)
    assert "Storage cannot be asked" in refused.stderr
