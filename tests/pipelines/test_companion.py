"""A helping process of another Python: what it passes on, and how it ends."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from inflate_runs import Recorder

from worker_vm.companion import PYTHON_SETTING, Companion, CompanionError
from worker_vm.pipelines.base import PipelineError, RunCancelledError

HERE = Path(__file__).parent


@pytest.fixture
def companion(monkeypatch: pytest.MonkeyPatch) -> Iterator[Companion]:
    monkeypatch.setenv("PYTHONPATH", f"{HERE.parents[1]}{os.pathsep}{HERE}")
    companion = Companion("companion_stages")
    yield companion
    companion.close()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "preview ü.png"
    path.write_bytes(b"x")
    return str(path)


def test_it_answers_and_stays(companion: Companion, file: str) -> None:
    """Whatever is told travels, and results; the second call finds the same process."""
    recorder = Recorder()
    first = companion.call("tell", {"file": file, "number": 1.5}, recorder)
    assert first["sent"] == {"file": file, "number": 1.5}
    assert first["pid"] != os.getpid()
    assert recorder.steps == [(12.5, "stage")]
    assert recorder.events == [("stage.seen", {"it": "ü"})]
    assert recorder.artifacts["preview ü.png"][1:] == (Path(file), "image/png")
    second = companion.call("tell", {"file": file}, Recorder())
    assert (second["calls"], second["pid"]) == (2, first["pid"])


def test_it_is_the_worker_s_own_python(
    file: str, monkeypatch: pytest.MonkeyPatch, companion: Companion, tmp_path: Path
) -> None:
    """The one that the worker names in its environment, not the one that asks."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    monkeypatch.setenv(PYTHON_SETTING, str(link))
    # A link out of its environment finds no packages, and needs none.
    asked = Companion("companion_stages")
    assert asked.call("tell", {"file": file}, Recorder())["python"] == str(link)
    asked.close()


@pytest.mark.parametrize("permanent", [True, False])
def test_failures_pass_through(companion: Companion, *, permanent: bool) -> None:
    """A pipeline's failure keeps its code, sentence and permanence, and costs no process."""
    with pytest.raises(PipelineError) as caught:
        companion.call("refuse", {"permanent": permanent}, Recorder())
    assert (caught.value.code, caught.value.message) == ("REFUSED", "It cannot be done.")
    assert caught.value.permanent is permanent
    with pytest.raises(MemoryError):
        companion.call("run_out", {}, Recorder())


@pytest.mark.parametrize(("function", "words"), [("crash", "KeyError"), ("die", "status -9")])
def test_it_may_crash(companion: Companion, file: str, function: str, words: str) -> None:
    """A crash is told, and the next call has a new process."""
    before = companion.call("tell", {"file": file}, Recorder())["pid"]
    with pytest.raises(CompanionError, match=words):
        companion.call(function, {}, Recorder())
    assert companion.call("tell", {"file": file}, Recorder())["pid"] != before


def test_one_that_was_killed_between_two_calls_is_replaced(companion: Companion, file: str) -> None:
    """Nobody notices."""
    pid = companion.call("tell", {"file": file}, Recorder())["pid"]
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert companion.call("tell", {"file": file}, Recorder())["pid"] != pid


def test_a_stop_ends_it(companion: Companion, file: str) -> None:
    """Whoever is told to stop does not wait for what it has asked for."""

    class Stopping(Recorder):
        def progress(self, percent: float, stage: str, message: str | None = None) -> None:
            super().progress(percent, stage, message)
            raise RunCancelledError

    pid = companion.call("tell", {"file": file}, Recorder())["pid"]
    with pytest.raises(RunCancelledError):
        companion.call("tell", {"file": file}, Stopping())
    assert not Path(f"/proc/{pid}").exists()
    companion.close()
