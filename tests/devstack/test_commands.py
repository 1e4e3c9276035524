"""What `make up` and `make demo` do around the stack."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from devstack import demo_video, up
from devstack.demo import checked_image
from devstack.demo_video import events_table, prepared, texts_line, zones_table
from devstack.errors import DevstackError
from devstack.samples import street
from devstack.settings import app_environment, fresh_settings, worker_environment
from devstack.stack import Ports, Stack
from devstack.trial import DemoError, raise_unless_succeeded
from tests.support.gltf_validator import gltf_errors, validate_gltf


def test_only_one_up_in_a_folder(tmp_path: Path) -> None:
    """A second `make up` names the first, whose addresses others can ask for."""
    with up.only_one(tmp_path) as lock:
        json.dump({"pid": 4711, "API_URL": "http://127.0.0.1:1"}, lock)
        lock.flush()
        assert up.running_addresses(tmp_path) == {"API_URL": "http://127.0.0.1:1"}
        with pytest.raises(DevstackError, match="process 4711"), up.only_one(tmp_path):
            pass
    assert up.running_addresses(tmp_path) == {}
    with up.only_one(tmp_path):
        pass


def test_moved_ports_are_named() -> None:
    """What could not have its usual port says so, with both ports; external servers have none."""
    wanted = Ports(api=8000, s3=9000, postgres=5432)
    assert up.describe_moves(wanted, Ports(api=8000, s3=9001, postgres=None)) == [
        "Port 9000 is taken by something else: storage moved to 9001."
    ]


def test_passwords_of_the_users_servers_are_not_shown() -> None:
    """A URL of the user's own is printed without its password."""
    assert up.without_password("redis://:pw@host:1/0") == "redis://:***@host:1/0"
    assert up.without_password("postgresql://u:pw@host/db") == "postgresql://u:***@host/db"
    assert up.without_password("http://host:9000") == "http://host:9000"


def test_external_servers_replace_embedded_ones(tmp_path: Path) -> None:
    """A server named in the settings is used, but only where that was asked for."""
    settings = fresh_settings() | {"REDIS_URL": "redis://elsewhere:1/0"}
    stack = Stack(tmp_path, settings=settings, external=True)
    assert stack.redis is None
    assert stack.redis_url == "redis://elsewhere:1/0"
    assert {server.name for server in stack.servers} == {"postgres", "s3"}
    assert Stack(tmp_path, settings=settings).redis is not None


def test_worker_is_told_nothing_of_database_and_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's environment holds none of the app's secrets, not even the machine's own."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    settings = fresh_settings() | {"REDIS_URL": "redis://r", "API_URL": "http://a"}
    worker = worker_environment(settings)
    assert worker["WORKER_API_KEY"] == settings["WORKER_API_KEY"]
    assert {"REDIS_URL", "API_URL", "WORKER_QUEUE", "PATH"} <= worker.keys()
    forbidden = ("DATABASE", "MINIO", "SECRET", "FIRST_SUPERUSER", "RQ_DASHBOARD")
    assert [name for name in worker if name.startswith(forbidden)] == []
    assert app_environment(settings)["DATABASE_URL"] == settings["DATABASE_URL"]


def test_bad_picture_is_a_sentence(tmp_path: Path) -> None:
    """A path that is no picture ends the demo before anything is started."""
    with pytest.raises(DemoError, match="is not there"):
        checked_image(tmp_path / "none.png")
    with pytest.raises(DemoError, match="is a folder"):
        checked_image(tmp_path)


def test_bad_video_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is no video, or no PyAV, ends the demo before anything is started."""
    with pytest.raises(DemoError, match=r"The video .* is not there. Name an MP4, MOV"):
        prepared(tmp_path / "none.mp4", tmp_path)
    with pytest.raises(DemoError, match="is a folder"):
        prepared(tmp_path, tmp_path)
    own = tmp_path / "own.mp4"
    own.write_bytes(b"x")
    assert prepared(own, tmp_path)[0] == own
    monkeypatch.setattr(demo_video, "find_spec", lambda _: None)
    with pytest.raises(DemoError, match="PyAV is not installed"):
        prepared(None, tmp_path)


def test_sample_video(tmp_path: Path) -> None:
    """The video that comes with the project can be played, and something happens in its zones."""
    path, zones = prepared(None, tmp_path)
    with av.open(str(path)) as container:
        frames = [
            frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)
        ]
    assert len(frames) == street.FPS * street.SECONDS
    assert frames[0].shape == (street.HEIGHT, street.WIDTH)
    for zone in zones:
        part = np.s_[zone["y1"] : zone["y2"], zone["x1"] : zone["x2"]]
        changed = [np.abs(frame[part] - frames[0][part]).max() > 60 for frame in frames]
        assert 20 < sum(changed) < len(frames) * 0.7, zone
    sky = np.s_[:60]
    assert max(np.abs(frame[sky] - frames[0][sky]).max() for frame in frames) < 60


def test_results_of_a_video_in_words() -> None:
    """Counts, events and texts become tables and a line."""
    dwell = {"longest_s": 1.44}
    zone = {"name": "door", "entries": 2, "exits": 1, "peak_occupancy": 1, "dwell": dwell}
    empty = {**zone, "name": "bench", "dwell": {"longest_s": None}}
    texts = {"list": [{"text": "oo", "score": 0.5}, {"text": "CITY LIBRARY", "score": 1.0}]}
    table = zones_table({"zones": [zone, empty]})
    assert [list(column.cells) for column in table.columns] == [
        ["door", "bench"],
        ["2", "2"],
        ["1", "1"],
        ["1", "1"],
        ["1.4 s", ""],
    ]
    event = {"type": "zone.enter", "data": {"time_s": 1.5, "zone": "door", "track_id": 7}}
    cells = [next(iter(column.cells)) for column in events_table([event]).columns]
    assert cells == ["1.50", "zone.enter", "door", "7"]
    assert texts_line({"texts": texts}) == "It reads: CITY LIBRARY."
    assert texts_line({"texts": {"list": []}}) == ""


def test_failed_job_is_a_sentence() -> None:
    """The demo says what the job's error says."""
    raise_unless_succeeded({"status": "SUCCEEDED", "error": None})
    with pytest.raises(DemoError, match="CUTOUT_EMPTY: Send a PNG with transparency"):
        raise_unless_succeeded(
            {
                "status": "FAILED",
                "error": {"code": "CUTOUT_EMPTY", "message": "Send a PNG with transparency."},
            }
        )


def test_validator_finds_errors(tmp_path: Path) -> None:
    """Khronos' validator runs, tells a valid file from a broken one and both from other bytes."""
    good = tmp_path / "good.gltf"
    good.write_text(json.dumps({"asset": {"version": "2.0"}}))
    assert gltf_errors(good) == []
    bad = tmp_path / "bad.gltf"
    bad.write_text(json.dumps({"asset": {"version": "2.0"}, "scene": 3}))
    assert [error["code"] for error in gltf_errors(bad)] == ["UNRESOLVED_REFERENCE"]
    other = tmp_path / "other.glb"
    other.write_text("these are words")
    with pytest.raises(RuntimeError, match="could not read"):
        validate_gltf(other)
