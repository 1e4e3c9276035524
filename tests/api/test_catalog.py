"""The catalog, and who serves it now."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import func, update

from app.catalog.tables import Model
from app.db.base import seconds
from app.workers.tables import Worker
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage

MODELS = "/api/v1/models"


async def _model(person: Person, model_id: str = "inflate-v1") -> dict[str, Any]:
    answer = await person.client.get(f"{MODELS}/{model_id}")
    assert answer.status_code == 200
    return dict(answer.json())


async def test_list(people: People) -> None:
    """Every model is listed with a schema that works, its defaults, limits and licence."""
    person = await people.make()
    items = (await person.client.get(f"{MODELS}/")).json()["items"]
    assert [item["id"] for item in items] == [
        "dreamfusion-sd",
        "inflate-v1",
        "sf3d-v1",
        "video-analytics-v1",
        "video-frames-v1",
    ]
    for item in items:
        Draft202012Validator.check_schema(item["parameters"])
        assert item["licence"]
        assert item == await _model(person, item["id"])
        for name, default in item["defaults"].items():
            assert item["parameters"]["properties"][name]["default"] == default


async def test_limits(people: People) -> None:
    """A model says what may be uploaded, how long a run may take and what it answers with."""
    model = await _model(await people.make())
    assert model["limits"] == {
        "time_limit_seconds": 300,
        "max_attempts": 3,
        "retention_days": 7,
        "uploads": {
            "image_path": {
                "media_types": ["image/jpeg", "image/png", "image/webp"],
                "max_bytes": 20 * 2**20,
                "max_pixels": 4096**2,
            }
        },
    }
    assert (model["kind"], model["prompt"]) == ("image-to-3d", "none")
    assert (model["queue"], model["main_artifact"]) == ("cpu", "model_3d")


async def test_availability_follows_the_workers(people: People, stage: Stage) -> None:
    """A model is served once a worker says that it can run it, and until it stops."""
    person = await people.make()

    async def state() -> tuple[bool, bool, int]:
        model = await _model(person)
        return model["served"], model["warm"], model["workers"]

    assert await state() == (False, False, 0)
    await stage.worker.report()
    assert await state() == (True, False, 1)
    await stage.worker.report(warm=True)
    assert await state() == (True, True, 1)
    await stage.worker.report(name="second")
    assert await state() == (True, True, 2)
    await stage.worker.report(stopping=True)
    assert await state() == (True, False, 1)
    await stage.worker.report(name="second", stopping=True)
    assert await state() == (False, False, 0)


async def test_other_workers_do_not_count(people: People, stage: Stage) -> None:
    """A worker of another queue, or of other pipelines, does not serve a model."""
    person = await people.make()
    await stage.worker.report(queue="gpu")
    await stage.worker.report(name="second", pipelines=("sf3d",))
    assert (await _model(person))["served"] is False
    assert (await _model(person, "sf3d-v1"))["served"] is False


async def test_silent_worker_is_not_counted(people: People, stage: Stage) -> None:
    """A worker that has been silent for too long serves nothing."""
    person = await people.make()
    await stage.worker.report()
    async with stage.database.transaction() as session:
        await session.execute(update(Worker).values(last_seen_at=func.now() - seconds(76)))
    assert (await _model(person))["served"] is False


@pytest.mark.parametrize("model_id", ["nothing", "INFLATE-V1", "%00", "%ff", "x" * 5000, "'--"])
async def test_unknown_model(admin: httpx.AsyncClient, model_id: str) -> None:
    """A model that does not exist is answered with those that do."""
    answer = await admin.get(f"{MODELS}/{model_id}")
    body = assert_problem(answer, 404, "MODEL_NOT_FOUND")
    assert "dreamfusion-sd, inflate-v1, sf3d-v1" in body["detail"]


async def test_disabled_model(people: People, stage: Stage) -> None:
    """A model that was taken out of the catalog is not offered, and takes no new jobs."""
    person = await people.make()
    job = await person.job(model_id="dreamfusion-sd", input_params={}, prompt="a teapot")
    await person.client.post(f"{JOBS}/{job['id']}/cancel")
    async with stage.database.transaction() as session:
        await session.execute(
            update(Model).where(Model.id == "dreamfusion-sd").values(enabled=False)
        )
    answers = [
        await person.client.get(f"{MODELS}/dreamfusion-sd"),
        await person.client.post(f"{JOBS}/", json={"model_id": "dreamfusion-sd", "prompt": "x"}),
        await person.client.post(f"{JOBS}/{job['id']}/retry"),
    ]
    async with nothing_written(stage.database):
        for answer in answers:
            assert_problem(answer, 404, "MODEL_NOT_FOUND")
    offered = (await person.client.get(f"{MODELS}/")).json()["items"]
    assert "dreamfusion-sd" not in {item["id"] for item in offered}
    assert (await person.get(job["id"]))["status"] == "CANCELLED"
