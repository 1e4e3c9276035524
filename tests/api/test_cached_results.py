"""`"cache": true`: what was made before is answered at once, within one organisation."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.queueing.retention import delete_unused_objects, expire_jobs
from app.storage.base import ObjectStore
from tests.support.people import JOBS, People, Person, png_bytes
from tests.support.problems import assert_problem
from tests.support.runs import Stage
from tests.support.worker import GLB


async def _create(person: Person, image: str, **more: Any) -> dict[str, Any]:
    body = {"model_id": "inflate-v1", "input_params": {"image_path": image}, "cache": True, **more}
    answer = await person.client.post(f"{JOBS}/", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def _made(person: Person, stage: Stage, **more: Any) -> dict[str, Any]:
    """A job that allows its result to be used again, and has succeeded."""
    job = await _create(person, await person.upload(), **more)
    spec = await stage.start(job)
    await stage.worker.upload(
        spec, png_bytes(), kind="preview", name="front.png", media_type="image/png"
    )
    assert (await stage.worker.succeed(spec)).status_code == 200
    return await person.get(job["id"])


async def _download(person: Person, job_id: str) -> bytes:
    url = (await person.client.get(f"{JOBS}/{job_id}/download")).json()["download_url"]
    async with httpx.AsyncClient(trust_env=False) as storage:
        return (await storage.get(url)).raise_for_status().content


async def test_same_request_is_answered_at_once(people: People, stage: Stage) -> None:
    """Another upload of the same bytes gives a job that has ended, with the earlier one's files."""
    person = await people.make()
    original = await _made(person, stage)
    image = await person.upload()

    job = await _create(person, image)

    assert (job["status"], job["cached_from"]) == ("SUCCEEDED", original["id"])
    assert job["warning"] is None
    assert job["id"] != original["id"]
    assert job["input_params"]["image_path"] == image
    assert await _download(person, job["id"]) == GLB
    assert [preview["name"] for preview in (await person.get(job["id"]))["previews"]] == [
        "front.png"
    ]
    items = (await person.client.get(f"{JOBS}/{job['id']}/artifacts")).json()["items"]
    assert sorted(item["kind"] for item in items) == ["input", "model_3d", "preview"]
    assert await person.events(job["id"]) == ["job.created", "job.succeeded"]


async def test_colleague_shares_and_stranger_does_not(people: People, stage: Stage) -> None:
    """The organisation is the wall: a stranger's same request makes a job of its own."""
    ada, bob = await people.make(), await people.make()
    eve = await people.make(organisation="Elsewhere")
    original = await _made(ada, stage)

    assert (await _create(bob, await bob.upload()))["cached_from"] == original["id"]
    assert (await _create(eve, await eve.upload()))["status"] == "QUEUED"


@pytest.mark.parametrize(
    "difference",
    [
        {"cache": False},
        {"input_params": {"seed": 7}},
    ],
    ids=["not asked for", "another parameter"],
)
async def test_other_requests_run(people: People, stage: Stage, difference: dict[str, Any]) -> None:
    """What is asked for differently, or without the cache, is made."""
    person = await people.make()
    await _made(person, stage)
    image = await person.upload()
    params = {"image_path": image, **difference.pop("input_params", {})}

    job = await _create(person, image, **{"input_params": params, **difference})

    assert (job["status"], job["cached_from"]) == ("QUEUED", None)


async def test_another_picture_runs(people: People, stage: Stage) -> None:
    """The input's content counts, not its name."""
    person = await people.make()
    await _made(person, stage)
    image = await person.upload(png_bytes(size=65))
    assert (await _create(person, image))["status"] == "QUEUED"


async def test_result_that_was_not_offered_is_not_used(people: People, stage: Stage) -> None:
    """A job that was created without `cache` is nobody's cached result."""
    person = await people.make()
    await _made(person, stage, cache=False)
    assert (await _create(person, await person.upload()))["status"] == "QUEUED"


async def test_new_version_of_the_model_runs(people: People, stage: Stage) -> None:
    """A result of another version is not the same."""
    person = await people.make()
    await _made(person, stage)
    async with stage.database.transaction() as session:
        await session.execute(text("UPDATE models SET version = '99' WHERE id = 'inflate-v1'"))

    job = await _create(person, await person.upload())

    assert (job["status"], job["model_version"]) == ("QUEUED", "99")


async def test_files_stay_as_long_as_either_job(
    people: People, stage: Stage, store: ObjectStore
) -> None:
    """The original's expiry leaves the files to the other, whose expiry takes them."""
    person = await people.make()
    original = await _made(person, stage)
    job = await _create(person, await person.upload())

    async def expire(job_id: str) -> None:
        async with stage.database.transaction() as session:
            await session.execute(
                text("UPDATE jobs SET expires_at = now() - interval '1 s' WHERE id = :id"),
                {"id": job_id},
            )
        assert await expire_jobs(stage.database) == 1
        await delete_unused_objects(stage.database, store)

    await expire(original["id"])
    assert_problem(await person.client.get(f"{JOBS}/{original['id']}/download"), 410, "JOB_EXPIRED")
    assert await _download(person, job["id"]) == GLB
    again = await _create(person, await person.upload())
    assert again["cached_from"] == original["id"]

    await expire(job["id"])
    await expire(again["id"])
    assert (await _create(person, await person.upload()))["status"] == "QUEUED"


async def test_repeats_with_an_idempotency_key(people: People, stage: Stage) -> None:
    """The same request with its key answers the same job, whether at once or again."""
    person = await people.make()
    await _made(person, stage)
    body = {
        "model_id": "inflate-v1",
        "input_params": {"image_path": await person.upload()},
        "cache": True,
    }
    headers = {"Idempotency-Key": "again"}
    answers = await asyncio.gather(
        *(person.client.post(f"{JOBS}/", json=body, headers=headers) for _ in range(4))
    )
    answers.append(await person.client.post(f"{JOBS}/", json=body, headers=headers))

    assert {answer.status_code for answer in answers} <= {201, 409}
    jobs = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(jobs) == 1
    assert answers[-1].headers["Idempotency-Replayed"] == "true"


async def test_cached_job_can_be_reproduced(people: People, stage: Stage) -> None:
    """Its input is its own; what it is compared with is the file it was given."""
    person = await people.make()
    await _made(person, stage)
    job = await _create(person, await person.upload())

    answer = await person.client.post(f"{JOBS}/{job['id']}/reproduce")

    assert answer.status_code == 201, answer.text
    spec = await stage.start(answer.json())
    assert spec.reproduction is not None
    assert str(spec.reproduction.of) == job["id"]
    assert [item.parameter for item in spec.inputs] == ["image_path"]


async def test_callback_is_told_of_a_cached_job(people: People, stage: Stage) -> None:
    """Who asked to be called is called, though nothing had to be run."""
    person = await people.make()
    await _made(person, stage)
    job = await _create(person, await person.upload(), callback_url="https://example.com/hook")
    async with stage.database.transaction() as session:
        told = await session.execute(
            text("SELECT type FROM deliveries WHERE job_id = :id ORDER BY id"), {"id": job["id"]}
        )
        assert list(told.scalars()) == ["job.created", "job.completed"]


async def test_upload_of_a_cached_job_is_counted(people: People, stage: Stage) -> None:
    """Its size counts for the storage quota, though its ticket promised none."""
    person = await people.make()
    await _made(person, stage)
    used = text("SELECT storage_bytes FROM user_usage WHERE user_id = :id")
    async with stage.database.transaction() as session:
        before = (await session.execute(used, {"id": person.id})).scalar_one()
    await _create(person, await person.upload())
    async with stage.database.transaction() as session:
        after = (await session.execute(used, {"id": person.id})).scalar_one()
    assert after - before == len(png_bytes())
