"""The confined child can't do harm."""

import json
import shutil
from pathlib import Path

import pytest

from worker_vm import sandbox
from worker_vm.sandbox import Limits, SandboxError, run_confined

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
