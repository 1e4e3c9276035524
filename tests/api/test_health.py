"""Liveness and readiness."""

from typing import Any

import httpx
import pytest

from app.config import Settings
from app.db.session import Database
from tests.support.apps import DEAD_PORT, another_app

PREFIXES = pytest.mark.parametrize("prefix", ["", "/api/v1"])


@PREFIXES
async def test_livez(http: httpx.AsyncClient, prefix: str) -> None:
    """The process says that it is alive, without a key, at the root and beside the API."""
    answer = await http.get(f"{prefix}/livez")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


@PREFIXES
@pytest.mark.parametrize("path", ["readyz", "health"])
async def test_ready(http: httpx.AsyncClient, database: Database, prefix: str, path: str) -> None:
    """With every server there, readiness says so of each of them."""
    answer = await http.get(f"{prefix}/{path}")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    found = answer.json()["dependencies"]
    assert set(found) == {"database", "storage", "redis"}
    assert all(item["ok"] and item["error"] is None for item in found.values())


@pytest.mark.parametrize(
    ("missing", "changes", "status", "word"),
    [
        (
            "database",
            {"database_url": f"postgresql+asyncpg://u:secret-word@127.0.0.1:{DEAD_PORT}/x"},
            503,
            "unavailable",
        ),
        ("storage", {"minio_endpoint": f"http://127.0.0.1:{DEAD_PORT}"}, 503, "unavailable"),
        ("redis", {"redis_url": f"redis://:secret-word@127.0.0.1:{DEAD_PORT}/0"}, 200, "degraded"),
    ],
)
async def test_what_is_missing_is_named(
    settings: Settings,
    database: Database,
    missing: str,
    changes: dict[str, Any],
    status: int,
    word: str,
) -> None:
    """A server that is away is named without its address or password; Redis alone is no outage."""
    async with another_app(settings, **changes) as client:
        answer = await client.get("/readyz")
        alive = await client.get("/livez")
    assert answer.status_code == status
    assert answer.json()["status"] == word
    found = answer.json()["dependencies"]
    assert [name for name, item in found.items() if not item["ok"]] == [missing]
    assert found[missing]["error"]
    assert "secret-word" not in answer.text
    assert "127.0.0.1" not in answer.text
    assert alive.status_code == 200


async def test_bucket_that_is_gone_is_made_again(settings: Settings, database: Database) -> None:
    """A bucket that is missing is made, so that an empty store becomes ready by itself."""
    async with another_app(settings) as client:
        client._transport.app.state.store._bucket = "never-made"
        answer = await client.get("/readyz")
        assert await client._transport.app.state.store._call(
            client._transport.app.state.store._client.bucket_exists, "never-made"
        )
    assert answer.status_code == 200
