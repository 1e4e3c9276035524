"""The confined child can't do harm."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from worker_vm import sandbox
from worker_vm.sandbox import ConfinedChild, Limit, Limits, SandboxError, run_confined

LIMITS = Limits(memory_bytes=1 << 28, cpu_seconds=1, output_bytes=1 << 16, wall_seconds=20)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that confined children import from, with our package in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "worker_vm").symlink_to(sandbox._PROJECT_ROOT / "worker_vm")
    shutil.copy(Path(__file__).with_name("sandbox_probe.py"), folder)
    monkeypatch.setattr(sandbox, "_PROJECT_ROOT", folder)
    return folder


def run(module: str, folder: Path, limits: Limits = LIMITS) -> str:
    source, answer = folder / "in", folder / "out"
    source.write_text("hello")
    run_confined(module, stdin=source, stdout=answer, limits=limits)
    return answer.read_text()


def test_nothing_can_be_opened(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Input is read, but no file, socket or large memory is to be had, nor any secret seen."""
    monkeypatch.setenv("WORKER_API_KEY", "secret")
    result = json.loads(run("sandbox_probe", project))
    assert result["read"] == "hello"
    assert not any(result[name] for name in ("open", "write", "socket", "memory"))
    assert result["no_new_privs"] == 1
    assert "WORKER_API_KEY" not in result["environment"]


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("while True: pass", "CPU time"),
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("raise SystemExit(7)", "status 7"),
        ("while True: sys.stdout.write('x' * 4096)", "larger"),
    ],
)
def test_crashes_become_errors(project: Path, code: str, word: str) -> None:
    """A child that loops, crashes, gives up or writes without end is reported by its reason."""
    setup = (
        "import ctypes, sys\nfrom worker_vm.sandbox import confine, limits_from_argv\n"
        "confine(limits_from_argv())\n"
    )
    (project / "bad_child.py").write_text(setup + code)
    with pytest.raises(SandboxError, match=word):
        run("bad_child", project)


def test_wall_clock(project: Path) -> None:
    """A child that sleeps is killed when its time is up."""
    (project / "sleeper.py").write_text("import time\ntime.sleep(60)")
    with pytest.raises(SandboxError, match="seconds"):
        run("sleeper", project, Limits(1 << 28, 1, 1 << 16, 0.3))


@pytest.mark.parametrize(
    ("code", "expected"),
    [("sys.stdout.write('abc')", b"abc"), ("sys.stdout.write(request_from_argv())", b"please")],
)
def test_answer_is_read_while_it_works(project: Path, code: str, expected: bytes) -> None:
    """What a child writes to a pipe is read up to its end, and its request reaches it."""
    (project / "speaker.py").write_text(
        "import sys\nfrom worker_vm.sandbox import request_from_argv\n" + code
    )
    source = project / "in"
    source.write_text("hello")
    with (
        source.open("rb") as file,
        ConfinedChild(
            "speaker", stdin=file, stdout=subprocess.PIPE, limits=LIMITS, request="please"
        ) as child,
    ):
        assert child.read(1000, lambda: None) == expected
        child.wait()


def test_silent_child_can_be_given_up(project: Path) -> None:
    """While a child says nothing its reader is asked whether to go on, and its time ends."""
    (project / "silent.py").write_text("import time\ntime.sleep(60)")
    source = project / "in"
    source.write_text("hello")
    limits = Limits(1 << 28, 1, 1 << 16, 1.2)
    asked = []
    with (
        source.open("rb") as file,
        ConfinedChild("silent", stdin=file, stdout=subprocess.PIPE, limits=limits) as child,
        pytest.raises(SandboxError, match="seconds") as caught,
    ):
        child.read(1, lambda: asked.append(1))
    assert asked
    assert caught.value.limit is Limit.TIME
