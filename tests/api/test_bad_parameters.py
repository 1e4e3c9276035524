"""Requests for a job that no model can run."""

from typing import Any

import httpx
import pytest

from app.db.session import Database
from tests.support.people import JOBS
from tests.support.problems import assert_problem
from tests.support.rows import nothing_written

IMAGE = "uploads/01a1f888-7332-7128-a621-0e7d53df5f83/01a1f888-7332-7128-a621-0e7d53df5f83/a.png"


@pytest.mark.parametrize("model_id", ["nothing", "INFLATE-V1", " inflate-v1", "../x", "茶"])
async def test_unknown_model(
    admin: httpx.AsyncClient, raw_database: Database, model_id: str
) -> None:
    """A model that does not exist is answered with those that do."""
    async with nothing_written(raw_database):
        answer = await admin.post(f"{JOBS}/", json={"model_id": model_id})
    body = assert_problem(answer, 404, "MODEL_NOT_FOUND", pointer="/model_id")
    assert "inflate-v1" in body["detail"]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({}, "/input_params/image_path"),
        ({"image_path": None}, "/input_params/image_path"),
        ({"image_path": 1}, "/input_params/image_path"),
        ({"image_path": ["a"]}, "/input_params/image_path"),
        ({"texture_resolution": 1000}, "/input_params/texture_resolution"),
        ({"texture_resolution": "1024"}, "/input_params/texture_resolution"),
        ({"foreground_ratio": 0}, "/input_params/foreground_ratio"),
        ({"foreground_ratio": 1.01}, "/input_params/foreground_ratio"),
        ({"vertex_count": 50}, "/input_params/vertex_count"),
        ({"vertex_count": -2}, "/input_params/vertex_count"),
        ({"vertex_count": 1000.5}, "/input_params/vertex_count"),
        ({"thickness": True}, "/input_params/thickness"),
        ({"relief": -0.1}, "/input_params/relief"),
        ({"seed": 2**31}, "/input_params/seed"),
        ({"box": [0, 0, 1]}, "/input_params/box"),
        ({"box": [0, 0, 1, 2]}, "/input_params/box/3"),
        ({"box": [0, 0, 1, "1"]}, "/input_params/box/3"),
        ({"box": "0,0,1,1"}, "/input_params/box"),
        ({"formats": []}, "/input_params/formats"),
        ({"formats": "obj"}, "/input_params/formats"),
        ({"formats": ["glb", "glb"]}, "/input_params/formats"),
        ({"formats": ["obj", "fbx"]}, "/input_params/formats/1"),
        ({"formats": ["OBJ"]}, "/input_params/formats/0"),
        ({"formats": [None]}, "/input_params/formats/0"),
        ({"unknown": 1}, "/input_params/unknown"),
        ({"Seed": 1}, "/input_params/Seed"),
        ({"": 1}, "/input_params/"),
        ({"a/b~c": 1}, "/input_params/a~1b~0c"),
        ({"__proto__": {}}, "/input_params/__proto__"),
    ],
)
async def test_parameters_outside_the_schema(
    admin: httpx.AsyncClient, raw_database: Database, params: dict[str, Any], pointer: str
) -> None:
    """A parameter outside the model's schema is named by its JSON pointer."""
    given = params if not params or "image_path" in params else {"image_path": IMAGE, **params}
    async with nothing_written(raw_database):
        answer = await admin.post(
            f"{JOBS}/", json={"model_id": "inflate-v1", "input_params": given}
        )
    body = assert_problem(answer, 422, "INVALID_PARAMETERS", pointer=pointer)
    assert body["detail"].startswith(f"{pointer}: ")


async def test_every_wrong_parameter_is_named(admin: httpx.AsyncClient) -> None:
    """Several wrong parameters are named in one answer."""
    params = {"texture_resolution": 1, "relief": 9, "seed": -1}
    answer = await admin.post(f"{JOBS}/", json={"model_id": "inflate-v1", "input_params": params})
    body = assert_problem(answer, 422, "INVALID_PARAMETERS")
    assert {error["pointer"] for error in body["errors"]} == {
        f"/input_params/{name}" for name in ("image_path", "texture_resolution", "relief", "seed")
    }


@pytest.mark.parametrize("prompt", [None, "", "   ", "\n\t"])
async def test_missing_prompt(
    admin: httpx.AsyncClient, raw_database: Database, prompt: str | None
) -> None:
    """A model that makes things of words is not run without any."""
    async with nothing_written(raw_database):
        answer = await admin.post(f"{JOBS}/", json={"model_id": "dreamfusion-sd", "prompt": prompt})
    body = assert_problem(answer, 422, "INVALID_PROMPT", pointer="/prompt")
    assert "needs a prompt" in body["detail"]


async def test_unwanted_prompt(admin: httpx.AsyncClient, raw_database: Database) -> None:
    """A model that takes no prompt says so, rather than ignore it."""
    body = {"model_id": "inflate-v1", "input_params": {"image_path": IMAGE}, "prompt": "a teapot"}
    async with nothing_written(raw_database):
        answer = await admin.post(f"{JOBS}/", json=body)
    problem = assert_problem(answer, 422, "INVALID_PROMPT", pointer="/prompt")
    assert "takes no prompt" in problem["detail"]
