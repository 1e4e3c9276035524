"""A picture becomes a 3D model through API, queue, worker and storage, as separate processes."""

import hashlib
import io
import json
import struct
from pathlib import Path

import httpx
import pytest
from PIL import Image

from devstack.client import Client
from devstack.stack import Stack
from tests.e2e.conftest import SAMPLE
from tests.support.gltf_validator import validate_gltf

STILLS = {"preview_front.png", "preview_right.png", "preview_back.png", "preview_left.png"}


@pytest.fixture(scope="module")
def result(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """One job on the sample picture: every look at it, and its files in a folder."""
    folder = tmp_path_factory.mktemp("result")
    with Client(stack.api_url, stack.admin_api_key) as client:
        object_name = client.upload(SAMPLE)
        job = client.create_job(
            "inflate-v1", {"image_path": object_name, "seed": 7, "formats": ["glb", "obj", "usdz"]}
        )
        looks = list(client.watch(job["id"]))
        artifacts = client.artifacts(job["id"])
        for artifact in artifacts:
            client.download(artifact["url"], folder / artifact["name"])
    assert looks[-1]["status"] == "SUCCEEDED", looks[-1]
    return {"looks": looks, "artifacts": artifacts, "folder": folder}


def test_progress_and_previews_appear_while_it_runs(result: dict[str, list[dict]]) -> None:
    """Stage and percent move, percent never falls, and a preview is there before the end."""
    running = [look for look in result["looks"] if look["status"] == "RUNNING"]
    percents = [look["progress_percent"] for look in running]
    assert percents == sorted(percents)
    assert len({look["stage"] for look in running}) > 2
    assert any(look["previews"] for look in running)
    assert result["looks"][-1]["progress_percent"] == 100


def test_model_passes_the_validator(result: dict[str, Path]) -> None:
    """Khronos' validator finds no error and no warning in the GLB."""
    report = validate_gltf(result["folder"] / "model.glb")
    assert report["issues"]["numErrors"] == 0, report["issues"]
    assert report["issues"]["numWarnings"] == 0, report["issues"]


def test_every_promised_file_is_there(result: dict[str, list[dict]]) -> None:
    """Models, four stills, clay view, turntable, facts and log, each of the recorded hash."""
    by_name = {artifact["name"]: artifact for artifact in result["artifacts"]}
    wanted = STILLS | {"model.glb", "preview_clay.png", "turntable.webp", "manifest.json"}
    wanted |= {"quality.json", "model_obj.zip", "model.usdz"}
    assert wanted <= set(by_name)
    assert "log" in {artifact["kind"] for artifact in result["artifacts"]}
    for artifact in result["artifacts"]:
        data = (result["folder"] / artifact["name"]).read_bytes()
        assert len(data) == artifact["size_bytes"]
        if artifact["kind"] != "input":
            assert hashlib.sha256(data).hexdigest() == artifact["sha256"]


def test_pictures_are_pictures(result: dict[str, Path]) -> None:
    """Stills show something in front of the background, and the turntable moves."""
    for name in STILLS:
        with Image.open(result["folder"] / name) as still:
            low, high = still.convert("L").getextrema()
            assert high - low > 60, name
    with Image.open(io.BytesIO((result["folder"] / "turntable.webp").read_bytes())) as turntable:
        assert turntable.n_frames == 24


def test_manifest_tells_how_it_was_made(result: dict[str, Path]) -> None:
    """Model, seed, input hash, versions, times and facts of the mesh stand in the manifest."""
    manifest = json.loads((result["folder"] / "manifest.json").read_text())
    text = json.dumps(manifest)
    assert manifest["model"] == "inflate-v1"
    assert manifest["seed"] == 7
    assert manifest["mesh"]["watertight"] is True
    assert manifest["mesh"]["bodies"] == 1
    assert "numpy" in text


def test_download_gives_the_glb(stack: Stack, result: dict[str, list[dict]]) -> None:
    """Whatever other formats there are, the job's download is the GLB."""
    job_id = result["looks"][-1]["id"]
    with Client(stack.api_url, stack.admin_api_key) as client:
        answer = client._json("GET", f"/jobs/{job_id}/download")
    assert "model.glb" in answer["download_url"]


def test_texture_is_no_larger_than_asked(result: dict[str, Path]) -> None:
    """The GLB holds exactly one texture of at most the asked size."""
    data = (result["folder"] / "model.glb").read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    assert len(document["images"]) == 1
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    start = 20 + length + 8 + view.get("byteOffset", 0)
    with Image.open(io.BytesIO(data[start : start + view["byteLength"]])) as texture:
        assert max(texture.size) <= 1024


def test_trace_goes_from_the_api_to_the_worker(stack: Stack) -> None:
    """The traceparent of the request that created a job stands in the worker's log lines."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with Client(stack.api_url, stack.admin_api_key) as client:
        object_name = client.upload(SAMPLE)
        created = httpx.post(
            f"{stack.api_url}/api/v1/jobs/",
            headers={
                "x-api-key": stack.admin_api_key,
                "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
            },
            json={"model_id": "inflate-v1", "input_params": {"image_path": object_name}},
        ).json()
        *_, ended = client.watch(created["id"])
    assert ended["status"] == "SUCCEEDED"
    lines = (stack.logs / "worker.log").read_text().splitlines()
    assert any(trace in line and created["id"] in line for line in lines)
