"""Heartbeats of attempts and of workers: what is believed, and what is refused."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contract.attempts import ATTEMPT_TOKEN_HEADER, JobSpec
from tests.support.people import People
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import BASE, FakeWorker

DESCRIPTION: dict[str, Any] = {
    "name": "some-worker",
    "hostname": "some-host",
    "version": "0.1.0",
    "queue": "cpu",
    "started_at": "2026-01-01T00:00:00Z",
    "cpu_count": 1,
    "memory_total_mib": 1024,
    "pipelines": [],
}


async def _progress(stage: Stage, spec: JobSpec, text: str) -> httpx.Response:
    return await stage.worker.client.post(
        f"{BASE}/attempts/{spec.attempt_id}/heartbeat",
        content=f'{{"progress": {text}}}'.encode(),
        headers={ATTEMPT_TOKEN_HEADER: spec.attempt_token, "content-type": "application/json"},
    )


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"percent": NaN, "stage": "x"}', "/progress/percent"),
        ('{"percent": Infinity, "stage": "x"}', "/progress/percent"),
        ('{"percent": -Infinity, "stage": "x"}', "/progress/percent"),
        ('{"percent": 1e308, "stage": "x"}', "/progress/percent"),
        ('{"percent": 1e999, "stage": "x"}', "/progress/percent"),
        ('{"percent": -1, "stage": "x"}', "/progress/percent"),
        ('{"percent": 100.1, "stage": "x"}', "/progress/percent"),
        ('{"percent": "many", "stage": "x"}', "/progress/percent"),
        ('{"percent": null, "stage": "x"}', "/progress/percent"),
        ('{"stage": "x"}', "/progress/percent"),
        ('{"percent": 1}', "/progress/stage"),
        ('{"percent": 1, "stage": "\\ud800"}', "/progress/stage"),
        (json.dumps({"percent": 1, "stage": "x" * 65}), "/progress/stage"),
        (json.dumps({"percent": 1, "stage": "x", "message": "x" * 501}), "/progress/message"),
        (json.dumps({"percent": 1, "stage": "x", "message": "x" * 10**5}), "/progress/message"),
        ('{"percent": 1, "stage": "x", "message": ["x"]}', "/progress/message"),
        ('"half"', "/progress"),
    ],
)
async def test_impossible_progress(people: People, stage: Stage, text: str, pointer: str) -> None:
    """Progress that cannot be is refused by its place, and changes nothing."""
    person = await people.make()
    job, spec = await stage.running(person)
    before = await person.get(job["id"])
    async with nothing_written(stage.database):
        answer = await _progress(stage, spec, text)
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)
    assert await person.get(job["id"]) == before


async def test_text_that_cannot_be_stored(people: People, stage: Stage) -> None:
    """A NUL in a stage or message is replaced: a run must not fail for what it says of itself."""
    person = await people.make()
    job, spec = await stage.running(person)
    answer = await _progress(
        stage, spec, '{"percent": 1, "stage": "a\\u0000b", "message": "\\u0000"}'
    )
    assert answer.status_code == 200
    job = await person.get(job["id"])
    assert (job["stage"], job["message"]) == ("a\ufffdb", "\ufffd")


async def test_progress_never_falls(people: People, stage: Stage) -> None:
    """Percent never falls within an attempt, while stage and message follow."""
    person = await people.make()
    job, spec = await stage.running(person)
    for percent, shown in ((10, 10), (50.06, 50.1), (20, 50.1), (100, 100), (0, 100)):
        answer = await _progress(stage, spec, json.dumps({"percent": percent, "stage": "x"}))
        assert answer.status_code == 200
        assert answer.json()["cancel_requested"] is False
        assert (await person.get(job["id"]))["progress_percent"] == shown


async def test_heartbeat_extends_the_lease(people: People, stage: Stage) -> None:
    """A heartbeat moves the end of the lease, with or without progress."""
    _, spec = await stage.running(await people.make())
    answer = await stage.worker.call(spec, "heartbeat", {})
    assert answer.status_code == 200
    assert answer.json()["lease_expires_at"] > spec.lease_expires_at.strftime("%Y-%m-%dT%H:%M:%S")
    assert answer.json()["lease_expires_at"].endswith("Z")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a/b"}, "/name"),
        ({"hostname": "a\x00"}, "/hostname"),
        ({"hostname": "x" * 256}, "/hostname"),
        ({"version": "\x00"}, "/version"),
        ({"queue": "rq:queue:cpu"}, "/queue"),
        ({"queue": "CPU"}, "/queue"),
        ({"started_at": "yesterday"}, "/started_at"),
        ({"started_at": "2026-01-01T00:00:00"}, "/started_at"),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "/started_at"),
        ({"cpu_count": 0}, "/cpu_count"),
        ({"cpu_count": 10**12}, "/cpu_count"),
        ({"memory_total_mib": -1}, "/memory_total_mib"),
        ({"memory_total_mib": 10**30}, "/memory_total_mib"),
        ({"versions": {"a": "\x00"}}, "/versions/a"),
        ({"versions": {str(number): "1" for number in range(101)}}, "/versions"),
        ({"gpus": [{"name": "x"}]}, "/gpus/0/driver"),
        (
            {
                "gpus": [
                    {"name": "\x00", "memory_total_mib": 1, "memory_free_mib": 1, "driver": "1"}
                ]
            },
            "/gpus/0/name",
        ),
        ({"pipelines": [{"name": "\x00", "version": "1", "runnable": True}]}, "/pipelines/0/name"),
        (
            {
                "pipelines": [
                    {"name": "a", "version": "1", "runnable": False, "reasons": ["x" * 501]}
                ]
            },
            "/pipelines/0/reasons/0",
        ),
        ({"current_attempt_id": "x"}, "/current_attempt_id"),
        ({"stopping": "perhaps"}, "/stopping"),
    ],
)
async def test_impossible_workers(
    worker: FakeWorker, stage: Stage, change: dict[str, Any], pointer: str
) -> None:
    """A worker that describes itself impossibly is told what is wrong, and is not counted."""
    async with nothing_written(stage.database):
        answer = await worker.client.post(
            f"{BASE}/workers/heartbeat", json={**DESCRIPTION, **change}
        )
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


@pytest.mark.parametrize("value", ["\\ud800", "a\\udfff"])
async def test_lone_surrogates(worker: FakeWorker, stage: Stage, value: str) -> None:
    """Half a character is refused wherever a worker may write text."""
    body = json.dumps({**DESCRIPTION, "versions": {"a": "?"}}).replace("?", value)
    async with nothing_written(stage.database):
        answer = await worker.client.post(
            f"{BASE}/workers/heartbeat", content=body, headers={"content-type": "application/json"}
        )
    assert_problem(answer, 422, "INVALID_REQUEST", pointer="/versions/a")


async def test_worker_is_told_when_to_report(worker: FakeWorker) -> None:
    """A worker's report is answered with when to report next, and unknown fields do no harm."""
    body = {**DESCRIPTION, "current_attempt_id": str(uuid4()), "from_the_future": [1]}
    answer = await worker.client.post(f"{BASE}/workers/heartbeat", json=body)
    assert answer.status_code == 200
    assert answer.json() == {"next_heartbeat_seconds": 30}
