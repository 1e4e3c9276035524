"""Checking a job without creating it."""

from app.db.session import Database
from tests.support.people import JOBS, People
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage


async def test_validate_creates_nothing(people: People, database: Database) -> None:
    """A good request is answered with its defaults and a place in the queue; no row is written."""
    person = await people.make()
    object_name = await person.upload()
    async with nothing_written(database):
        answer = await person.client.post(
            f"{JOBS}/validate",
            json={"model_id": "inflate-v1", "input_params": {"image_path": object_name}},
        )
    assert answer.status_code == 200
    body = answer.json()
    assert body["valid"] is True
    assert body["input_params"]["texture_resolution"] == 1024
    assert body["queue_position"] == 1
    assert body["served"] is False
    assert body["estimated_run_seconds"] is None
    assert body["estimated_wait_seconds"] is None


async def test_position_behind_what_waits(people: People) -> None:
    """The position counts one's own waiting jobs and the others' turns before it."""
    person, other = await people.make(), await people.make()
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    for _ in range(2):
        await person.job(**body, input_params={})
    for _ in range(5):
        await other.job(**body, input_params={})
    answer = await person.client.post(f"{JOBS}/validate", json=body)
    assert answer.json()["queue_position"] == 2 + 3 + 1


async def test_estimates_with_experience(people: People, stage: Stage) -> None:
    """Once a job has run and a worker lives, wait and run are estimated."""
    person = await people.make()
    job = await stage.succeeded(person)
    answer = await person.client.post(
        f"{JOBS}/validate",
        json={
            "model_id": "inflate-v1",
            "input_params": {"image_path": job["input_params"]["image_path"]},
        },
    )
    body = answer.json()
    assert body["served"] is True
    assert body["estimated_wait_seconds"] == 0
    assert body["estimated_run_seconds"] > 0


async def test_validate_refuses_like_create(people: People, database: Database) -> None:
    """What creating would refuse, validating refuses in the same words."""
    person = await people.make()
    for body in (
        {"model_id": "inflate-v1"},
        {"model_id": "nothing"},
        {"model_id": "dreamfusion-sd"},
        {"model_id": "inflate-v1", "input_params": {"image_path": "uploads/x/y/z.png"}},
    ):
        async with nothing_written(database):
            created = await person.client.post(f"{JOBS}/", json=body)
            validated = await person.client.post(f"{JOBS}/validate", json=body)
        expected = assert_problem(created, created.status_code, created.json()["code"])
        found = assert_problem(validated, created.status_code, expected["code"])
        assert {**found, "request_id": ""} == {**expected, "request_id": ""}
