"""What the worker needs to start, and what it says when that is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker_vm.config import THREAD_VARIABLES, WorkerSettings

REPOSITORY = Path(__file__).parent.parent.parent
GOOD = {
    "REDIS_URL": "redis://:hunter2@localhost:6379/0",
    "API_URL": "http://localhost:8000/",
    "WORKER_API_KEY": "wk_0123456789",
}


def run(
    *arguments: str, folder: Path = REPOSITORY, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with nothing of the worker's settings but these."""
    names = {name.upper() for name in WorkerSettings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": path, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_tells_settings_and_signals() -> None:
    """--help is enough to start a worker."""
    told = run("-m", "worker_vm", "--help").stdout
    for word in ("REDIS_URL", "API_URL", "WORKER_API_KEY", "--queue", "--burst", "SIGTERM"):
        assert word in told


def test_version() -> None:
    """--version names the program."""
    assert run("-m", "worker_vm", "--version").stdout.startswith("worker_vm 0.")


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_a_missing_setting_is_named(tmp_path: Path, missing: str) -> None:
    """Without one of the three settings the start stops with a sentence that names it."""
    settings = {name: value for name, value in GOOD.items() if name != missing}
    done = run("-m", "worker_vm", folder=tmp_path, **settings)
    assert done.returncode == 1
    assert f"{missing} is not set; see .env.example." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "localhost:6379/secret"),
        ("API_URL", "api.example.org/secret"),
        ("WORKER_API_KEY", "secret"),
        ("WORKER_API_KEY", "secret-with-a-line\nbreak"),
        ("WORKER_QUEUE", "Two secret queues"),
        ("WORKER_THREADS", "secret"),
        ("LOG_LEVEL", "secret"),
        ("WORKER_WORK_DIR", "/dev/null"),
    ],
)
def test_a_malformed_setting_is_named_without_its_value(
    tmp_path: Path, name: str, value: str
) -> None:
    """A wrong setting stops the start; the sentence names it and doesn't repeat it."""
    done = run("-m", "worker_vm", folder=tmp_path, **{**GOOD, name: value})
    assert done.returncode == 1
    assert f"\n{name}: " in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_queue_of_the_wrong_form_is_refused(tmp_path: Path) -> None:
    """--queue takes one queue's name."""
    done = run("-m", "worker_vm", "--queue", "gpu,cpu", folder=tmp_path, **GOOD)
    assert done.returncode == 2
    assert "is no queue name" in done.stderr


def test_settings_come_from_a_file_too(tmp_path: Path) -> None:
    """A .env file in the current folder is read; empty lines in it count as not set."""
    lines = [f"{name}={value}" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "WORKER_WORK_DIR=", "DATABASE_URL=x"]))
    code = (
        "from worker_vm.config import load_settings as l;"
        "s = l(); print(s.api_url, s.worker_queue, s.worker_work_dir, s.worker_threads)"
    )
    assert run("-c", code, folder=tmp_path).stdout.split() == [
        "http://localhost:8000",
        "cpu",
        "None",
        "1",
    ]


def test_thread_limits_reach_the_libraries() -> None:
    """WORKER_THREADS becomes what each numeric library reads in the pipelines' processes."""
    settings = WorkerSettings(_env_file=None, **{k.lower(): v for k, v in GOOD.items()})
    limited = settings.model_copy(update={"worker_threads": 3})
    environment = limited.host_environment({"OMP_NUM_THREADS": "64"})
    assert {name: environment[name] for name in THREAD_VARIABLES} == dict.fromkeys(
        THREAD_VARIABLES, "3"
    )


def test_the_worker_imports_without_the_orchestrator() -> None:
    """No module of the worker needs a database, a web framework or a storage SDK."""
    code = """
import importlib, pkgutil, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
BLOCKED = {"sqlalchemy", "asyncpg", "fastapi", "minio", "alembic", "uvicorn", "starlette", "app"}
sys.meta_path.insert(0, Block())
import worker_vm
names = [m.name for m in pkgutil.walk_packages(worker_vm.__path__, "worker_vm.")]
for name in names:
    importlib.import_module(name)
assert "worker_vm.__main__" in names, names
print(len(names))
"""
    done = run("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
