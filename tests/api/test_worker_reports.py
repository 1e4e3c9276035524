"""How attempts end: reports that are believed, repeated, contradictory or impossible."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contract.attempts import ATTEMPT_TOKEN_HEADER, JobSpec
from tests.support.jobs import attempts_of, make_due
from tests.support.people import JOBS, People
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import BASE

FAILED = {"outcome": "failed", "code": "OOPS", "message": "it broke", "permanent": True}


async def _report(stage: Stage, spec: JobSpec, body: dict[str, Any]) -> httpx.Response:
    """Send a report as it stands, also with numbers that JSON does not have."""
    return await stage.worker.client.post(
        f"{BASE}/attempts/{spec.attempt_id}/finish",
        content=json.dumps(body).encode(),
        headers={ATTEMPT_TOKEN_HEADER: spec.attempt_token, "content-type": "application/json"},
    )


async def test_repeat_is_replayed(people: People, stage: Stage) -> None:
    """The same report again, after a lost answer, answers the same and writes nothing."""
    _, spec = await stage.running(await people.make())
    artifact = await stage.worker.upload(spec)
    report = {"outcome": "succeeded", "artifact_ids": [artifact], "metrics": {"faces": 12}}
    first = await _report(stage, spec, report)
    assert first.json() == {"job_status": "SUCCEEDED", "replayed": False}
    async with nothing_written(stage.database):
        again = await _report(stage, spec, report)
    assert (again.status_code, again.json()["replayed"]) == (200, True)
    assert again.json()["job_status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "other",
    [
        {"outcome": "cancelled"},
        {"outcome": "released", "reason": "x"},
        {"outcome": "succeeded", "artifact_ids": []},
        {**FAILED, "message": "it broke in another way"},
        {**FAILED, "permanent": False},
    ],
)
async def test_other_report_is_a_conflict(
    people: People, stage: Stage, other: dict[str, Any]
) -> None:
    """A second, different report of one attempt is refused; the first stands."""
    person = await people.make()
    job, spec = await stage.running(person)
    assert (await _report(stage, spec, FAILED)).json()["job_status"] == "FAILED"
    async with nothing_written(stage.database):
        assert_problem(await _report(stage, spec, other), 409, "REPORT_CONFLICT")
    assert (await person.get(job["id"]))["error"]["code"] == "OOPS"


async def test_report_after_a_retry_was_scheduled(people: People, stage: Stage) -> None:
    """An old failure repeated while the job runs again is a replay that changes nothing."""
    person = await people.make()
    job, first = await stage.running(person)
    assert (await stage.worker.fail(first)).json()["job_status"] == "QUEUED"
    await make_due(stage.database, job["id"])
    await stage.start(job)
    async with nothing_written(stage.database):
        again = await stage.worker.fail(first)
    assert again.json() == {"job_status": "RUNNING", "replayed": True}


async def test_success_without_the_main_artifact(people: People, stage: Stage) -> None:
    """Success needs an artifact of the kind that the model makes."""
    person = await people.make()
    job, spec = await stage.running(person)
    log = await stage.worker.upload(
        spec, b"a line\n", kind="log", name="worker.log", media_type="text/plain"
    )
    for artifacts in ([], [log]):
        async with nothing_written(stage.database):
            answer = await _report(stage, spec, {"outcome": "succeeded", "artifact_ids": artifacts})
        assert "model_3d" in assert_problem(answer, 422, "RESULT_INCOMPLETE")["detail"]
    assert (await person.get(job["id"]))["status"] == "RUNNING"
    assert (await stage.worker.succeed(spec)).status_code == 200


async def test_artifacts_of_another_attempt(people: People, stage: Stage) -> None:
    """A report that names another attempt's artifact, or one that is not committed, is refused."""
    person = await people.make()
    _, one = await stage.running(person)
    _, other = await stage.running(person)
    theirs = await stage.worker.upload(one)
    mine = await stage.worker.upload(other)
    for artifact in (theirs, str(uuid4())):
        report = {"outcome": "succeeded", "artifact_ids": [mine, artifact]}
        async with nothing_written(stage.database):
            answer = await _report(stage, other, report)
        assert artifact in assert_problem(answer, 422, "RESULT_INCOMPLETE")["detail"]


async def test_cancellation_that_nobody_asked_for(people: People, stage: Stage) -> None:
    """A worker cannot cancel a job by itself, and learns how to hand it back."""
    person = await people.make()
    job, spec = await stage.running(person)
    async with nothing_written(stage.database):
        answer = await _report(stage, spec, {"outcome": "cancelled"})
    assert "released" in assert_problem(answer, 409, "REPORT_CONFLICT")["detail"]
    assert (await person.get(job["id"]))["status"] == "RUNNING"


async def test_released_counts_as_no_failure(people: People, stage: Stage) -> None:
    """An attempt that is handed back puts its job into the queue with its budget untouched."""
    person = await people.make()
    job, spec = await stage.running(person)
    answer = await _report(stage, spec, {"outcome": "released", "reason": "stopping"})
    assert answer.json()["job_status"] == "QUEUED"
    job = await person.get(job["id"])
    assert (job["status"], job["attempt"], job["error"]) == ("QUEUED", 0, None)
    await make_due(stage.database, job["id"])
    assert (await stage.start(job)).attempt == 1


async def test_failures_use_up_the_budget(people: People, stage: Stage) -> None:
    """Three failures that might pass end the job, with the last one's code."""
    person = await people.make()
    job, spec = await stage.running(person)
    for number in (1, 2, 3):
        assert spec.attempt == number
        status = (await stage.worker.fail(spec)).json()["job_status"]
        if status == "QUEUED":
            job = await person.get(job["id"])
            assert f"Attempt {number} of 3 failed" in job["message"]
            await make_due(stage.database, job["id"])
            spec = await stage.start(job)
    assert (await person.get(job["id"]))["status"] == "FAILED"
    assert [a.status for a in await attempts_of(stage.database, job["id"])] == ["FAILED"] * 3


async def test_a_result_that_its_run_found_invalid(people: People, stage: Stage) -> None:
    """The job has failed, whatever was uploaded before: there is no result to download."""
    person = await people.make()
    job, spec = await stage.running(person)
    await stage.worker.upload(spec)
    answer = await stage.worker.call(
        spec,
        "finish",
        {
            "outcome": "failed",
            "code": "INVALID_OUTPUT",
            "message": "The mesh is not closed.",
            "permanent": True,
        },
    )
    assert answer.json()["job_status"] == "FAILED"
    assert (await person.get(job["id"]))["error"]["code"] == "INVALID_OUTPUT"
    download = await person.client.get(f"{JOBS}/{job['id']}/download")
    assert_problem(download, 400, "JOB_NOT_SUCCEEDED")


async def test_text_that_cannot_be_stored(people: People, stage: Stage) -> None:
    """NUL bytes in what a worker says are replaced, and long text is cut."""
    person = await people.make()
    job, spec = await stage.running(person)
    report = {**FAILED, "message": "a\x00b" + "x" * 1990, "log_tail": "\x00" * 100}
    assert (await _report(stage, spec, report)).status_code == 200
    message = (await person.get(job["id"]))["error"]["message"]
    assert message.startswith("a\ufffdbxxx")
    assert len(message) == 500
    assert (await _report(stage, spec, report)).json()["replayed"] is True


async def test_reason_that_cannot_be_stored(people: People, stage: Stage) -> None:
    """A NUL in the reason of a release does no harm either."""
    _, spec = await stage.running(await people.make())
    answer = await _report(stage, spec, {"outcome": "released", "reason": "\x00"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("report", "pointer"),
    [
        ({**FAILED, "code": "oops"}, "/code"),
        ({**FAILED, "code": "A\x00"}, "/code"),
        ({**FAILED, "code": "A" * 65}, "/code"),
        ({**FAILED, "message": "x" * 2001}, "/message"),
        ({**FAILED, "message": "x" * 10**5}, "/message"),
        ({**FAILED, "message": "\ud800"}, "/message"),
        ({**FAILED, "message": None}, "/message"),
        ({**FAILED, "permanent": "perhaps"}, "/permanent"),
        ({**FAILED, "log_tail": "x" * 20_001}, "/log_tail"),
        ({"outcome": "failed"}, "/code"),
        ({"outcome": "released"}, "/reason"),
        ({"outcome": "released", "reason": "x" * 501}, "/reason"),
        ({"outcome": "succeeded"}, "/artifact_ids"),
        ({"outcome": "succeeded", "artifact_ids": ["x"]}, "/artifact_ids/0"),
        ({"outcome": "succeeded", "artifact_ids": [str(uuid4())] * 1001}, "/artifact_ids"),
        (
            {"outcome": "succeeded", "artifact_ids": [], "metrics": {"a": float("nan")}},
            "/metrics/a",
        ),
        (
            {"outcome": "succeeded", "artifact_ids": [], "metrics": {"a": float("inf")}},
            "/metrics/a",
        ),
        ({"outcome": "succeeded", "artifact_ids": [], "metrics": {"a": 10**400}}, "/metrics/a"),
        (
            {"outcome": "succeeded", "artifact_ids": [], "metrics": {"a\x00": 1}},
            "/metrics/a\x00",
        ),
        ({"outcome": "succeeded", "artifact_ids": [], "metrics": {"a": "many"}}, "/metrics/a"),
        ({"outcome": "exploded"}, ""),
        ({"outcome": None}, ""),
        ({}, ""),
    ],
)
async def test_impossible_reports(
    worker_client: httpx.AsyncClient, report: dict[str, Any], pointer: str
) -> None:
    """A report that cannot be is refused by the place of what is wrong in it."""
    answer = await worker_client.post(
        f"{BASE}/attempts/{uuid4()}/finish",
        content=json.dumps(report).encode(),
        headers={ATTEMPT_TOKEN_HEADER: "x", "content-type": "application/json"},
    )
    assert_problem(answer, 422, "INVALID_REQUEST", pointer=pointer)


async def test_largest_report(people: People, stage: Stage) -> None:
    """A report at every limit is taken."""
    person = await people.make()
    job, spec = await stage.running(person)
    artifact = await stage.worker.upload(spec)
    report = {
        "outcome": "succeeded",
        "artifact_ids": [artifact] * 1000,
        "metrics": {f"metric-{number}": 1e308 for number in range(100)},
    }
    assert (await _report(stage, spec, report)).status_code == 200
    answer = await person.client.get(f"{JOBS}/{job['id']}/download")
    assert answer.status_code == 200
