"""Fencing: only the worker that holds an attempt may speak for it, and only while it does."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.queueing.rescuer import rescue_lost_attempts
from contract.attempts import ATTEMPT_TOKEN_HEADER, JobSpec
from tests.conftest import WORKER_KEY
from tests.support.jobs import dispatch, end_lease, make_due
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import BASE, FakeWorker

DIGEST = "0" * 64
CALLS: list[tuple[str, dict[str, Any]]] = [
    (
        "heartbeat",
        {
            "progress": {"percent": 99, "stage": "zombie"},
            "events": [{"sequence": 1, "type": "zone.enter", "data": {}}],
        },
    ),
    (
        "upload-tickets",
        {
            "kind": "model_3d",
            "name": "model.glb",
            "media_type": "model/gltf-binary",
            "size_bytes": 12,
            "sha256": DIGEST,
        },
    ),
    ("artifacts", {"ticket_id": str(uuid4())}),
    ("finish", {"outcome": "succeeded", "artifact_ids": []}),
    ("finish", {"outcome": "failed", "code": "OOPS", "message": "x", "permanent": True}),
    ("finish", {"outcome": "cancelled"}),
    ("finish", {"outcome": "released", "reason": "x"}),
]


async def _refused_everywhere(stage: Stage, spec: JobSpec, status: int, code: str) -> None:
    """Every call of this attempt is refused alike, and none leaves a trace."""
    async with nothing_written(stage.database):
        for what, body in CALLS:
            assert_problem(await stage.worker.call(spec, what, body), status, code)


async def test_claim_tells_all(people: People, stage: Stage) -> None:
    """A claim answers with everything that the run needs, and inputs that can be fetched."""
    person = await people.make()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job, spec = await stage.running(person, headers={"traceparent": trace})
    assert str(spec.job_id) == job["id"]
    assert (spec.attempt, spec.model_id, spec.pipeline) == (1, "inflate-v1", "inflate")
    assert spec.params == job["input_params"]
    assert (spec.time_limit_seconds, spec.lease_seconds, spec.heartbeat_seconds) == (300, 60, 10)
    assert spec.traceparent == trace
    [given] = spec.inputs
    assert (given.parameter, given.object_name) == ("image_path", spec.params["image_path"])
    assert given.media_type == "image/png"
    async with httpx.AsyncClient(trust_env=False) as storage:
        answer = await storage.get(given.url)
    assert len(answer.content) == given.size_bytes
    assert answer.headers["etag"].strip('"') == given.etag


async def test_claim_repeated_is_the_same(people: People, stage: Stage) -> None:
    """The same claim again, after a lost answer, gets the same token and a full lease."""
    await stage.worker.report()
    job = await (await people.make()).job()
    attempt = await dispatch(stage.database, stage.dispatcher, job["id"])
    claim_id = uuid4()
    first = await stage.worker.claim(attempt, claim_id)
    async with nothing_written(stage.database):
        second = await stage.worker.claim(attempt, claim_id)
    assert (first.status_code, second.status_code) == (200, 200)
    for name in ("attempt_token", "attempt"):
        assert first.json()[name] == second.json()[name]
    assert first.json()["lease_expires_at"] < second.json()["lease_expires_at"]


async def test_claimed_by_another(people: People, stage: Stage) -> None:
    """An attempt that another claim holds is refused, even to the same worker."""
    job, spec = await stage.running(await people.make())
    async with nothing_written(stage.database):
        answer = await stage.worker.claim(spec.attempt_id)
    assert_problem(answer, 409, "ATTEMPT_SUPERSEDED")
    assert job["id"]


async def test_unknown_attempt(stage: Stage, people: People) -> None:
    """An attempt that never was is not found."""
    _, spec = await stage.running(await people.make())
    never = spec.model_copy(update={"attempt_id": uuid4()})
    assert_problem(await stage.worker.claim(never.attempt_id), 404, "ATTEMPT_NOT_FOUND")
    await _refused_everywhere(stage, never, 404, "ATTEMPT_NOT_FOUND")


async def test_cancelled_before_the_claim(people: People, stage: Stage) -> None:
    """The attempt of a job that was cancelled is gone."""
    await stage.worker.report()
    person = await people.make()
    job = await person.job()
    attempt = await dispatch(stage.database, stage.dispatcher, job["id"])
    await person.client.delete(f"{JOBS}/{job['id']}")
    async with nothing_written(stage.database):
        assert_problem(await stage.worker.claim(attempt), 410, "ATTEMPT_GONE")


async def _cancelled(people: People, stage: Stage) -> tuple[Person, JobSpec]:
    person = await people.make()
    job, spec = await stage.running(person)
    await person.client.delete(f"{JOBS}/{job['id']}")
    await stage.worker.call(spec, "finish", {"outcome": "cancelled"})
    return person, spec


async def test_cancelled_while_it_ran(people: People, stage: Stage) -> None:
    """After a cancellation was reported nothing more is taken of that attempt."""
    _, spec = await _cancelled(people, stage)
    async with nothing_written(stage.database):
        for what, body in CALLS[:3]:
            assert_problem(await stage.worker.call(spec, what, body), 410, "ATTEMPT_GONE")
        assert_problem(await stage.worker.claim(spec.attempt_id), 410, "ATTEMPT_GONE")
        for what, body in CALLS[3:5]:
            assert_problem(await stage.worker.call(spec, what, body), 409, "REPORT_CONFLICT")


async def test_superseded(people: People, stage: Stage) -> None:
    """A worker whose attempt was taken over, and is run elsewhere, is refused everywhere."""
    person = await people.make()
    job, old = await stage.running(person)
    await end_lease(stage.database, old.attempt_id)
    await _rescue(stage)
    await make_due(stage.database, job["id"])
    new = await stage.start(job)
    assert new.attempt_id != old.attempt_id
    assert new.attempt == 2
    await _refused_everywhere(stage, old, 409, "ATTEMPT_SUPERSEDED")
    assert (await person.get(job["id"]))["stage"] != "zombie"
    assert (await stage.worker.succeed(new)).json()["job_status"] == "SUCCEEDED"
    await _refused_everywhere(stage, old, 409, "ATTEMPT_SUPERSEDED")


async def _rescue(stage: Stage) -> None:
    assert await rescue_lost_attempts(stage.database, stage.dispatcher._settings) == 1


@pytest.mark.parametrize("token", ["", "x", "0" * 64, "x" * 200, b"\xff" * 64])
async def test_wrong_token(people: People, stage: Stage, token: str | bytes) -> None:
    """Without the claim's token nobody speaks for an attempt."""
    _, spec = await stage.running(await people.make())
    async with nothing_written(stage.database):
        for what, body in CALLS:
            answer = await stage.worker.client.post(
                f"{BASE}/attempts/{spec.attempt_id}/{what}",
                json=body,
                headers={ATTEMPT_TOKEN_HEADER: token},
            )
            assert_problem(answer, 403, "ATTEMPT_TOKEN_INVALID")


async def test_missing_token(people: People, stage: Stage) -> None:
    """A call without the token names the header that is missing."""
    _, spec = await stage.running(await people.make())
    async with nothing_written(stage.database):
        for what, body in CALLS:
            answer = await stage.worker.client.post(
                f"{BASE}/attempts/{spec.attempt_id}/{what}", json=body
            )
            assert_problem(answer, 403, "ATTEMPT_TOKEN_INVALID")


async def test_token_of_another_attempt(people: People, stage: Stage) -> None:
    """A token is good for its own attempt only."""
    person = await people.make()
    _, one = await stage.running(person)
    _, other = await stage.running(person)
    mixed = one.model_copy(update={"attempt_token": other.attempt_token})
    await _refused_everywhere(stage, mixed, 403, "ATTEMPT_TOKEN_INVALID")


async def test_unclaimed_attempt(people: People, stage: Stage) -> None:
    """Nobody speaks for an attempt that nobody has claimed."""
    _, spec = await stage.running(await people.make())
    waiting = await (await people.make()).job()
    attempt = await dispatch(stage.database, stage.dispatcher, waiting["id"])
    unclaimed = spec.model_copy(update={"attempt_id": attempt})
    await _refused_everywhere(stage, unclaimed, 403, "ATTEMPT_TOKEN_INVALID")


async def test_wrong_worker_key(people: People, stage: Stage, api_url: str) -> None:
    """The right token with a wrong or a user's key is refused."""
    person = await people.make()
    _, spec = await stage.running(person)
    for key, status, code in (
        ("wrong", 401, "NOT_AUTHENTICATED"),
        (person.key, 403, "FORBIDDEN"),
    ):
        async with FakeWorker(api_url, key) as intruder:
            for what, body in CALLS:
                assert_problem(await intruder.call(spec, what, body), status, code)
            assert_problem(await intruder.claim(spec.attempt_id), status, code)
            assert_problem(await intruder.report(), status, code)
    assert WORKER_KEY not in str(spec)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"worker_name": ""}, "/worker_name"),
        ({"worker_name": "a b"}, "/worker_name"),
        ({"worker_name": "a\x00"}, "/worker_name"),
        ({"worker_name": "x" * 1_000}, "/worker_name"),
        ({"claim_id": "x"}, "/claim_id"),
        ({"claim_id": None}, "/claim_id"),
        ({"protocol": "x"}, "/protocol"),
    ],
)
async def test_bad_claims(
    worker_client: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    """A claim without a proper name or id is refused by the name of what is wrong."""
    body = {"worker_name": "w", "claim_id": str(uuid4()), **change}
    answer = await worker_client.post(f"{BASE}/attempts/{uuid4()}/claim", json=body)
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


@pytest.mark.parametrize("attempt_id", ["x", "%00", "0" * 5000])
async def test_bad_attempt_ids(worker_client: httpx.AsyncClient, attempt_id: str) -> None:
    """An attempt's id that is none is named."""
    answer = await worker_client.post(
        f"{BASE}/attempts/{attempt_id}/claim",
        json={"worker_name": "w", "claim_id": str(uuid4())},
    )
    assert_problem(answer, 422, "INVALID_REQUEST", pointer="/path/attempt_id")
