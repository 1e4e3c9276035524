"""Videos become frames through API, queue, worker and storage; broken ones harm nobody."""

import json
import zipfile
from pathlib import Path

import httpx
import pytest

from devstack.client import ApiError, Client
from devstack.stack import Stack
from tests.pipelines.video_clips import CLIPS


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CLIPS["moov-first"].write(tmp_path_factory.mktemp("clip") / "holiday.mp4")


def finished(client: Client, video: Path, **parameters: object) -> dict:
    """A job on a video, when it has ended."""
    body = {"video_path": client.upload(video), **parameters}
    *_, last = client.watch(client.create_job("video-frames-v1", body)["id"])
    return last


def test_frames_of_a_video(client: Client, video: Path, tmp_path: Path) -> None:
    """The ZIP in storage holds the frames and says what they show; previews lie beside it."""
    job = finished(client, video, fps=2)
    assert job["status"] == "SUCCEEDED", job
    artifacts = {artifact["name"]: artifact for artifact in client.artifacts(job["id"])}
    assert {"frames.zip", "manifest.json", "poster.jpg", "sprite.jpg", "preview.webp"} <= set(
        artifacts
    )
    assert artifacts["frames.zip"]["kind"] == "frames_zip"
    client.download(artifacts["frames.zip"]["url"], tmp_path / "frames.zip")
    with zipfile.ZipFile(tmp_path / "frames.zip") as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        assert [frame["name"] for frame in manifest["frames"]] == archive.namelist()[:-1]
    assert manifest["frame_count"] == 8


def test_broken_video_fails_for_good_and_the_next_one_succeeds(
    client: Client, stack: Stack, video: Path, tmp_path: Path
) -> None:
    """What looks like a video and is cut short fails once, by its code; then the worker goes on."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    job = finished(client, broken)
    assert job["status"] == "FAILED"
    assert job["error"]["code"] == "CORRUPT_INPUT"
    assert job["attempt"] == 1
    assert finished(client, broken, on_damage="partial")["status"] == "SUCCEEDED"
    assert finished(client, video)["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
)
def test_what_is_no_video_makes_no_job(client: Client, content: bytes, tmp_path: Path) -> None:
    """A playlist, a script or a picture called .mp4 is refused before there is a job."""
    path = tmp_path / "holiday.mp4"
    path.write_bytes(content)
    with pytest.raises(ApiError) as caught:
        finished(client, path)
    assert caught.value.status in {415, 422}


def test_the_replaced_systems_own_door(
    client: Client, stack: Stack, video: Path, tmp_path: Path
) -> None:
    """A form with two videos becomes two jobs, whose results are told in that system's words."""
    with httpx.Client(
        base_url=f"{stack.api_url}/api/v1",
        headers={"x-api-key": stack.admin_api_key},
        trust_env=False,
        timeout=60,
    ) as old:
        content = video.read_bytes()
        files = [("files", ("a.mp4", content)), ("files", ("b.mp4", content[: len(content) // 2]))]
        answer = old.post("/videos/upload", files=files, data={"fps": "2"})
        assert answer.status_code == 202, answer.text
        good, broken = [uploaded["job_id"] for uploaded in answer.json()]
        for job_id in (good, broken):
            *_, _last = client.watch(job_id)
        done = old.get(f"/videos/{good}").json()
        assert (done["status"], done["frame_count"], done["retry_count"]) == ("SUCCEEDED", 8, 0)
        assert done["download_available"] is True
        assert done["processing_time_seconds"] > 0
        url = old.get(f"/jobs/{good}/download").json()["download_url"]
        assert client.download(url, tmp_path / "frames.zip") == done["zip_size_bytes"]
        failed = old.get(f"/jobs/{broken}/status").json()
        assert (failed["status"], failed["error_code"]) == ("FAILED", "CORRUPT_INPUT")
        assert failed["error_message"]
        assert old.delete(f"/videos/{good}").json()["status"] == "EXPIRED"
        assert old.get(f"/jobs/{good}/download").status_code == 410
