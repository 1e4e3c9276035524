"""The routes of webhooks, deliveries, callbacks and preferences: good requests and bad ones."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from app.accounts.roles import Role
from app.config import Settings
from app.db.session import Database
from app.jobs.tables import Job
from app.notifications.service import MAX_WEBHOOKS
from tests.support.apps import another_app
from tests.support.outbox import WEBHOOKS
from tests.support.people import JOBS, People, Person
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written

URL = "https://hooks.example.com/3d"
EVENTS = ["job.created", "job.started", "job.completed", "job.failed", "job.cancelled"]


@pytest.fixture
async def ada(people: People) -> Person:
    return await people.make()


async def make(person: Person, **body: Any) -> dict[str, Any]:
    """A new webhook."""
    answer = await person.client.post(f"{WEBHOOKS}/", json={"url": URL, **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_life_of_a_webhook(ada: Person) -> None:
    """Created, read, listed, changed, disabled, enabled, deleted; its secret is shown once."""
    made = await make(ada, description="my site")
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert made["events"] == EVENTS
    assert made["enabled"] is True
    assert made["owner"] == str(ada.id)
    path = f"{WEBHOOKS}/{made['id']}"
    assert (await ada.client.get(path)).json() == made
    for spelling in (WEBHOOKS, f"{WEBHOOKS}/"):
        assert (await ada.client.get(spelling)).json() == {"items": [made], "next_cursor": None}
    change = {"url": "HTTPS://Other.example.com", "events": ["job.failed", "job.failed"]}
    changed = (await ada.client.patch(path, json=change)).json()
    new = {"url": "https://other.example.com/", "events": ["job.failed"]}
    assert changed == made | new
    disabled = (await ada.client.patch(path, json={"enabled": False})).json()
    assert disabled["enabled"] is False
    assert disabled["disabled_reason"]
    assert (await ada.client.patch(path, json={"enabled": True})).json() == changed
    answer = await ada.client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert_problem(await ada.client.get(path), 404, "WEBHOOK_NOT_FOUND")
    assert_problem(await ada.client.delete(path), 404, "WEBHOOK_NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "INVALID_REQUEST", "/url"),
        ({"url": ""}, "INVALID_REQUEST", "/url"),
        ({"url": 7}, "INVALID_REQUEST", "/url"),
        ({"url": URL, "events": []}, "INVALID_REQUEST", "/events"),
        ({"url": URL, "events": ["job.exploded"]}, "INVALID_REQUEST", "/events/0"),
        ({"url": URL, "description": "x" * 201}, "INVALID_REQUEST", "/description"),
        ({"url": URL, "secret": "whsec_mine"}, "INVALID_REQUEST", "/secret"),
        ({"url": "http://hooks.example.com/"}, "DESTINATION_REFUSED", "/url"),
        ({"url": "https://169.254.169.254/latest"}, "DESTINATION_REFUSED", "/url"),
        ({"url": "https://localhost/"}, "DESTINATION_REFUSED", "/url"),
        ({"url": "https://hooks.example.com:22/"}, "DESTINATION_REFUSED", "/url"),
    ],
)
async def test_bad_webhooks(
    body: dict[str, Any], code: str, pointer: str, ada: Person, database: Database
) -> None:
    """Each is refused with the place of what is wrong, and nothing is kept."""
    async with nothing_written(database):
        answer = await ada.client.post(f"{WEBHOOKS}/", json=body)
    assert_problem(answer, 422, code, pointer=pointer)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "INVALID_REQUEST"),
        ({"url": None}, "INVALID_REQUEST"),
        ({"enabled": "perhaps"}, "INVALID_REQUEST"),
        ({"owner": str(uuid4())}, "INVALID_REQUEST"),
        ({"url": "https://10.0.0.1/", "description": "x"}, "DESTINATION_REFUSED"),
    ],
)
async def test_bad_changes(body: dict[str, Any], code: str, ada: Person) -> None:
    """A change that is refused changes nothing."""
    made = await make(ada)
    del made["secret"]
    assert_problem(await ada.client.patch(f"{WEBHOOKS}/{made['id']}", json=body), 422, code)
    assert (await ada.client.get(f"{WEBHOOKS}/{made['id']}")).json() == made


async def test_as_many_as_one_may_have(ada: Person, people: People) -> None:
    """One more than the limit is refused; a colleague has a limit of their own."""
    for _ in range(MAX_WEBHOOKS):
        await make(ada)
    answer = await ada.client.post(f"{WEBHOOKS}/", json={"url": URL})
    assert_problem(answer, 409, "TOO_MANY_WEBHOOKS")
    await make(await people.make())


async def test_pages(ada: Person) -> None:
    """A list is cut into pages, newest first."""
    ids = [(await make(ada))["id"] for _ in range(3)]
    first = (await ada.client.get(f"{WEBHOOKS}/", params={"limit": 2})).json()
    rest = (await ada.client.get(f"{WEBHOOKS}/", params={"cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
    answer = await ada.client.get(f"{WEBHOOKS}/", params={"cursor": "nonsense"})
    assert_problem(answer, 422, "INVALID_REQUEST")


async def test_who_sees_whose(people: People) -> None:
    """An operator lists what is theirs; an admin what is the organisation's; nobody else's."""
    ada, bob = await people.make(), await people.make()
    admin = await people.make(role=Role.ADMIN)
    stranger = await people.make(role=Role.ADMIN, organisation="Globex")
    for person in (ada, bob):
        webhook = await make(person)
        await person.client.post(f"{WEBHOOKS}/{webhook['id']}/test")
    for path, owner in (("", "owner"), ("/deliveries", None)):
        listed = {}
        for name, person in {"ada": ada, "admin": admin, "stranger": stranger}.items():
            listed[name] = (await person.client.get(f"{WEBHOOKS}{path}")).json()["items"]
        assert [len(items) for items in listed.values()] == [1, 2, 0]
        if owner:
            assert [item[owner] for item in listed["ada"]] == [str(ada.id)]


async def test_deliveries_are_filtered(ada: Person) -> None:
    """By webhook, job, channel and state."""
    one, _ = await make(ada, events=["job.created"]), await make(ada, events=["job.created"])
    await ada.client.post(f"{WEBHOOKS}/{one['id']}/test")
    job = await ada.job(callback_url=URL)

    async def count(path: str, **params: str) -> int:
        answer = await ada.client.get(f"{WEBHOOKS}{path}", params=params)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["items"])

    assert await count("/deliveries") == 4
    assert await count("/deliveries", job_id=job["id"]) == 3
    assert await count("/deliveries", channel="callback") == 1
    assert await count("/deliveries", status="DELIVERED") == 0
    assert await count(f"/{one['id']}/deliveries") == 2
    assert await count(f"/{one['id']}/deliveries", status="PENDING") == 2
    answer = await ada.client.get(f"{WEBHOOKS}/deliveries", params={"status": "LOST"})
    assert_problem(answer, 422, "INVALID_REQUEST")


async def test_callback_is_kept(ada: Person, database: Database) -> None:
    """A callback is normalised and kept with its job, and shown to nobody who may read the job."""
    job = await ada.job(callback_url="HTTPS://Hooks.example.com?token=secret")
    assert "token" not in str(job)
    async with database.transaction() as session:
        url = await session.execute(select(Job.callback_url).where(Job.id == UUID(job["id"])))
        assert url.scalar_one() == "https://hooks.example.com/?token=secret"


@pytest.mark.parametrize("route", ["", "validate"])
async def test_bad_callback(route: str, ada: Person, database: Database) -> None:
    """Creating and validating refuse a callback in the same words, and write nothing."""
    body = {
        "model_id": "dreamfusion-sd",
        "prompt": "a teapot",
        "callback_url": "https://127.0.0.1/hook",
    }
    async with nothing_written(database):
        answer = await ada.client.post(f"{JOBS}/{route}", json=body)
    assert_problem(answer, 422, "DESTINATION_REFUSED", pointer="/callback_url")


async def test_callback_and_idempotency(ada: Person) -> None:
    """A callback is part of the request: the same replays, another one is another request."""
    body = {"model_id": "dreamfusion-sd", "prompt": "a teapot"}
    headers = {"Idempotency-Key": "one"}

    async def create(**more: str) -> Any:
        return await ada.client.post(f"{JOBS}/", json={**body, **more}, headers=headers)

    first = await create(callback_url=URL)
    again = await create(callback_url=URL)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert_problem(await create(), 422, "IDEMPOTENCY_KEY_REUSED")


async def test_http_by_setting(ada: Person, settings: Settings) -> None:
    """A site may allow http."""
    async with another_app(settings, webhook_allow_http=True) as client:
        answer = await client.post(
            f"{WEBHOOKS}/", json={"url": "http://a.example"}, headers={"x-api-key": ada.key}
        )
    assert answer.status_code == 201, answer.text


async def test_callback_secret_is_new_each_time(ada: Person) -> None:
    """Each call answers another secret."""
    path = "/api/v1/notifications/callback-secret"
    secrets = [(await ada.client.post(path)).json()["secret"] for _ in range(3)]
    assert len(set(secrets)) == 3


async def test_preferences_without_an_address(ada: Person) -> None:
    """Nobody can ask for e-mail who has no address; off is always possible."""
    path = "/api/v1/notifications"
    assert (await ada.client.get(path)).json() == {"email": "off", "email_available": False}
    answer = await ada.client.patch(path, json={"email": "all"})
    assert_problem(answer, 409, "EMAIL_UNAVAILABLE")
    answer = await ada.client.patch(path, json={"email": "sometimes"})
    assert_problem(answer, 422, "INVALID_REQUEST", pointer="/email")
