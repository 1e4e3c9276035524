"""Every route of the OpenAPI document for every kind of caller: what each is answered."""

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.accounts.roles import Role
from app.accounts.service import create_api_key, revoke_key
from app.accounts.tables import User
from app.config import Settings
from contract.attempts import ATTEMPT_TOKEN_HEADER, JobSpec
from tests.conftest import WORKER_KEY
from tests.support.jobs import dispatch
from tests.support.outbox import WEBHOOKS
from tests.support.people import AUTH, JOBS, PASSWORD, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written
from tests.support.runs import Stage
from tests.support.worker import GLB, MP4

CALLERS = ("owner", "admin", "operator", "viewer", "stranger", "revoked", "worker", "nobody")
"""The job's owner, three colleagues, an operator of another organisation, the owner's revoked key,
a worker's key, and no key at all."""

MODELS = "/api/v1/models"
USERS, KEYS = "/api/v1/users", "/api/v1/keys"
VIDEOS = "/api/v1/videos"
ATTEMPT = "/worker/v1/attempts/{attempt_id}"
NOTIFICATIONS = "/api/v1/notifications"

# One status for each of CALLERS, in their order.
ANYBODY = "200 200 200 200 200 200 200 200"
PEOPLE = "200 200 200 200 200 401 403 401"
READS_JOB = "200 200 403 200 404 401 403 401"
CONTROLS_JOB = "200 200 403 403 404 401 403 401"
REPRODUCES = "201 201 403 403 404 401 403 401"
UPLOADS = "200 200 200 403 200 401 403 401"
# With the owner's upload, which is nobody else's to use.
VALIDATES = "200 404 404 403 404 401 403 401"
CREATES = "201 404 404 403 404 401 403 401"
SENDS_VIDEO = "202 202 202 403 202 401 403 401"
WORKER = "403 403 403 403 403 401 200 401"
# Admins of their own organisation; what is the owner's is not the stranger's.
ADMINS = "403 200 403 403 200 401 403 401"
MANAGES_OWNER = "403 200 403 403 404 401 403 401"
# For oneself, if the role may have any at all.
MAY_HAVE_WEBHOOKS = "200 200 200 403 200 401 403 401"
CREATES_WEBHOOK = "201 201 201 403 201 401 403 401"
MANAGES_WEBHOOK = "200 200 403 403 404 401 403 401"
DELETES_WEBHOOK = "204 204 403 403 404 401 403 401"
SENDS_TO_WEBHOOK = "202 202 403 403 404 401 403 401"

MATRIX = {
    "GET /livez": ANYBODY,
    "GET /readyz": ANYBODY,
    "GET /health": ANYBODY,
    f"GET {MODELS}/": PEOPLE,
    f"GET {MODELS}/{{model_id}}": PEOPLE,
    f"GET {JOBS}/": PEOPLE,
    f"GET {JOBS}/metrics": PEOPLE,
    "GET /api/v1/usage": PEOPLE,
    f"POST {JOBS}/": CREATES,
    f"POST {JOBS}/validate": VALIDATES,
    f"POST {JOBS}/upload-ticket": UPLOADS,
    f"GET {JOBS}/{{job_id}}": READS_JOB,
    f"GET {JOBS}/{{job_id}}/events": READS_JOB,
    f"GET {JOBS}/{{job_id}}/artifacts": READS_JOB,
    f"GET {JOBS}/{{job_id}}/artifacts/{{kind}}": READS_JOB,
    f"GET {JOBS}/{{job_id}}/download": READS_JOB,
    f"DELETE {JOBS}/{{job_id}}": CONTROLS_JOB,
    f"GET {JOBS}/{{job_id}}/status": READS_JOB,
    f"POST {JOBS}/{{job_id}}/cancel": CONTROLS_JOB,
    f"POST {JOBS}/{{job_id}}/retry": CONTROLS_JOB,
    f"POST {JOBS}/{{job_id}}/reproduce": REPRODUCES,
    f"POST {AUTH}/register": "403 403 403 403 403 403 403 403",  # closed, as it is by default
    f"POST {AUTH}/login": ANYBODY,
    f"POST {AUTH}/refresh": ANYBODY,
    f"POST {AUTH}/logout": "409 409 409 409 409 401 403 401",  # a key has no session
    f"GET {AUTH}/me": PEOPLE,
    f"POST {AUTH}/change-password": "204 204 204 204 204 401 403 401",
    f"GET {USERS}/": ADMINS,
    f"POST {USERS}/": "403 201 403 403 201 401 403 401",
    f"GET {USERS}/{{user_id}}": MANAGES_OWNER,
    f"PATCH {USERS}/{{user_id}}": MANAGES_OWNER,
    f"GET {KEYS}/": PEOPLE,
    f"POST {KEYS}/": "201 201 201 201 201 401 403 401",
    f"POST {KEYS}/{{key_id}}/rotate": "201 403 403 403 404 401 403 401",
    f"DELETE {KEYS}/{{key_id}}": "204 204 403 403 404 401 403 401",
    "GET /api/v1/audit/": ADMINS,
    f"POST {VIDEOS}/upload": SENDS_VIDEO,
    f"GET {VIDEOS}": PEOPLE,
    f"GET {VIDEOS}/{{video_id}}": READS_JOB,
    f"DELETE {VIDEOS}/{{video_id}}": CONTROLS_JOB,
    f"GET {WEBHOOKS}/": MAY_HAVE_WEBHOOKS,
    f"POST {WEBHOOKS}/": CREATES_WEBHOOK,
    f"GET {WEBHOOKS}/deliveries": MAY_HAVE_WEBHOOKS,
    f"POST {WEBHOOKS}/deliveries/{{delivery_id}}/redeliver": SENDS_TO_WEBHOOK,
    f"GET {WEBHOOKS}/{{webhook_id}}": MANAGES_WEBHOOK,
    f"PATCH {WEBHOOKS}/{{webhook_id}}": MANAGES_WEBHOOK,
    f"DELETE {WEBHOOKS}/{{webhook_id}}": DELETES_WEBHOOK,
    f"POST {WEBHOOKS}/{{webhook_id}}/test": SENDS_TO_WEBHOOK,
    f"POST {WEBHOOKS}/{{webhook_id}}/rotate-secret": MANAGES_WEBHOOK,
    f"GET {WEBHOOKS}/{{webhook_id}}/deliveries": MANAGES_WEBHOOK,
    f"GET {NOTIFICATIONS}": PEOPLE,
    f"PATCH {NOTIFICATIONS}": PEOPLE,
    f"POST {NOTIFICATIONS}/callback-secret": MAY_HAVE_WEBHOOKS,
    "POST /worker/v1/workers/heartbeat": WORKER,
    f"POST {ATTEMPT}/claim": WORKER,
    f"POST {ATTEMPT}/heartbeat": WORKER,
    f"POST {ATTEMPT}/upload-tickets": WORKER,
    f"POST {ATTEMPT}/artifacts": WORKER,
    f"POST {ATTEMPT}/streams": WORKER,
    f"POST {ATTEMPT}/streams/parts": WORKER,
    f"POST {ATTEMPT}/streams/complete": WORKER,
    f"POST {ATTEMPT}/finish": WORKER,
}


@dataclass
class Target:
    """What the owner has for a route to be tried on: names in its path, body or files, headers."""

    names: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    files: dict[str, tuple[str, bytes]] | None = None
    headers: dict[str, str] = field(default_factory=dict)


Prepare = Callable[[Stage, Person], Awaitable[Target]]


def _just(body: dict[str, Any] | None = None, **names: str) -> Prepare:
    async def prepare(stage: Stage, owner: Person) -> Target:
        return Target(names, body)

    return prepare


async def _done(stage: Stage, owner: Person) -> Target:
    job = await stage.succeeded(owner)
    return Target({"job_id": job["id"], "kind": "model_3d"})


async def _refreshable(stage: Stage, owner: Person) -> Target:
    return Target(body={"refresh_token": (await owner.log_in())["refresh_token"]})


async def _login(stage: Stage, owner: Person) -> Target:
    return Target(body={"username": owner.username, "password": PASSWORD})


async def _new_user(stage: Stage, owner: Person) -> Target:
    return Target(body={"username": f"user-{uuid4().hex}"})


async def _colleague(stage: Stage, owner: Person) -> Target:
    return Target({"user_id": str(owner.id)}, {"email": f"{uuid4().hex}@example.org"})


async def _key(stage: Stage, owner: Person) -> Target:
    return Target({"key_id": (await owner.another_key())["id"]}, {})


async def _waiting(stage: Stage, owner: Person) -> Target:
    return Target({"job_id": (await owner.job())["id"]})


async def _cancelled(stage: Stage, owner: Person) -> Target:
    target = await _waiting(stage, owner)
    await owner.client.post(f"{JOBS}/{target.names['job_id']}/cancel")
    return target


_WEBHOOK = {"url": "https://hooks.example.com/"}


def _webhook(body: dict[str, Any] | None = None) -> Prepare:
    async def prepare(stage: Stage, owner: Person) -> Target:
        made = (await owner.client.post(f"{WEBHOOKS}/", json=_WEBHOOK)).json()
        return Target({"webhook_id": made["id"]}, body)

    return prepare


async def _delivery(stage: Stage, owner: Person) -> Target:
    made = await _webhook()(stage, owner)
    test = await owner.client.post(f"{WEBHOOKS}/{made.names['webhook_id']}/test")
    return Target({"delivery_id": test.json()["id"]})


async def _new_job(stage: Stage, owner: Person) -> Target:
    body = {"model_id": "inflate-v1", "input_params": {"image_path": await owner.upload()}}
    return Target(body=body)


async def _form(stage: Stage, owner: Person) -> Target:
    return Target(files={"files": ("talk.mp4", MP4)})


async def _video(stage: Stage, owner: Person) -> Target:
    form = await _form(stage, owner)
    answer = await owner.client.post(f"{VIDEOS}/upload", files=form.files)
    return Target({"video_id": answer.json()["job_id"]})


async def _dispatched(stage: Stage, owner: Person) -> Target:
    await stage.worker.report()
    attempt = await dispatch(stage.database, stage.dispatcher, (await owner.job())["id"])
    body = {"worker_name": stage.worker.name, "claim_id": str(uuid4())}
    return Target({"attempt_id": str(attempt)}, body)


def _fenced(spec: JobSpec, body: dict[str, Any]) -> Target:
    """With the attempt's token for all: without a worker's key it opens nothing."""
    token = {ATTEMPT_TOKEN_HEADER: spec.attempt_token}
    return Target({"attempt_id": str(spec.attempt_id)}, body, headers=token)


def _running(body: dict[str, Any]) -> Prepare:
    async def prepare(stage: Stage, owner: Person) -> Target:
        _, spec = await stage.running(owner)
        return _fenced(spec, body)

    return prepare


async def _uploaded(stage: Stage, owner: Person) -> Target:
    _, spec = await stage.running(owner)
    ticket = (await stage.worker.ticket(spec)).json()
    await stage.worker.put(ticket)
    return _fenced(spec, {"ticket_id": ticket["ticket_id"]})


async def _begun(stage: Stage, owner: Person) -> Target:
    _, spec = await stage.running(owner)
    begun = await stage.worker.call(spec, "streams", _FILE)
    return _fenced(spec, {"ticket_id": begun.json()["ticket_id"], "first": 1, "count": 1})


async def _streamed(stage: Stage, owner: Person) -> Target:
    _, spec = await stage.running(owner)
    return _fenced(spec, await stage.worker.stream(spec))


_FILE = {"kind": "model_3d", "name": "model.glb", "media_type": "model/gltf-binary"}
_FAILED = {"outcome": "failed", "code": "OOPS", "message": "it broke", "permanent": True}
_WORKER = {
    "name": "another-worker",
    "hostname": "test",
    "version": "0",
    "queue": "cpu",
    "started_at": "2026-01-01T00:00:00Z",
    "cpu_count": 1,
    "memory_total_mib": 1024,
}
PREPARE: dict[str, Prepare] = {
    f"GET {MODELS}/{{model_id}}": _just(model_id="inflate-v1"),
    f"POST {JOBS}/": _new_job,
    f"POST {JOBS}/validate": _new_job,
    f"POST {JOBS}/upload-ticket": _just({"filename": "a.png", "content_type": "image/png"}),
    f"DELETE {JOBS}/{{job_id}}": _waiting,
    f"POST {JOBS}/{{job_id}}/cancel": _waiting,
    f"POST {JOBS}/{{job_id}}/retry": _cancelled,
    f"POST {AUTH}/register": _just({"username": "new-one", "password": PASSWORD}),
    f"POST {AUTH}/login": _login,
    f"POST {AUTH}/refresh": _refreshable,
    f"POST {AUTH}/change-password": _just(
        {"current_password": PASSWORD, "new_password": "Battery-Staple-7"}
    ),
    f"POST {USERS}/": _new_user,
    f"GET {USERS}/{{user_id}}": _colleague,
    f"PATCH {USERS}/{{user_id}}": _colleague,
    f"POST {KEYS}/": _just({"name": "another"}),
    f"POST {KEYS}/{{key_id}}/rotate": _key,
    f"DELETE {KEYS}/{{key_id}}": _key,
    f"POST {VIDEOS}/upload": _form,
    f"GET {VIDEOS}/{{video_id}}": _video,
    f"DELETE {VIDEOS}/{{video_id}}": _video,
    f"POST {WEBHOOKS}/": _just(_WEBHOOK),
    f"POST {WEBHOOKS}/deliveries/{{delivery_id}}/redeliver": _delivery,
    f"PATCH {WEBHOOKS}/{{webhook_id}}": _webhook({"enabled": False}),
    f"PATCH {NOTIFICATIONS}": _just({"email": "off"}),
    "POST /worker/v1/workers/heartbeat": _just(_WORKER),
    f"POST {ATTEMPT}/claim": _dispatched,
    f"POST {ATTEMPT}/heartbeat": _running({}),
    f"POST {ATTEMPT}/upload-tickets": _running(
        {**_FILE, "size_bytes": len(GLB), "sha256": hashlib.sha256(GLB).hexdigest()}
    ),
    f"POST {ATTEMPT}/artifacts": _uploaded,
    f"POST {ATTEMPT}/streams": _running(_FILE),
    f"POST {ATTEMPT}/streams/parts": _begun,
    f"POST {ATTEMPT}/streams/complete": _streamed,
    f"POST {ATTEMPT}/finish": _running(_FAILED),
}


def _usual(path: str) -> Prepare:
    if "{job_id}" in path:
        return _done
    return _webhook() if "{webhook_id}" in path else _just()


@pytest.fixture
async def owner(people: People, stage: Stage) -> Person:
    """Has what all callers are tried on, so there are workers for as many attempts."""
    for number in range(len(CALLERS)):
        await stage.worker.report(name=f"test-worker-{number}")
    return await people.make(max_active_jobs=len(CALLERS))


@pytest.fixture
async def keys(people: People, owner: Person, settings: Settings, stage: Stage) -> dict[str, str]:
    """The key of each kind of caller; the one without has none."""
    async with stage.database.transaction() as session:
        user = await session.get_one(User, owner.id)
        secret = settings.secret_key.get_secret_value()
        row, revoked = await create_api_key(session, secret_key=secret, user=user, name="old")
        await revoke_key(session, row)
    return {
        "owner": owner.key,
        "admin": (await people.make(role=Role.ADMIN)).key,
        "operator": (await people.make(role=Role.OPERATOR)).key,
        "viewer": (await people.make(role=Role.VIEWER)).key,
        "stranger": (await people.make(role=Role.ADMIN, organisation="Globex")).key,
        "revoked": revoked,
        "worker": WORKER_KEY,
    }


def _routes(app: FastAPI) -> set[str]:
    paths = app.openapi()["paths"]
    return {f"{method.upper()} {path}" for path, item in paths.items() for method in item}


def test_every_route_has_a_row(app: FastAPI) -> None:
    """A route without a row has not been thought about, and a row without a route is left over."""
    assert _routes(app) == MATRIX.keys()


def test_hidden_routes_are_other_spellings(app: FastAPI) -> None:
    """A route that the document leaves out is one of its rows by another spelling, or a page."""
    spelled = {_spelled(row) for row in MATRIX}
    pages = {"GET /docs", "GET /redoc", "GET /openapi.json", "GET /docs/oauth2-redirect"}
    served = {_spelled(route) for route in _served(app)}
    assert spelled <= served
    assert served <= spelled | pages


def _spelled(route: str) -> str:
    return route.rstrip("/").replace("/api/v1", "")


def _served(router: Any, prefix: str = "") -> Iterator[str]:
    for item in router.routes:
        if included := getattr(item, "original_router", None):
            yield from _served(included, prefix + item.include_context.prefix)
            continue
        for method in (getattr(item, "methods", None) or set()) - {"HEAD"}:
            yield f"{method} {prefix}{item.path}"


@pytest.mark.parametrize("row", MATRIX)
async def test_row(
    row: str, stage: Stage, owner: Person, keys: dict[str, str], http: httpx.AsyncClient
) -> None:
    """Each caller gets the row's answer about the owner's things; the refused leave no trace."""
    method, _, path = row.partition(" ")
    prepare = PREPARE.get(row, _usual(path))
    expected = dict(zip(CALLERS, map(int, MATRIX[row].split()), strict=True))
    refused = await prepare(stage, owner)
    found = {}
    for caller in sorted(CALLERS, key=lambda caller: expected[caller] < 400):  # the refused first
        key = {"x-api-key": keys[caller]} if caller in keys else {}

        async def ask(target: Target, key: dict[str, str] = key) -> httpx.Response:
            url = path.format(**target.names)
            return await http.request(
                method,
                url,
                json=target.body,
                files=target.files,
                headers={**key, **target.headers},
            )

        if expected[caller] < 400:
            found[caller] = (await ask(await prepare(stage, owner))).status_code
            continue
        async with nothing_written(stage.database):
            answer = await ask(refused)
        found[caller] = answer.status_code
        if answer.is_error:
            assert_problem(answer, answer.status_code, answer.json()["code"])
    assert found == expected
