"""The outbox: filled in the causing transaction, emptied by whoever holds the lease."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.session import Database
from app.jobs.repository import record_event
from app.jobs.service import cancel_job
from app.notifications.deliverer import Deliverer
from app.notifications.events import Event
from app.notifications.outbox import LEASE_SECONDS, Outcome, claim_due, record, wait_before_next
from app.notifications.tables import MAX_TRIES
from tests.conftest import ROOT, environment
from tests.support.apps import DEAD_PORT
from tests.support.outbox import Outbox
from tests.support.people import JOBS, People, Person
from tests.support.receiver import Received, Receiver
from tests.support.runs import Stage

NOTHING_BUSY: dict[str, int] = {}


async def queued(outbox: Outbox) -> list[str]:
    """The types of all deliveries, oldest first."""
    return [delivery["type"] for delivery in await outbox.deliveries()]


async def test_nobody_to_tell(people: People, outbox: Outbox, stage: Stage) -> None:
    """Nothing is queued for a user without webhooks, whatever others have."""
    ada, bob = await people.make(), await people.make()
    await outbox.webhook(bob, "https://hooks.example.com/")
    await stage.succeeded(ada)
    assert await queued(outbox) == []


async def test_only_what_was_ordered(ada: Person, outbox: Outbox, stage: Stage) -> None:
    """A webhook is told of its events only, and a disabled one of none."""
    await outbox.webhook(ada, "https://a.example.com/", events=["job.started"])
    other = await outbox.webhook(ada, "https://b.example.com/", events=["job.completed"])
    await ada.client.patch(f"/api/v1/webhooks/{other['id']}", json={"enabled": False})
    await outbox.webhook(ada, "https://c.example.com:8443/x")
    await stage.succeeded(ada)
    told = Counter((d["destination"], d["type"]) for d in await outbox.deliveries())
    assert told == {
        ("a.example.com", "job.started"): 1,
        ("c.example.com:8443", "job.created"): 1,
        ("c.example.com:8443", "job.started"): 1,
        ("c.example.com:8443", "job.completed"): 1,
    }


async def test_one_event_has_one_id(ada: Person, outbox: Outbox) -> None:
    """Every destination of an event is sent the same id."""
    for host in ("a", "b"):
        await outbox.webhook(ada, f"https://{host}.example.com/", events=["job.created"])
    await ada.job(callback_url="https://c.example.com/")
    found = await outbox.deliveries()
    assert len(found) == 3
    assert len({delivery["event_id"] for delivery in found}) == 1
    assert len({delivery["id"] for delivery in found}) == 3


async def test_undone_with_its_cause(ada: Person, outbox: Outbox, database: Database) -> None:
    """A transaction that is rolled back leaves nothing to deliver; nothing is sent before it."""
    await outbox.webhook(ada, "https://hooks.example.com/", events=["job.cancelled"])
    job = await ada.job()
    principal = await ada.principal(database)
    async with AsyncSession(database.engine) as session:
        await cancel_job(session, principal, UUID(job["id"]))
        seen = await session.execute(text("SELECT count(*) FROM deliveries"))
        assert seen.scalar_one() == 1
        assert await queued(outbox) == [], "nobody else sees it before the commit"
        await session.rollback()
    assert await queued(outbox) == []
    await ada.client.post(f"{JOBS}/{job['id']}/cancel")
    assert await queued(outbox) == ["job.cancelled"]


async def test_every_event_of_the_list_has_its_place(
    ada: Person, outbox: Outbox, database: Database
) -> None:
    """The trigger knows the events by the names under which jobs record them, and no others."""
    await outbox.webhook(ada, "https://hooks.example.com/")
    job_id = UUID((await ada.job())["id"])
    async with database.transaction() as session:
        for kind in ("started", "succeeded", "failed", "cancelled", "dispatched", "expired"):
            await record_event(session, job_id, f"job.{kind}")
        await record_event(session, job_id, "artifact.added")
        await record_event(session, job_id, "job.retried")
    assert await queued(outbox) == [str(event) for event in Event]


async def test_two_at_a_time_take_each_once(
    ada: Person, outbox: Outbox, database: Database
) -> None:
    """What one has claimed, another one does not get, however many there are."""
    await outbox.webhook(ada, "https://hooks.example.com/", events=["job.created"])
    image = await ada.upload()
    for _ in range(12):
        await ada.job(input_params={"image_path": image})

    async def take() -> list[UUID]:
        taken: list[UUID] = []
        for _ in range(8):
            async with database.transaction() as session:
                due = await claim_due(session, limit=3, each=3, busy=NOTHING_BUSY)
                taken += [delivery.id for delivery in due]
        return taken

    taken = [one for taker in await asyncio.gather(take(), take(), take()) for one in taker]
    assert len(taken) == len(set(taken)) == 12


async def test_turns(ada: Person, outbox: Outbox, database: Database) -> None:
    """The oldest of each destination come first; who is busy with a host leaves it to others."""
    image = await ada.upload()
    for host in ("a", "a", "a", "a", "b", "c"):
        params = {"image_path": image}
        await ada.job(callback_url=f"https://{host}.example.com/", input_params=params)
    async with database.transaction() as session:
        due = await claim_due(session, limit=4, each=2, busy={"c.example.com": 2})
    assert sorted(d.destination[0] for d in due) == ["a", "a", "b"]
    async with database.transaction() as session:
        due = await claim_due(session, limit=2, each=5, busy=NOTHING_BUSY)
    assert sorted(d.destination[0] for d in due) == ["a", "c"]


async def test_who_lost_the_lease_writes_nothing(
    ada: Person, outbox: Outbox, database: Database
) -> None:
    """One that wakes up after its lease finds that the outcome is somebody else's to write."""
    await outbox.webhook(ada, "https://hooks.example.com/", events=["job.created"])
    await ada.job()

    async def claim() -> Any:
        async with database.transaction() as session:
            return await claim_due(session, limit=1, each=1, busy=NOTHING_BUSY)

    async def say(delivery: Any, outcome: Outcome) -> bool:
        async with database.transaction() as session:
            return await record(session, delivery, outcome, disable_after_days=5)

    (stale,) = await claim()
    assert await claim() == []
    (row,) = await outbox.deliveries()
    assert (row["due_at"] - row["tried_at"]).total_seconds() == LEASE_SECONDS
    await outbox.make_due()
    (fresh,) = await claim()
    assert (fresh.id, fresh.event_id, fresh.attempts) == (stale.id, stale.event_id, 2)
    assert not await say(stale, Outcome("too late", final=True))
    assert await say(fresh, Outcome(answer_status=204))
    assert not await say(fresh, Outcome("again"))
    assert [row["status"] for row in await outbox.deliveries()] == ["DELIVERED"]


def test_schedule() -> None:
    """After the n-th try it waits as long as the specification says, and a tenth more at most."""
    for tries_left in range(MAX_TRIES - 1, 0, -1):
        expected = [5, 300, 1800, 7200, 18000, 36000, 36000][MAX_TRIES - 1 - tries_left]
        waits = [wait_before_next(tries_left) or 0 for _ in range(100)]
        assert expected <= min(waits) < max(waits) <= expected * 1.1
    assert wait_before_next(0) is None
    assert wait_before_next(-1) is None


async def test_old_deliveries_are_forgotten(
    ada: Person, outbox: Outbox, deliverer: Deliverer
) -> None:
    """After 30 days a delivery is deleted, whatever became of it."""
    await outbox.webhook(ada, "https://hooks.example.com/", events=["job.created"])
    await ada.job()
    await ada.job()
    assert await deliverer.delete_old() == 0
    await outbox.execute(
        "UPDATE deliveries SET occurred_at = now() - interval '31 days' "
        "WHERE id = (SELECT min(id::text)::uuid FROM deliveries)"
    )
    assert await deliverer.delete_old() == 1
    assert len(await outbox.deliveries()) == 1


async def test_webhook_deleted_while_its_event_is_written(
    ada: Person, outbox: Outbox, database: Database
) -> None:
    """A job is written although the webhook that it is to be told to goes at the same moment."""
    webhook = await outbox.webhook(ada, "https://hooks.example.com/")
    job_id = UUID((await ada.job())["id"])
    async with database.transaction() as deleting, database.transaction() as writing:
        await deleting.execute(
            text("DELETE FROM webhooks WHERE id = :id"), {"id": UUID(webhook["id"])}
        )
        await record_event(writing, job_id, "job.failed")
        await deleting.commit()
    assert await queued(outbox) == ["job.created", "job.failed"]


async def test_waking(ada: Person, outbox: Outbox, stage: Stage, receiver: Receiver) -> None:
    """Every event wakes the deliverer, and so does a test: it need not wait for its next look."""
    webhook = await outbox.webhook(ada, receiver.url())
    wake = outbox.deliverer.wake

    async def woken() -> None:
        await asyncio.wait_for(wake.wait(), 30)
        await outbox.deliver()
        await asyncio.sleep(0.3)  # signals of before
        wake.clear()

    await asyncio.sleep(0.3)
    wake.clear()
    job = await ada.job()
    await woken()
    spec = await stage.start(job)
    await woken()
    await stage.worker.succeed(spec)
    await woken()
    await ada.client.post(f"/api/v1/webhooks/{webhook['id']}/test")
    await woken()
    assert {r.message["type"] for r in receiver.received} == {
        "job.created",
        "job.started",
        "job.completed",
        "webhook.test",
    }


def _start_dispatcher(settings: Settings) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "app.queueing"]
    return subprocess.Popen(command, cwd=ROOT, env=environment(settings))


async def test_dispatcher_killed_in_mid_delivery(
    ada: Person, outbox: Outbox, lab: Settings, receiver: Receiver, redis: Any
) -> None:
    """It is delivered again, with the same id, by whoever comes next; nothing is lost."""
    hold = asyncio.Event()

    async def never(_: Received, __: asyncio.StreamWriter) -> None:
        await hold.wait()

    receiver.answer = never
    await outbox.webhook(ada, receiver.url(), events=["job.created"])
    await ada.job()
    process = _start_dispatcher(lab)
    try:
        while not receiver.received:
            assert process.poll() is None
            await asyncio.sleep(0.05)
    finally:
        process.kill()
    assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
    hold.set()
    receiver.answer = None
    assert await outbox.deliver() == 0, "the lease is still good"
    await outbox.make_due()
    assert await outbox.deliver() == 1
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert [d["status"] for d in await outbox.deliveries()] == ["DELIVERED"]


async def test_dispatcher_delivers_by_itself(
    ada: Person, outbox: Outbox, lab: Settings, receiver: Receiver
) -> None:
    """The dispatcher process does all of it, without Redis, and ends in order when told to."""
    await outbox.webhook(ada, receiver.url(), events=["job.created"])
    process = _start_dispatcher(
        lab.model_copy(update={"redis_url": f"redis://127.0.0.1:{DEAD_PORT}"})
    )
    try:
        job = await ada.job()
        while [d["status"] for d in await outbox.deliveries()] != ["DELIVERED"]:
            assert process.poll() is None
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        process.kill()
    assert receiver.received[0].message["payload"]["id"] == job["id"]


async def test_claim_looks_at_few_rows(ada: Person, outbox: Outbox, database: Database) -> None:
    """One host with very many waiting, and very many delivered, cost a claim next to nothing."""
    await outbox.webhook(ada, "https://hooks.example.com/", events=["job.created"])
    await ada.job()
    await outbox.execute(
        "INSERT INTO deliveries (id, event_id, channel, type, organisation_id, user_id, url, "
        "destination, data, status, finished_at, due_at) "
        "SELECT uuidv7(), uuidv7(), 'callback', 'job.created', organisation_id, user_id, 'x', "
        "CASE WHEN i % 50 = 0 THEN 'host-' || i ELSE 'busy.example.com' END, '{}', "
        "CASE WHEN i % 2 = 0 THEN 'PENDING' ELSE 'DELIVERED' END, "
        "CASE WHEN i % 2 = 1 THEN now() END, now() + (i % 3 - 1) * interval '1 hour' "
        "FROM deliveries, generate_series(1, 10000) i"
    )
    async with database.transaction() as session:
        await session.execute(text("ANALYZE deliveries"))
    async with database.transaction() as session:
        before = await _rows_read(session)
        assert len(await claim_due(session, limit=32, each=4, busy={})) == 32
        after = await _rows_read(session)
    assert after["seq_scan"] == before["seq_scan"]
    assert after["read"] - before["read"] < 1500, "a few for each of 200 destinations"


async def _rows_read(session: Any) -> dict[str, int]:
    """Of deliveries, by this transaction, so far."""
    found = await session.execute(
        text(
            "SELECT pg_stat_get_xact_numscans('deliveries'::regclass) AS seq_scan, "
            "sum(pg_stat_get_xact_tuples_fetched(indexrelid) + "
            "pg_stat_get_xact_tuples_returned(indexrelid)) AS read "
            "FROM pg_index WHERE indrelid = 'deliveries'::regclass"
        )
    )
    return {name: int(value or 0) for name, value in found.one()._mapping.items()}
