"""Services as child processes: readiness, endings, logs."""

import signal
import sys
from pathlib import Path

import psutil
import pytest

from devstack.errors import DevstackError
from devstack.processes import LogFollower, Service


def service(tmp_path: Path, script: str, **options: float) -> Service:
    ready = tmp_path / "ready"
    return Service(
        "thing",
        [sys.executable, "-u", "-c", script, str(ready)],
        env={"PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        log_path=tmp_path / "thing.log",
        ready=lambda _pid: ready.exists(),
        **options,
    )


READY = "import sys, time, signal; from pathlib import Path; Path(sys.argv[1]).touch();"


def test_start_waits_for_readiness(tmp_path: Path) -> None:
    """When start returns, the service is ready, and its process is the program itself."""
    thing = service(tmp_path, f"print('hello'); {READY} time.sleep(600)").start()
    assert (tmp_path / "ready").exists()
    assert psutil.Process(thing.pid).cmdline()[1:3] == ["-u", "-c"]
    assert thing.log_tail() == "hello"
    thing.stop()
    assert thing.status == -signal.SIGTERM


def test_early_end_is_explained(tmp_path: Path) -> None:
    """A service that ends before it is ready fails the start with its last words."""
    with pytest.raises(DevstackError, match=r"(?s)thing ended with status 7.*famous last words"):
        service(tmp_path, "print('famous last words'); raise SystemExit(7)").start()


def test_stop_lets_it_finish(tmp_path: Path) -> None:
    """SIGTERM comes first, and a service that obeys it sets its own exit status."""
    obey = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0));"
    thing = service(tmp_path, f"import sys, signal; {obey} {READY} time.sleep(600)").start()
    thing.stop()
    assert thing.status == 0


def test_stop_insists(tmp_path: Path) -> None:
    """A service deaf to SIGTERM is killed."""
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    script = f"import sys, signal; {deaf} {READY} time.sleep(600)"
    thing = service(tmp_path, script, stop_seconds=0.2).start()
    thing.stop()
    assert thing.status == -signal.SIGKILL


def test_kill_and_start_again(tmp_path: Path) -> None:
    """A killed service can be started again and gets a new process."""
    thing = service(tmp_path, f"{READY} time.sleep(600)").start()
    first = thing.pid
    thing.kill()
    assert not thing.running
    assert thing.start().pid != first
    thing.stop()


def test_frozen_service_can_be_killed(tmp_path: Path) -> None:
    """SIGSTOP reaches the service, and even then it can be ended."""
    thing = service(tmp_path, f"{READY} time.sleep(600)").start()
    thing.send_signal(signal.SIGSTOP)
    thing.kill()
    assert not thing.running


def test_run_answers_the_status(tmp_path: Path) -> None:
    """`run` returns when the program has ended, with its status."""
    assert service(tmp_path, "raise SystemExit(3)").run() == 3


def test_follower_gives_whole_lines_once(tmp_path: Path) -> None:
    """A line is given when it is complete, and never twice."""
    log = tmp_path / "a.log"
    follower = LogFollower({"a": log, "none": tmp_path / "none.log"})
    assert list(follower.new_lines()) == []
    log.write_bytes(b"one\ntw")
    assert list(follower.new_lines()) == [("a", "one")]
    with log.open("ab") as file:
        file.write("o\nöhm\n".encode())
    assert list(follower.new_lines()) == [("a", "two"), ("a", "öhm")]
    assert list(follower.new_lines()) == []
