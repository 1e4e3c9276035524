"""A job is made again by a real worker, which says whether the result is the same."""

import json
from pathlib import Path
from typing import Any

import httpx

from devstack.client import Client
from devstack.stack import Stack
from tests.e2e.conftest import SAMPLE


def reproduce(stack: Stack, job_id: str) -> str:
    """A new job that makes one again."""
    answer = httpx.post(
        f"{stack.api_url}/api/v1/jobs/{job_id}/reproduce",
        headers={"x-api-key": stack.admin_api_key},
        trust_env=False,
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["reproduces"] == job_id
    return str(answer.json()["id"])


def files(client: Client, job_id: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """The SHA-256 of a job's model, and what its manifest says, when it has succeeded."""
    *_, ended = client.watch(job_id)
    assert ended["status"] == "SUCCEEDED", ended["error"]
    by_kind = {item["kind"]: item for item in client.artifacts(job_id)}
    path = folder / "manifest.json"
    client.download(by_kind["manifest"]["url"], path)
    return by_kind["model_3d"]["sha256"], json.loads(path.read_text())


def test_inflate_is_bit_equal(stack: Stack, client: Client, tmp_path: Path) -> None:
    """`inflate-v1` makes the same bytes of the same picture, in a process that is new, too."""
    params = {"image_path": client.upload(SAMPLE), "seed": 5, "texture_resolution": 512}
    job_id = client.create_job("inflate-v1", params)["id"]
    sha256, original = files(client, job_id, tmp_path)
    assert "reproduction" not in original

    for restart in (False, True):
        if restart:
            stack.services["worker"].stop()
            stack.services["worker"].start()
        again, manifest = files(client, reproduce(stack, job_id), tmp_path)
        assert again == sha256
        assert manifest["reproduction"] == {"of": job_id, "bit_equal": True, "differs": []}
        assert manifest["parameters"] == original["parameters"]


def test_what_is_not_equal_says_why(
    stack: Stack, client: Client, stepwise: str, tmp_path: Path
) -> None:
    """A result that differs with every run is told apart, with what was different."""
    job_id = client.create_job(stepwise, {"noise": True})["id"]
    sha256, _ = files(client, job_id, tmp_path)
    again, manifest = files(client, reproduce(stack, job_id), tmp_path)
    section = manifest["reproduction"]
    assert (section["of"], section["bit_equal"]) == (job_id, False)
    assert [item["what"] for item in section["differs"]] == ["sha256", "input.entropy"]
    assert (section["differs"][0]["original"], section["differs"][0]["here"]) == (sha256, again)
