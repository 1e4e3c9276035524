"""What `make up` and `make demo` do around the stack."""

import json
from pathlib import Path

import pytest

from devstack import up
from devstack.demo import DemoError, checked_image, raise_unless_succeeded
from devstack.errors import DevstackError
from devstack.settings import app_environment, fresh_settings, worker_environment
from devstack.stack import Ports, Stack
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
