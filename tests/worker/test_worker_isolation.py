"""What each process imports, Pythons of their own, and the doctor."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_platform import Platform
from worker_support import PLUGINS, REPOSITORY, content, do, host_environment

from worker_vm.control import RunControl
from worker_vm.host_pool import HostPool
from worker_vm.runner import RunHost, run_attempt

MakePool = Callable[..., HostPool]
WORKER = {
    "REDIS_URL": "redis://localhost:1/0",
    "API_URL": "http://localhost:1",
    "WORKER_API_KEY": "wk_0123456789",
}


def python(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the tests' Python as a worker would run."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=host_environment(**WORKER, **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_pipeline_may_have_a_python_of_its_own(
    platform: Platform, host: RunHost, make_pool: MakePool, bare_python: str
) -> None:
    """A Python without a single package runs a pipeline that needs none."""
    host.pool = make_pool(WORKER_PIPELINES=f"scripted=scripted_pipeline:Scripted@{bare_python}")
    do(platform, ["progress", 10], ["artifact", "still.png"], ["tell_job", "told.json"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    told = json.loads(content(platform, "told.json"))
    assert told["python"] == bare_python
    assert not [name for name in told["modules"] if name.partition(".")[0] == "pydantic"]
    host.pool.await_started()
    (inflate,) = [status for status in host.pool.statuses() if status.name == "inflate"]
    assert inflate.runnable, "the worker's own Python is not touched by it"


def test_the_example_of_the_documentation_runs(
    platform: Platform, host: RunHost, make_pool: MakePool, tmp_path: Path
) -> None:
    """The pipeline in docs/worker.md, in a folder of its own, is plugged in as it says there."""
    text = (REPOSITORY / "docs" / "worker.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "greeting.py").write_text(example)
    path = os.pathsep.join([str(REPOSITORY), str(tmp_path)])
    host.pool = make_pool(WORKER_PIPELINES="greeting=greeting:Greeting", PYTHONPATH=path)
    platform.spec |= {"pipeline": "greeting", "prompt": "you"}
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert content(platform, "greeting.txt") == b"Hello, you!\n"
    assert platform.outcome.metrics == {"letters": 3}


def test_one_process_for_each_python(make_pool: MakePool, bare_python: str) -> None:
    """Pipelines of the same Python share a process, and so the machine's memory."""
    pool = make_pool(
        WORKER_PIPELINES="one=scripted_pipeline:Scripted two=scripted_pipeline:Scripted "
        f"three=scripted_pipeline:Scripted@{bare_python}"
    )
    one, two, three = (pool.require(name, RunControl()) for name in ("one", "two", "three"))
    assert one is two
    assert one.pid != three.pid


def test_the_worker_imports_no_pipeline(tmp_path: Path) -> None:
    """The worker's process loads neither pipelines nor a numeric library, also after a run."""
    code = """
import sys
from pathlib import Path
import worker_vm.__main__
from worker_vm.control import RunControl
from worker_vm.host_pool import HostPool
from worker_vm.host_protocol import Run
class Deaf:
    def advanced(self, *_): pass
    produced = restarted = free_other_memory = advanced
pool = HostPool()
folder = Path(sys.argv[1])
told = Run("scripted", "0" * 32, "m", "1", {"do": [["count", 0]]}, None, {}, str(folder))
assert pool.run(told, lambda free: Deaf(), RunControl()).outcome == "succeeded"
pool.stop()
heavy = {"numpy", "scipy", "numba", "cv2", "torch", "trimesh", "skimage", "PIL", "manifold3d"}
names = {name.partition(".")[0] for name in sys.modules}
print(sorted(heavy & names), "scripted_pipeline" in names,
      [name for name in sys.modules if name.startswith("worker_vm.pipelines.inflate")])
"""
    done = python("-c", code, str(tmp_path))
    assert done.stdout.splitlines()[-1] == "[] False []", done.stderr


def test_what_a_host_needs_is_in_the_standard_library() -> None:
    """The host and its protocol import nothing else, not even where packages are at hand."""
    code = """
import sys
before = set(sys.modules)
import worker_vm.host_protocol, worker_vm.pipeline_host
ours = ("worker_vm", "contract")
print([name for name in sorted(set(sys.modules) - before)
       if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith(ours)])
"""
    done = python("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_doctor_tells_what_can_run() -> None:
    """The table names machine, software and each pipeline, with every reason why not."""
    done = python("-m", "worker_vm", "doctor")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["scripted", "1.2", "can", "run"] in lines
    assert ["unavailable", "1.2", "cannot", "run"] in lines
    for text in ("- There is no GPU.", "- Weights are missing.", "'no_such_module'", "cpu "):
        assert text in done.stdout
    assert "Cannot run" not in done.stdout
    assert "validator none (GLTF_VALIDATOR)" in done.stdout
    assert "detector  motion only (YOLO_MODEL_PATH)" in done.stdout


def test_a_validator_that_is_not_there_stops_the_start() -> None:
    """A sentence names the setting and the program that was looked for."""
    done = python("-m", "worker_vm", GLTF_VALIDATOR="/nowhere/gltf_validator -r")
    assert done.returncode == 1
    assert "GLTF_VALIDATOR" in done.stderr
    assert "'/nowhere/gltf_validator'" in done.stderr


@pytest.mark.parametrize(
    ("required", "status", "missing"),
    [
        (["scripted"], 0, ""),
        (["scripted", "unavailable", "broken"], 1, "Cannot run: unavailable, broken."),
        (["nowhere"], 1, "Cannot run: nowhere."),
    ],
)
def test_the_doctor_answers_by_its_status(required: list[str], status: int, missing: str) -> None:
    """--require makes a pipeline that cannot run a failure."""
    done = python("-m", "worker_vm", "doctor", *(f"--require={name}" for name in required))
    assert done.returncode == status, done.stderr
    assert missing in done.stdout


@pytest.mark.parametrize("text", ["scripted", "a=b", "A=b:C", f"{PLUGINS} x=y:"])
def test_a_malformed_plug_in_stops_the_start(text: str) -> None:
    """A sentence shows the form that WORKER_PIPELINES has."""
    done = python("-m", "worker_vm", WORKER_PIPELINES=text)
    assert done.returncode == 1
    assert "WORKER_PIPELINES: " in done.stderr
    assert "name=module:Class" in done.stderr
    assert "Traceback" not in done.stderr
