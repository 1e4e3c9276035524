"""Who may do what with whose jobs."""

from typing import Any

import pytest

from app.accounts.roles import Role
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage

READING = ["", "/events", "/artifacts", "/artifacts/model_3d", "/download"]
CONTROL = [("POST", "/cancel"), ("DELETE", ""), ("POST", "/retry")]


async def _read_all(person: Person, job: dict[str, Any]) -> list[Any]:
    return [await person.client.get(f"{JOBS}/{job['id']}{path}") for path in READING]


async def _control_all(person: Person, job: dict[str, Any]) -> list[Any]:
    return [await person.client.request(m, f"{JOBS}/{job['id']}{path}") for m, path in CONTROL]


async def test_owner(people: People, stage: Stage) -> None:
    """An operator reads and controls the own jobs by every route."""
    owner = await people.make()
    done = await stage.succeeded(owner)
    assert {answer.status_code for answer in await _read_all(owner, done)} == {200}
    waiting = await owner.job()
    assert [a.status_code for a in await _control_all(owner, waiting)] == [200, 409, 200]


async def test_colleague_without_the_role(people: People, stage: Stage) -> None:
    """An operator may neither read nor control a colleague's job, and learns that it is one."""
    job = await stage.succeeded(await people.make())
    colleague = await people.make()
    async with nothing_written(stage.database):
        answers = await _read_all(colleague, job) + await _control_all(colleague, job)
    for answer in answers:
        assert "colleague" in assert_problem(answer, 403, "FORBIDDEN")["detail"]
    assert (await colleague.client.get(f"{JOBS}/")).json()["items"] == []


async def test_admin(people: People, stage: Stage) -> None:
    """An admin reads and controls every job of the organisation."""
    owner, admin = await people.make(), await people.make(role=Role.ADMIN)
    done = await stage.succeeded(owner)
    assert {answer.status_code for answer in await _read_all(admin, done)} == {200}
    waiting = await owner.job()
    assert [a.status_code for a in await _control_all(admin, waiting)] == [200, 409, 200]
    listed = (await admin.client.get(f"{JOBS}/")).json()["items"]
    assert [job["id"] for job in listed] == [waiting["id"], done["id"]]


async def test_viewer_reads(people: People, stage: Stage) -> None:
    """A viewer reads every job of the organisation."""
    owner, viewer = await people.make(), await people.make(role=Role.VIEWER)
    job = await stage.succeeded(owner)
    assert {answer.status_code for answer in await _read_all(viewer, job)} == {200}
    assert len((await viewer.client.get(f"{JOBS}/")).json()["items"]) == 1


async def test_viewer_changes_nothing(people: People, stage: Stage) -> None:
    """A viewer neither uploads, creates, validates nor controls anything."""
    owner, viewer = await people.make(), await people.make(role=Role.VIEWER)
    job = await owner.job()
    ticket = {"filename": "a.png", "content_type": "image/png"}
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    async with nothing_written(stage.database):
        answers = [
            await viewer.client.post(f"{JOBS}/upload-ticket", json=ticket),
            await viewer.client.post(f"{JOBS}/", json=body),
            await viewer.client.post(f"{JOBS}/validate", json=body),
            *await _control_all(viewer, job),
        ]
    for answer in answers:
        assert_problem(answer, 403, "FORBIDDEN")
    assert "viewer" in answers[0].json()["detail"]


@pytest.mark.parametrize("role", list(Role))
async def test_stranger(people: People, stage: Stage, role: Role) -> None:
    """For another organisation a job does not exist, whatever the role."""
    job = await stage.succeeded(await people.make())
    stranger = await people.make(organisation="Globex", role=role)
    async with nothing_written(stage.database):
        answers = await _read_all(stranger, job) + await _control_all(stranger, job)
    for answer in answers:
        assert_problem(answer, 404, "JOB_NOT_FOUND")
    assert (await stranger.client.get(f"{JOBS}/")).json()["items"] == []
    found = await stranger.client.get(f"{JOBS}/", params={"requested_by": job["requested_by"]})
    assert found.json()["items"] == []
