"""Making a result again: the same model version, parameters, seed, prompt and input."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from app.accounts.roles import Role
from app.db.session import Database
from app.queueing.retention import delete_unused_objects, expire_jobs
from app.storage.base import ObjectStore
from contract.attempts import JobSpec
from tests.support.jobs import make_due
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import count_rows, nothing_written
from tests.support.runs import Stage
from tests.support.worker import GLB


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


async def reproduce(person: Person, job_id: object, **headers: str) -> httpx.Response:
    """Ask for it."""
    return await person.client.post(f"{JOBS}/{job_id}/reproduce", headers=headers)


async def refused(stage: Stage, person: Person, job: dict[str, Any], status: int, code: str) -> str:
    """It is refused, and nothing is written; the detail."""
    async with nothing_written(stage.database):
        answer = await reproduce(person, job["id"])
    return str(assert_problem(answer, status, code)["detail"])


async def succeed(stage: Stage, spec: JobSpec, manifest: bytes | None = None) -> None:
    """Hand over a model and perhaps a manifest, and report success."""
    ids = [await stage.worker.upload(spec)]
    if manifest is not None:
        ids.append(
            await stage.worker.upload(
                spec,
                manifest,
                kind="manifest",
                name="manifest.json",
                media_type="application/json",
            )
        )
    answer = await stage.worker.call(spec, "finish", {"outcome": "succeeded", "artifact_ids": ids})
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def change_model(database: Database) -> AsyncIterator[Any]:
    """Changes columns of the model; it is as before after the test."""

    async def execute(statement: str, **values: Any) -> None:
        async with database.transaction() as session:
            await session.execute(text(statement), values)

    async def change(assignments: str) -> None:
        await execute(f"UPDATE models SET {assignments} WHERE id = 'inflate-v1'")  # noqa: S608

    await execute("CREATE TABLE before AS SELECT * FROM models WHERE id = 'inflate-v1'")
    yield change
    await execute(
        "UPDATE models m SET version = b.version, enabled = b.enabled, parameters = b.parameters"
        " FROM before b WHERE m.id = b.id"
    )
    await execute("DROP TABLE before")


async def test_the_same_again(ada: Person, stage: Stage) -> None:
    """The new job is the old one's twin, says so, and its worker is told what to compare with."""
    job = await ada.job(input_params={"image_path": await ada.upload(), "seed": 7})
    await succeed(stage, await stage.start(job), b'{"seed": 7}')

    answer = await reproduce(ada, job["id"])
    assert answer.status_code == 201, answer.text
    twin = answer.json()
    assert answer.headers["location"] == f"{JOBS}/{twin['id']}"
    assert (twin["status"], twin["reproduces"], job["reproduces"]) == ("QUEUED", job["id"], None)
    for same in ("model_id", "model_version", "input_params", "prompt", "max_attempts"):
        assert twin[same] == job[same]
    assert (await ada.get(twin["id"]))["reproduces"] == job["id"]

    spec = await stage.start(twin)
    assert [item.parameter for item in spec.inputs] == ["image_path"]
    wanted = spec.reproduction
    assert wanted is not None
    assert wanted.manifest is not None
    assert (str(wanted.of), wanted.kind) == (job["id"], "model_3d")
    assert wanted.sha256 == hashlib.sha256(GLB).hexdigest()
    async with httpx.AsyncClient(trust_env=False) as storage:
        assert (await storage.get(wanted.manifest.url)).json() == {"seed": 7}


async def test_a_twin_has_twins(ada: Person, stage: Stage) -> None:
    """What was made again can be made again, also without a manifest to compare with."""
    job = await stage.succeeded(ada)
    twin = (await reproduce(ada, job["id"])).json()
    await succeed(stage, await stage.start(twin))
    third = await reproduce(ada, twin["id"])
    assert third.status_code == 201
    spec = await stage.start(third.json())
    assert spec.reproduction is not None
    assert (str(spec.reproduction.of), spec.reproduction.manifest) == (twin["id"], None)


async def test_a_colleagues_job(people: People, ada: Person, stage: Stage) -> None:
    """Whoever may read it and create jobs gets one of their own, of the owner's input."""
    admin = await people.make(role=Role.ADMIN)
    twin = (await reproduce(admin, (await stage.succeeded(ada))["id"])).json()
    assert twin["requested_by"] == str(admin.id)
    assert len((await stage.start(twin)).inputs) == 1


@pytest.mark.parametrize(
    ("manifest", "seed"),
    [
        (b'{"seed": 1234}', 1234),
        (b'{"seed": "x"}', None),
        (b'{"seed": true}', None),
        (b"[1]", None),
        (b"[" * 90_000, None),
        (None, None),
    ],
)
async def test_a_seed_that_was_drawn(
    ada: Person, stage: Stage, change_model: Any, manifest: bytes | None, seed: int | None
) -> None:
    """A seed left to chance is the one that the original's manifest names, if it names one."""
    await change_model("parameters = parameters #- '{properties,seed,default}'")
    job = await ada.job()
    assert "seed" not in job["input_params"]
    await succeed(stage, await stage.start(job), manifest)
    answer = await reproduce(ada, job["id"])
    assert answer.status_code == 201, answer.text
    assert answer.json()["input_params"].get("seed") == seed


async def test_a_drawn_seed_out_of_range(ada: Person, stage: Stage, change_model: Any) -> None:
    """What a manifest says is checked like a client's words."""
    await change_model("parameters = parameters #- '{properties,seed,default}'")
    job = await ada.job()
    await succeed(stage, await stage.start(job), b'{"seed": -1}')
    await refused(stage, ada, job, 422, "INVALID_PARAMETERS")


async def test_a_repeat_is_a_replay(ada: Person, stage: Stage) -> None:
    """One idempotency key makes one twin of one job, also when the job has expired since."""
    job, other = await stage.succeeded(ada), await stage.succeeded(ada)
    key = {"idempotency-key": "key-1"}
    first = await reproduce(ada, job["id"], **key)
    await _expire(stage, job)
    again = await reproduce(ada, job["id"], **key)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    before = await count_rows(stage.database)
    assert_problem(await reproduce(ada, other["id"], **key), 422, "IDEMPOTENCY_KEY_REUSED")
    assert await count_rows(stage.database) == before


async def test_require_worker(ada: Person, stage: Stage) -> None:
    """It waits for a worker with a warning, or not at all, like any new job."""
    job = await stage.succeeded(ada)
    await stage.worker.report(stopping=True)
    assert "No live worker" in (await reproduce(ada, job["id"])).json()["warning"]
    answer = await ada.client.post(f"{JOBS}/{job['id']}/reproduce?require_worker=true")
    assert_problem(answer, 409, "NO_WORKER")


async def _expire(stage: Stage, job: dict[str, Any]) -> None:
    async with stage.database.transaction() as session:
        await session.execute(
            text("UPDATE jobs SET expires_at = now() - interval '1 s' WHERE id = :id"),
            {"id": job["id"]},
        )
    await expire_jobs(stage.database)


async def test_no_result(ada: Person, stage: Stage) -> None:
    """A job that waits, runs, has failed or was cancelled has nothing to compare with."""
    job = await ada.job()
    assert "this one is QUEUED" in await refused(stage, ada, job, 409, "JOB_STATE_CONFLICT")
    spec = await stage.start(job)
    assert "this one is RUNNING" in await refused(stage, ada, job, 409, "JOB_STATE_CONFLICT")
    await stage.worker.fail(spec)
    await make_due(stage.database, job["id"])
    await ada.client.post(f"{JOBS}/{job['id']}/cancel")
    assert "this one is CANCELLED" in await refused(stage, ada, job, 409, "JOB_STATE_CONFLICT")
    failed = await stage.failed(ada)
    assert "can be retried" in await refused(stage, ada, failed, 409, "JOB_STATE_CONFLICT")


async def test_expired(ada: Person, stage: Stage) -> None:
    """A job whose files are gone cannot be made again."""
    job = await stage.succeeded(ada)
    await _expire(stage, job)
    await refused(stage, ada, job, 410, "JOB_EXPIRED")


async def test_an_expired_original_keeps_its_twins_input(
    ada: Person, stage: Stage, store: ObjectStore
) -> None:
    """Retention of the original takes nothing from a twin that waits, nor what to compare with."""
    job = await stage.succeeded(ada)
    twin = (await reproduce(ada, job["id"])).json()
    await _expire(stage, job)
    await delete_unused_objects(stage.database, store)
    spec = await stage.start(twin)
    async with httpx.AsyncClient(trust_env=False) as storage:
        assert (await storage.get(spec.inputs[0].url)).status_code == 200
    assert spec.reproduction is not None


async def test_unknown_and_foreign(people: People, ada: Person, stage: Stage) -> None:
    """What the caller may not know of does not exist; a colleague's takes a role, ids are ids."""
    job = await stage.succeeded(ada)
    stranger = await people.make(organisation="Globex")
    await refused(stage, stranger, job, 404, "JOB_NOT_FOUND")
    await refused(stage, ada, {"id": uuid4()}, 404, "JOB_NOT_FOUND")
    await refused(stage, await people.make(), job, 403, "FORBIDDEN")
    await refused(stage, await people.make(role=Role.VIEWER), job, 403, "FORBIDDEN")
    await refused(stage, ada, {"id": "no-id"}, 422, "INVALID_REQUEST")


async def test_another_version(ada: Person, stage: Stage, change_model: Any) -> None:
    """A model that has moved on would make something else."""
    job = await stage.succeeded(ada)
    await change_model("version = '99.0'")
    detail = await refused(stage, ada, job, 409, "MODEL_VERSION_CHANGED")
    assert "has version 99.0" in detail


async def test_disabled_model(ada: Person, stage: Stage, change_model: Any) -> None:
    """A model that the catalog does not offer any more makes nothing."""
    job = await stage.succeeded(ada)
    await change_model("enabled = false")
    await refused(stage, ada, job, 404, "MODEL_NOT_FOUND")


async def test_input_gone_or_replaced(ada: Person, stage: Stage, store: ObjectStore) -> None:
    """An input that storage has lost, or has another one of, is not used."""
    job = await stage.succeeded(ada)
    key = job["input_params"]["image_path"]
    await store.write(key, b"something else", "image/png")
    await refused(stage, ada, job, 409, "INPUT_REPLACED")
    await store.delete([key])
    await refused(stage, ada, job, 410, "INPUT_GONE")


async def test_retry_with_another_version_begins_anew(
    ada: Person, stage: Stage, change_model: Any
) -> None:
    """A checkpoint of another version of the model is of no use."""
    job, spec = await stage.running(ada)
    await stage.worker.upload(
        spec, b"60 %", kind="checkpoint", name="c.bin", media_type="application/octet-stream"
    )
    await stage.worker.fail(spec, permanent=True)
    await change_model("version = '99.0'")
    assert (await ada.client.post(f"{JOBS}/{job['id']}/retry")).status_code == 200
    assert (await stage.start(job)).checkpoint is None


async def test_first_event_of_a_twin(ada: Person, stage: Stage) -> None:
    """A twin's life begins like any job's."""
    twin = (await reproduce(ada, (await stage.succeeded(ada))["id"])).json()
    assert await ada.events(twin["id"]) == ["job.created"]
