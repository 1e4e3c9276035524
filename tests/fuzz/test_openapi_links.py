"""The links of the OpenAPI document lead through a job's life."""

import asyncio
import copy
import hashlib
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from fastapi import FastAPI
from link_walks import Guide, walk
from schemathesis import Case
from schemathesis.core.transport import Response
from sqlalchemy import text
from typing_extensions import override

from tests.conftest import WORKER_KEY
from tests.support.people import People, png_bytes
from tests.support.runs import Stage
from tests.support.worker import GLB

T = TypeVar("T")

WALKS = 90
STEPS = 30
JOBS, ATTEMPT = "/api/v1/jobs", "/worker/v1/attempts/{attempt_id}"
SUCCEEDED = (
    f"POST {JOBS}/upload-ticket 200",
    f"POST {JOBS}/ 201",
    f"GET {JOBS}/{{job_id}} 200",
    f"GET {JOBS}/{{job_id}}/artifacts 200",
    f"POST {JOBS}/{{job_id}}/cancel 200",
    f"POST {JOBS}/{{job_id}}/retry 200",
    f"POST {ATTEMPT}/claim 200",
    f"POST {ATTEMPT}/heartbeat 200",
    f"POST {ATTEMPT}/upload-tickets 200",
)
"""What walks must come to again and again; else the links lead nowhere."""


class Platform(Guide):
    """What happens beside the API: storage takes uploads, and Redis carries attempts."""

    def __init__(self, url: str, stage: Stage, key: str) -> None:
        super().__init__(url)
        self._loop = asyncio.get_running_loop()
        self._stage = stage
        self._database = stage.database
        self._key = key

    @override
    def before(self, where: str, number: int, case: Case) -> None:
        """Most bodies are what a client would send; claims are for what is there."""
        if where == f"POST {ATTEMPT}/claim" and (ids := self.dispatched()):
            case.path_parameters = {"attempt_id": ids[number % len(ids)]}
        if isinstance(case.body, dict) and number % 4:
            GOOD.get(where, _as_it_is)(case.body)

    @override
    def headers(self, case: Case) -> dict[str, str]:
        return {"x-api-key": WORKER_KEY if case.path.startswith("/worker") else self._key}

    @override
    def after(self, where: str, answer: Response) -> None:
        if answer.status_code == 200 and where in UPLOADS:
            self.put(answer.json(), UPLOADS[where])

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Let the service's loop do something."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(60)

    @override
    def clear(self) -> None:
        """No jobs, and nobody to tell of them; the workers stay."""

        async def delete() -> None:
            async with self._database.transaction() as session:
                for table in CLEARED:
                    await session.execute(text(f"DELETE FROM {table}"))  # noqa: S608
                # On a slow machine the walks take longer than a worker that says nothing lives.
                await session.execute(text("UPDATE workers SET last_seen_at = now()"))

        self.do(delete())

    def put(self, ticket: dict[str, Any], content: bytes) -> None:
        """Upload, as whoever got the ticket would."""
        answer = httpx.put(
            ticket["upload_url"], content=content, headers=ticket["headers"], trust_env=False
        )
        assert answer.status_code == 200, answer.text

    def dispatched(self) -> list[str]:
        """Dispatch what is due; the attempts that wait for a worker."""

        async def look() -> list[str]:
            await self._stage.dispatcher.run_once()
            async with self._database.transaction() as session:
                rows = await session.execute(
                    text("SELECT id FROM attempts WHERE status = 'DISPATCHED' ORDER BY id")
                )
                return [str(attempt_id) for attempt_id in rows.scalars()]

        return self.do(look())


def _good_upload(body: dict[str, Any]) -> None:
    body.update({"filename": "disc.png", "content_type": "image/png"})
    body.pop("size_bytes", None)
    body.pop("sha256", None)


def _good_job(body: dict[str, Any]) -> None:
    params = body.get("input_params")
    picture = params.get("image_path") if isinstance(params, dict) else None
    body.clear()
    if isinstance(picture, str) and picture.startswith("uploads/"):
        body.update({"model_id": "inflate-v1", "input_params": {"image_path": picture}})
    else:
        body.update({"model_id": "dreamfusion-sd", "input_params": {}, "prompt": "a teapot"})


def _good_artifact(body: dict[str, Any]) -> None:
    body.update(
        {
            "kind": "model_3d",
            "name": f"{uuid4().hex}.glb",
            "media_type": "model/gltf-binary",
            "size_bytes": len(GLB),
            "sha256": hashlib.sha256(GLB).hexdigest(),
        }
    )


def _as_it_is(_: dict[str, Any]) -> None:
    """What was drawn."""


UPLOADS = {f"POST {JOBS}/upload-ticket": png_bytes(), f"POST {ATTEMPT}/upload-tickets": GLB}
CLEARED = (
    *("deliveries", "webhooks", "notification_preferences"),
    *("artifacts", "upload_tickets", "job_events", "attempts", "jobs", "user_queue"),
)
GOOD = {
    f"POST {JOBS}/upload-ticket": _good_upload,
    f"POST {JOBS}/": _good_job,
    f"POST {ATTEMPT}/upload-tickets": _good_artifact,
}


def _with_redis(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the one link that is none over HTTP: from a job to an attempt's claim."""
    document = copy.deepcopy(document)
    path = f"{ATTEMPT}/claim".replace("/", "~1")
    claim = {
        "operationRef": f"#/paths/{path}/post",
        "parameters": {"attempt_id": "$response.body#/id"},  # see `Platform.before`
    }
    for path, status in ((f"{JOBS}/", "201"), (f"{JOBS}/{{job_id}}/retry", "200")):
        document["paths"][path]["post"]["responses"][status]["links"]["claim"] = claim
    return document


async def test_links_lead_on(app: FastAPI, api_url: str, people: People, stage: Stage) -> None:
    """Wherever the links lead, answers are documented ones; and they lead through a job's life."""
    person = await people.make(max_active_jobs=100)
    for number in range(20):
        await stage.worker.report(name=f"cpu-{number}")
        await stage.worker.report(
            name=f"gpu-{number}", queue="gpu", pipelines=("dreamfusion", "sf3d")
        )
    platform = Platform(api_url, stage, person.key)
    seen = await walk(
        _with_redis(app.openapi()), "/(jobs|models|worker)", platform, walks=WALKS, steps=STEPS
    )
    assert [step for step in SUCCEEDED if not seen[step]] == []
