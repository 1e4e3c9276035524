"""Users of the API as tests need them."""

import hashlib
import io
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import httpx
from PIL import Image, ImageDraw

from app.accounts.principal import Principal
from app.accounts.roles import Role
from app.accounts.service import create_api_key, create_user, get_or_create_organisation
from app.accounts.tables import User
from app.config import Settings
from app.db.session import Database

JOBS = "/api/v1/jobs"
AUTH = "/api/v1/auth"

PASSWORD = "Correct-Horse-9"
"""What everybody logs in with."""


def png_bytes(size: int = 64) -> bytes:
    """A small picture of a disc on a transparent ground."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    margin = size // 6
    ImageDraw.Draw(image).ellipse(
        (margin, margin, size - margin, size - margin), (200, 80, 40, 255)
    )
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@dataclass
class Person:
    """A user with a key, and the calls that tests make most."""

    id: UUID
    username: str
    key: str
    client: httpx.AsyncClient

    async def upload(
        self,
        data: bytes | None = None,
        *,
        filename: str = "picture.png",
        content_type: str = "image/png",
        with_promises: bool = False,
    ) -> str:
        """Upload bytes by a ticket; answers the object's name."""
        data = png_bytes() if data is None else data
        body: dict[str, Any] = {"filename": filename, "content_type": content_type}
        if with_promises:
            body |= {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        answer = await self.client.post(f"{JOBS}/upload-ticket", json=body)
        assert answer.status_code == 200, answer.text
        ticket = answer.json()
        async with httpx.AsyncClient(trust_env=False) as storage:
            put = await storage.put(ticket["upload_url"], content=data, headers=ticket["headers"])
        assert put.status_code == 200, put.text
        return str(ticket["object_name"])

    async def submit(self, **body: Any) -> httpx.Response:
        """Ask for a job, by default of `inflate-v1` with a fresh upload."""
        headers = body.pop("headers", {})
        if "input_params" not in body:
            body["input_params"] = {"image_path": await self.upload()}
        return await self.client.post(
            f"{JOBS}/", json={"model_id": "inflate-v1", **body}, headers=headers
        )

    async def job(self, **body: Any) -> dict[str, Any]:
        """A job that was accepted."""
        answer = await self.submit(**body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def get(self, job_id: object) -> dict[str, Any]:
        """The job as it is now."""
        answer = await self.client.get(f"{JOBS}/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def log_in(self) -> dict[str, Any]:
        """The tokens of a new session."""
        body = {"username": self.username, "password": PASSWORD}
        answer = await self.client.post(f"{AUTH}/login", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def another_key(self, **wanted: Any) -> dict[str, Any]:
        """A new key beside the first one."""
        answer = await self.client.post("/api/v1/keys/", json={"name": "another", **wanted})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def principal(self, database: Database) -> Principal:
        """Who this is, as the services see it."""
        async with database.transaction() as session:
            user = await session.get_one(User, self.id)
            return Principal(user.id, user.organisation_id, user.username, Role(user.role))

    async def events(self, job_id: object) -> list[str]:
        """The types of the job's events."""
        answer = await self.client.get(f"{JOBS}/{job_id}/events")
        assert answer.status_code == 200, answer.text
        return [event["type"] for event in answer.json()["items"]]


class People:
    """Makes users; their clients are closed at the end."""

    def __init__(self, database: Database, settings: Settings, api_url: str) -> None:
        self._database = database
        self._settings = settings
        self._api_url = api_url
        self._stack = AsyncExitStack()
        self._count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def make(
        self,
        *,
        role: Role = Role.OPERATOR,
        organisation: str = "Acme",
        max_active_jobs: int | None = None,
    ) -> Person:
        """A new user with an API key."""
        self._count += 1
        async with self._database.transaction() as session:
            org, _ = await get_or_create_organisation(session, organisation)
            user = await create_user(
                session,
                organisation=org,
                username=f"user{self._count}",
                password=PASSWORD,
                role=role,
            )
            user.max_active_jobs = max_active_jobs
            _, key = await create_api_key(
                session, secret_key=self._settings.secret_key.get_secret_value(), user=user
            )
        client = await self._stack.enter_async_context(
            httpx.AsyncClient(
                base_url=self._api_url,
                headers={"x-api-key": key},
                trust_env=False,
                timeout=70,
            )
        )
        return Person(user.id, user.username, key, client)
