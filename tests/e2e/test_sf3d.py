"""A picture becomes a model by `sf3d-v1`: another queue, another Python, the same platform."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from devstack.client import Client
from devstack.stack import Stack
from tests.e2e.conftest import SAMPLE
from tests.support.gltf_validator import gltf_errors
from tests.support.sf3d import make_python, make_weights


@pytest.fixture(scope="module")
def gpu_worker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("sf3d")
    worker = stack.add_worker(
        "gpu-worker",
        {
            "WORKER_QUEUE": "gpu",
            "SF3D_PYTHON": str(make_python(folder / "venv")),
            "SF3D_MODEL": str(make_weights(folder / "weights")),
            "SF3D_LICENCE_ACCEPTED": "true",
            "SF3D_USE_CPU": "1",
        },
    )
    yield
    worker.stop()
    del stack.services["gpu-worker"]


@pytest.mark.usefixtures("gpu_worker")
def test_a_picture_becomes_a_model(client: Client, tmp_path: Path) -> None:
    """The catalog's parameters reach the pipeline, and its files pass the app's checks."""
    asked = {"texture_resolution": 512, "remesh": "quad", "vertex_count": 900, "seed": 3}
    job = client.create_job("sf3d-v1", {"image_path": client.upload(SAMPLE), **asked})
    last = list(client.watch(job["id"]))[-1]
    assert last["status"] == "SUCCEEDED", last
    files = {artifact["name"]: artifact for artifact in client.artifacts(job["id"])}
    assert files["model.glb"]["kind"] == "model_3d"
    assert {"turntable.webp", "preview_front.png", "preview_clay.png"} <= set(files)
    client.download(files["model.glb"]["url"], tmp_path / "model.glb")
    assert gltf_errors(tmp_path / "model.glb") == []
    manifest = httpx.get(files["manifest.json"]["url"], trust_env=False).json()
    assert asked.items() <= manifest["parameters"].items()
    assert manifest["run"]["params"]["seed"] == 3
