"""Webhooks from the event to the receiver: signed, tried again, given up, delivered anew."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from app.audit.service import Action
from app.jobs.schemas import JobOut
from app.notifications.deliverer import AT_ONCE_EACH
from app.notifications.outbox import LONGEST_ASKED_SECONDS, WAITS_SECONDS
from app.notifications.tables import MAX_TRIES
from tests.support.outbox import WEBHOOKS, Outbox
from tests.support.people import JOBS, Person
from tests.support.problems import assert_problem
from tests.support.receiver import Received, Receiver, plain_answer, receiving
from tests.support.runs import Stage


async def test_a_job_is_told_of_from_its_creation_to_its_end(
    ada: Person, outbox: Outbox, receiver: Receiver, stage: Stage
) -> None:
    """Each event comes once, signed, with the job as it was then, and without URLs of files."""
    secret = (await outbox.webhook(ada, receiver.url()))["secret"]
    job = await stage.succeeded(ada)
    assert await outbox.deliver() == 3
    messages = {m.message["type"]: m for m in receiver.received}
    assert set(messages) == {"job.created", "job.started", "job.completed"}
    for received in receiver.received:
        message = Verifier(secret).verify(received.body, received.headers)
        assert received.headers["webhook-id"] == message["event_id"]
        assert received.headers["content-type"] == "application/json"
        assert message.keys() == {"type", "event_id", "timestamp", "payload", "metadata"}
        assert message["payload"]["previews"] == []
        assert message["timestamp"].endswith("Z")
        assert JobOut.model_validate(message["payload"]).id == JobOut.model_validate(job).id
    statuses = {name: received.message["payload"]["status"] for name, received in messages.items()}
    assert statuses == {
        "job.created": "QUEUED",
        "job.started": "RUNNING",
        "job.completed": "SUCCEEDED",
    }
    ended = messages["job.completed"].message
    unlike = {"previews", "queue_position", "eta_seconds"}
    assert {k: v for k, v in ended["payload"].items() if k not in unlike} == {
        k: v for k, v in job.items() if k not in unlike
    }
    assert ended["metadata"] == {"retry_count": 0, "max_retries": 2, "idempotency_key": None}
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 3


async def test_failed_and_cancelled(
    ada: Person, outbox: Outbox, receiver: Receiver, stage: Stage
) -> None:
    """A failure says how often it was tried and why, and a cancellation is told of, too."""
    await outbox.webhook(ada, receiver.url(), events=["job.failed", "job.cancelled"])
    job, spec = await stage.running(ada, headers={"Idempotency-Key": "my-key"})
    await stage.worker.fail(spec, permanent=True)
    other = await ada.job()
    await ada.client.post(f"{JOBS}/{other['id']}/cancel")
    await outbox.deliver()
    told = {received.message["type"]: received.message for received in receiver.received}
    assert told.keys() == {"job.failed", "job.cancelled"}
    assert told["job.failed"]["payload"]["id"] == job["id"]
    assert told["job.failed"]["payload"]["error"]["permanent"] is True
    assert told["job.failed"]["metadata"] == {
        "retry_count": 1,
        "max_retries": 2,
        "idempotency_key": "my-key",
    }
    assert told["job.cancelled"]["payload"]["status"] == "CANCELLED"


async def test_a_receiver_that_fails_is_asked_again_by_the_schedule(
    ada: Person, outbox: Outbox, receiver: Receiver
) -> None:
    """Each wait is as long as it should be; every try has the same id and body; then it ends."""
    webhook = await outbox.webhook(ada, receiver.url(), events=["job.created"])
    receiver.answers = [plain_answer(500, b"not today")] * MAX_TRIES
    await ada.job()
    for tried, wait in enumerate([*WAITS_SECONDS, None], start=1):
        assert await outbox.deliver() == 1
        (delivery,) = await outbox.deliveries()
        assert (delivery["attempts"], delivery["answer_status"]) == (tried, 500)
        assert delivery["answer_start"] == "not today"
        assert "500" in delivery["error"]
        if wait is None:
            assert delivery["status"] == "FAILED"
        else:
            waits = (delivery["due_at"] - delivery["tried_at"]).total_seconds()
            assert wait <= waits <= wait * 1.1 + 60
        await outbox.make_due()
    assert await outbox.deliver() == 0
    assert len({(r.headers["webhook-id"], r.body) for r in receiver.received}) == 1
    (listed,) = (await ada.client.get(f"{WEBHOOKS}/{webhook['id']}/deliveries")).json()["items"]
    assert (listed["status"], listed["attempts"], listed["answer_start"]) == (
        "FAILED",
        MAX_TRIES,
        "not today",
    )


@pytest.mark.parametrize(
    ("status", "retry_after", "wait"),
    [
        (429, "3600", 3600),
        (503, "3600", 3600),
        (503, "date", 3600),
        (503, "2", WAITS_SECONDS[0]),  # sooner than the schedule says
        (503, str(7 * 86400), LONGEST_ASKED_SECONDS),
        (503, "9" * 1000, LONGEST_ASKED_SECONDS),
        (503, "Sun, 06 Nov 1994 08:49:37 GMT", WAITS_SECONDS[0]),
        (503, "-3600", WAITS_SECONDS[0]),
        (503, "when I have time", WAITS_SECONDS[0]),
        (500, "3600", WAITS_SECONDS[0]),  # says nothing of when
    ],
)
async def test_receiver_says_when(
    status: int, retry_after: str, wait: float, ada: Person, outbox: Outbox, receiver: Receiver
) -> None:
    """One that is busy is not asked sooner than it says, nor much later; nonsense is ignored."""
    if retry_after == "date":
        retry_after = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    await outbox.webhook(ada, receiver.url(), events=["job.created"])
    receiver.answers = [plain_answer(status, retry_after=retry_after)]
    await ada.job()
    await outbox.deliver()
    (delivery,) = await outbox.deliveries()
    waits = (delivery["due_at"] - delivery["tried_at"]).total_seconds()
    assert wait - 2 <= waits <= wait * 1.1 + 60  # dates have whole seconds
    await outbox.make_due()
    await outbox.deliver()
    assert (await outbox.deliveries())[0]["status"] == "DELIVERED"


@pytest.mark.parametrize("change", [{}, {"enabled": True}])
async def test_redelivery(
    change: dict[str, Any], ada: Person, outbox: Outbox, receiver: Receiver
) -> None:
    """What was given up, or delivered, is delivered anew, to where the webhook leads now."""
    webhook = await outbox.webhook(ada, "http://127.0.0.1:1/", events=["job.created"])
    await ada.job()
    await outbox.deliver()
    (delivery,) = await outbox.deliveries()
    assert delivery["error"].startswith("No answer")
    await outbox.execute("UPDATE webhooks SET url = :url", url=receiver.url())
    for _ in range(2):
        path = f"{WEBHOOKS}/deliveries/{delivery['id']}/redeliver"
        answer = await ada.client.post(path)
        assert answer.status_code == 202, answer.text
        assert answer.json()["status"] == "PENDING"
        assert await outbox.deliver() == 1
    assert [r.headers["webhook-id"] for r in receiver.received] == [str(delivery["event_id"])] * 2
    (listed,) = (await ada.client.get(f"{WEBHOOKS}/{webhook['id']}/deliveries")).json()["items"]
    assert (listed["status"], listed["attempts"], listed["error"]) == ("DELIVERED", 3, None)
    await ada.client.delete(f"{WEBHOOKS}/{webhook['id']}")
    assert_problem(await ada.client.post(path), 404, "WEBHOOK_NOT_FOUND")


async def test_callback_of_one_job(
    ada: Person, outbox: Outbox, receiver: Receiver, stage: Stage
) -> None:
    """A job with a callback tells it everything, signed with the secret of the user's callbacks."""
    first = (await ada.client.post("/api/v1/notifications/callback-secret")).json()["secret"]
    job = await ada.job(callback_url="https://hooks.example.com/one")
    await ada.job()
    (delivery,) = await outbox.deliveries()
    assert (delivery["channel"], delivery["url"]) == ("callback", "https://hooks.example.com/one")
    await outbox.execute("UPDATE deliveries SET url = :url", url=receiver.url("/one"))
    await outbox.deliver()
    (received,) = receiver.received
    assert received.line == "POST /one HTTP/1.1"
    assert Verifier(first).verify(received.body, received.headers)["payload"]["id"] == job["id"]
    listed = await ada.client.get(f"{WEBHOOKS}/deliveries", params={"job_id": job["id"]})
    assert [item["status"] for item in listed.json()["items"]] == ["DELIVERED"]


async def test_rotated_secrets_overlap(ada: Person, outbox: Outbox, receiver: Receiver) -> None:
    """For a day both secrets sign; after it only the new one does."""
    webhook = await outbox.webhook(ada, receiver.url())
    rotated = (await ada.client.post(f"{WEBHOOKS}/{webhook['id']}/rotate-secret")).json()
    assert rotated["secret"] != webhook["secret"]
    await ada.client.post(f"{WEBHOOKS}/{webhook['id']}/test")
    await outbox.deliver()
    await outbox.execute(
        "UPDATE webhooks SET secret_rotated_at = secret_rotated_at - interval '24 hours'"
    )
    await ada.client.post(f"{WEBHOOKS}/{webhook['id']}/test")
    await outbox.deliver()
    during, after = receiver.received
    for secret in (webhook["secret"], rotated["secret"]):
        assert Verifier(secret).verify(during.body, during.headers)
    assert Verifier(rotated["secret"]).verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(webhook["secret"]).verify(after.body, after.headers)


async def test_gone_disables_at_once(ada: Person, outbox: Outbox, receiver: Receiver) -> None:
    """After a 410 nothing more is sent, what waited is given up, and enabling starts anew."""
    webhook = await outbox.webhook(ada, receiver.url(), events=["job.created"])
    await ada.job()
    await ada.job()
    receiver.answers = [plain_answer(410), plain_answer(410)]
    await outbox.deliver()
    await ada.job()
    assert [d["status"] for d in await outbox.deliveries()] == ["FAILED", "FAILED"]
    [event] = await outbox.execute(
        "SELECT * FROM audit_events WHERE action = :action AND target_id = :id",
        action=Action.WEBHOOK_DISABLED,
        id=UUID(webhook["id"]),
    )
    assert (event["actor_name"], event["actor_id"]) == ("deliverer", None)
    assert event["data"]["host"] == f"127.0.0.1:{receiver.port}"
    assert "410" in event["data"]["reason"]
    shown = (await ada.client.get(f"{WEBHOOKS}/{webhook['id']}")).json()
    assert shown["enabled"] is False
    assert "410" in shown["disabled_reason"]
    await ada.client.patch(f"{WEBHOOKS}/{webhook['id']}", json={"enabled": True})
    await ada.job()
    assert await outbox.deliver() == 1
    assert (await outbox.deliveries())[-1]["status"] == "DELIVERED"


async def test_days_of_failures_disable(ada: Person, outbox: Outbox, receiver: Receiver) -> None:
    """Long is not enough, nor is often: both together disable; a success in between forgives."""
    webhook = await outbox.webhook(ada, receiver.url(), events=["job.created"])

    async def fail_once() -> dict[str, Any]:
        await ada.job()
        receiver.answers = [plain_answer(503)]
        await outbox.deliver()
        await outbox.execute(
            "UPDATE deliveries SET status = 'FAILED', finished_at = now() WHERE status = 'PENDING'"
        )
        return dict((await ada.client.get(f"{WEBHOOKS}/{webhook['id']}")).json())

    for _ in range(MAX_TRIES):
        assert (await fail_once())["enabled"] is True
    await ada.job()
    await outbox.deliver()
    shown = (await ada.client.get(f"{WEBHOOKS}/{webhook['id']}")).json()
    assert shown["failing_since"] is None
    await fail_once()
    await outbox.execute("UPDATE webhooks SET failing_since = now() - interval '6 days'")
    for _ in range(MAX_TRIES - 2):
        assert (await fail_once())["enabled"] is True
    assert (await fail_once())["enabled"] is False


async def test_a_test_is_sent_once_even_if_disabled(
    ada: Person, outbox: Outbox, receiver: Receiver
) -> None:
    """A test says what became of it, is not tried again, and disables nothing."""
    webhook = await outbox.webhook(ada, receiver.url())
    await ada.client.patch(f"{WEBHOOKS}/{webhook['id']}", json={"enabled": False})
    receiver.answers = [plain_answer(500)]
    for expected in ("FAILED", "DELIVERED"):
        answer = await ada.client.post(f"{WEBHOOKS}/{webhook['id']}/test")
        assert answer.status_code == 202
        assert await outbox.deliver() == 1
        assert (await outbox.deliveries())[-1]["status"] == expected
    assert receiver.received[0].message["type"] == "webhook.test"


async def test_deleted_while_it_waits(ada: Person, outbox: Outbox, receiver: Receiver) -> None:
    """Nothing is sent to a webhook that was deleted, not even what was queued before."""
    webhook = await outbox.webhook(ada, receiver.url())
    await ada.job()
    await ada.client.post(f"{WEBHOOKS}/{webhook['id']}/test")
    assert (await ada.client.delete(f"{WEBHOOKS}/{webhook['id']}")).status_code == 204
    await outbox.deliver()
    assert receiver.received == []
    assert [d["status"] for d in await outbox.deliveries()] == ["FAILED", "FAILED"]


async def test_changed_url_takes_what_waits(ada: Person, outbox: Outbox) -> None:
    """A new URL is where everything goes that has not been delivered yet."""
    webhook = await outbox.webhook(ada, "https://old.example.com/", events=["job.created"])
    await ada.job()
    url = "https://new.example.com/hook?x=1"
    answer = await ada.client.patch(f"{WEBHOOKS}/{webhook['id']}", json={"url": url})
    assert answer.json()["url"] == url
    (delivery,) = await outbox.deliveries()
    assert (delivery["url"], delivery["destination"]) == (url, "new.example.com")


async def test_slow_destination_holds_up_nobody(
    ada: Person, outbox: Outbox, receiver: Receiver
) -> None:
    """While one host keeps all its places busy, another one is told at once."""
    async with receiving() as slow:
        release = asyncio.Event()

        async def hold(_: Received, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.write(plain_answer())

        slow.answer = hold
        await outbox.webhook(ada, slow.url(), events=["job.created"])
        params = {"image_path": await ada.upload()}
        for _ in range(40):
            await ada.job(input_params=params)
        await outbox.webhook(ada, receiver.url(), events=["job.created"])
        await ada.job()
        while len(receiver.received) < 1 or len(slow.received) < AT_ONCE_EACH:
            await outbox.deliverer.run_once()
            await asyncio.sleep(0.01)
        assert await outbox.deliverer.run_once() == 0
        assert slow.connections == AT_ONCE_EACH
        release.set()
        await outbox.deliverer.settle()
        await outbox.deliver()
        assert len(slow.received) == 41


async def test_timestamp_is_of_the_try(ada: Person, outbox: Outbox, receiver: Receiver) -> None:
    """A message that is days late is signed now, or no receiver would take it."""
    webhook = await outbox.webhook(ada, receiver.url(), events=["job.created"])
    await ada.job()
    await outbox.execute("UPDATE deliveries SET occurred_at = now() - interval '2 days'")
    await outbox.deliver()
    (received,) = receiver.received
    message = Verifier(webhook["secret"]).verify(received.body, received.headers)
    assert (datetime.now(UTC) - datetime.fromisoformat(message["timestamp"])).days == 2
