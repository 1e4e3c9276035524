"""Videos are analysed through API, queue, worker and storage; what is seen is told meanwhile."""

import json
from pathlib import Path

import av
import httpx
import pytest

from devstack.client import ApiError, Client
from devstack.stack import Stack
from tests.pipelines.walks import Walk

GATE = {"name": "gate", "x1": 0.35, "y1": 0.3, "x2": 0.65, "y2": 1}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Walk().write(tmp_path_factory.mktemp("clip") / "street.mp4")


def started(client: Client, video: Path, **parameters: object) -> str:
    """A job on a video."""
    body = {"video_path": client.upload(video), **parameters}
    return str(client.create_job("video-analytics-v1", body)["id"])


def finished(client: Client, job_id: str) -> dict:
    """A job when it has ended."""
    *_, last = client.watch(job_id)
    return last


def test_a_street_with_a_gate(client: Client, stack: Stack, video: Path, tmp_path: Path) -> None:
    """The annotated video is the main result; events, figures and telemetry agree."""
    job = finished(client, started(client, video, zones=[GATE], dwell_s=1, ocr=False))
    assert job["status"] == "SUCCEEDED", job
    artifacts = {artifact["name"]: artifact for artifact in client.artifacts(job["id"])}
    kinds = {name: artifact["kind"] for name, artifact in artifacts.items()}
    assert kinds["annotated.mp4"] == "video"
    assert kinds["analytics.json"] == "analytics"
    assert kinds["telemetry.jsonl"] == kinds["telemetry.csv"] == "telemetry"
    told = client.events(job["id"], "zone.*")
    assert [event["type"] for event in told] == ["zone.enter", "zone.dwell", "zone.exit"]
    assert {event["data"]["zone"] for event in told} == {"gate"}
    with httpx.Client(base_url=stack.api_url, headers={"x-api-key": stack.admin_api_key}) as http:
        urls = {
            kind: http.get(f"/api/v1/jobs/{job['id']}/artifacts/{kind}").json()["download_url"]
            for kind in ("analytics", "video")
        }
    client.download(urls["analytics"], tmp_path / "analytics.json")
    (zone,) = json.loads((tmp_path / "analytics.json").read_text())["zones"]
    assert (zone["entries"], zone["exits"]) == (1, 1)
    client.download(urls["video"], tmp_path / "annotated.mp4")
    with av.open(str(tmp_path / "annotated.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == Walk().seconds * Walk().rate


def test_events_come_while_it_runs(client: Client, tmp_path: Path) -> None:
    """What has been seen stands in the job's events before the job has ended."""
    video = Walk(seconds=90, size=(640, 360)).write(tmp_path / "long.mp4")
    job_id = started(client, video, ocr=False)
    seen_while_running = False
    for state in client.watch(job_id):
        if state["status"] == "RUNNING" and client.events(job_id, "track.*"):
            seen_while_running = True
    assert state["status"] == "SUCCEEDED", state
    assert seen_while_running


def test_zones_that_cannot_be_meant(client: Client, video: Path) -> None:
    """A zone outside of the picture fails the job once; one that is no zone makes no job."""
    outside = json.dumps([{"name": "far", "x1": 0, "y1": 0, "x2": 5000, "y2": 5000}])
    job = finished(client, started(client, video, zones_json=outside))
    assert (job["status"], job["error"]["code"], job["attempt"]) == ("FAILED", "INVALID_ZONE", 1)
    with pytest.raises(ApiError) as caught:
        started(client, video, zones=[{"x1": 0}])
    assert caught.value.status == 422


def test_no_network_and_a_broken_video(client: Client, video: Path, tmp_path: Path) -> None:
    """Both fail for good by their codes, and the worker goes on."""
    job = finished(client, started(client, video, detector="onnx"))
    assert (job["status"], job["error"]["code"]) == ("FAILED", "DETECTOR_UNAVAILABLE")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    job = finished(client, started(client, broken))
    assert (job["status"], job["error"]["code"], job["attempt"]) == ("FAILED", "CORRUPT_INPUT", 1)
    job = finished(client, started(client, video, mock_mode=True, ocr=False))
    assert job["status"] == "SUCCEEDED"
