"""The worker on a real GPU: its memory, its errors, and that it is given back."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_platform import WORKER_KEY, Platform
from rq import Queue
from worker_support import REPOSITORY, Start, content, do, gone, host_environment, push, until

from worker_vm.capabilities import find_gpus
from worker_vm.host_pool import HostPool
from worker_vm.host_protocol import Memory
from worker_vm.runner import RunHost, run_attempt

pytestmark = pytest.mark.gpu

MakePool = Callable[..., HostPool]
TENSORS = "tensor_pipeline:Tensors"
PLUGINS = f"one={TENSORS} two={TENSORS} large=tensor_pipeline:LargeTensors"
ROOMY = "100000"


@pytest.fixture
def tensors(make_pool: MakePool, host: RunHost) -> Callable[..., HostPool]:
    """Gives the run's host pipelines that hold tensors."""

    def make(**settings: str) -> HostPool:
        host.pool = make_pool(**{"WORKER_PIPELINES": PLUGINS, **settings})
        return host.pool

    return make


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """An interpreter of another name, which gets a host of its own."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return path


def run(
    platform: Platform, host: RunHost, *steps: list[Any], pipeline: str = "one", **params: Any
) -> str:
    """A run of its own; its outcome in a word."""
    platform.new_attempt()
    platform.spec["pipeline"] = pipeline
    do(platform, *steps, **params)
    return run_attempt(host, platform.attempt_id)


def warm(pool: HostPool) -> set[str]:
    """What is loaded."""
    return {status.name for status in pool.statuses() if status.warm}


def free_mib() -> int:
    """Memory of the first GPU that nobody uses."""
    return find_gpus()[0].memory_free_mib


def memory(pool: HostPool, pipeline: str = "one") -> Memory:
    """What the pipeline's host has said of its memory last."""
    told = pool._host_of[pipeline].memory
    assert told is not None
    return told


def log(platform: Platform) -> str:
    """What the run's owner can read of it."""
    return content(platform, "run.log").decode()


def test_doctor_tells_of_the_gpu() -> None:
    """The GPU has a name, its memory is a number, and the driver's version is told."""
    (gpu, *_) = find_gpus()
    assert gpu.memory_total_mib >= gpu.memory_free_mib > 0
    settings = host_environment(
        WORKER_PIPELINES=f"one={TENSORS}",
        REDIS_URL="redis://localhost:1/0",
        API_URL="http://localhost:1",
        WORKER_API_KEY=WORKER_KEY,
    )
    command = [sys.executable, "-m", "worker_vm", "doctor", "--require", "one"]
    told = subprocess.run(
        command, env=settings, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("gpu ")][:1]
    assert gpu.name in line
    assert f"of {gpu.memory_total_mib} MiB free, driver {gpu.driver}" in line
    assert "torch " in told.stdout
    assert "There is no GPU driver" not in told.stdout


def test_the_device_has_a_budget_of_its_own(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool]
) -> None:
    """With tensors loaded it is the GPU's memory that counts, and four fifths of it by default."""
    pool = tensors(TENSORS_MIB="300", WORKER_MEMORY_BUDGET_MIB="")
    assert run(platform, host) == "succeeded"
    told = memory(pool)
    assert told.device == "cuda"
    assert told.used_mib == pytest.approx(300, abs=30)
    total = find_gpus()[0].memory_total_mib
    assert told.budget_mib == pytest.approx(0.8 * total, rel=0.05)


def test_the_least_recently_used_makes_room_on_the_device(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool]
) -> None:
    """Two pipelines of 60 % of the budget each take turns, and the device has one at a time."""
    pool = tensors(TENSORS_MIB="600", LARGE_TENSORS_MIB="300", WORKER_MEMORY_BUDGET_MIB="1000")
    for pipeline in ("one", "two", "one"):
        assert run(platform, host, pipeline=pipeline) == "succeeded"
        assert warm(pool) == {pipeline}
        assert memory(pool).used_mib == pytest.approx(600, abs=30)
    assert run(platform, host, pipeline="large") == "succeeded"
    assert warm(pool) == {"one", "large"}
    assert memory(pool).used_mib == pytest.approx(900, abs=30)
    assert run(platform, host, pipeline="two") == "succeeded"
    assert warm(pool) == {"two", "large"}


def test_two_processes_share_the_device(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool], other_python: Path
) -> None:
    """The budget is that of all hosts on the GPU, whichever Python they run in."""
    pool = tensors(
        WORKER_PIPELINES=f"one={TENSORS} far={TENSORS}@{other_python}",
        TENSORS_MIB="600",
        WORKER_MEMORY_BUDGET_MIB="1000",
    )
    for pipeline in ("one", "far", "one"):
        assert run(platform, host, ["count", 0], pipeline=pipeline) == "succeeded"
        assert warm(pool) == {pipeline}
    assert memory(pool, "far").used_mib < 30
    assert platform.outcome.metrics["setups"] == 2


def test_out_of_device_memory_unloads_the_others(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool]
) -> None:
    """What did not fit beside another pipeline's weights fits without them."""
    pool = tensors(TENSORS_MIB="500", TENSORS_LIMIT_MIB="2000", WORKER_MEMORY_BUDGET_MIB=ROOMY)
    assert run(platform, host, pipeline="two") == "succeeded"
    assert run(platform, host, ["allocate", 1200]) == "succeeded"
    assert warm(pool) == {"one"}
    assert "with nothing else loaded" in log(platform)
    assert "smaller" not in log(platform)


def test_out_of_device_memory_takes_the_smaller_settings(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool]
) -> None:
    """What does not fit alone is made smaller, in the same process."""
    tensors(TENSORS_MIB="500", TENSORS_LIMIT_MIB="2000", WORKER_MEMORY_BUDGET_MIB=ROOMY)
    assert run(platform, host, ["count", 0]) == "succeeded"
    before = platform.outcome.metrics["pid"]
    smaller = {"do": [["allocate", 400], ["count", 0]]}
    assert run(platform, host, ["allocate", 1800], smaller=smaller) == "succeeded"
    assert "trying smaller settings" in log(platform)
    assert platform.outcome.metrics["pid"] == before
    assert [record.name for record in platform.records] == ["manifest.json", "run.log"]


@pytest.mark.parametrize("offers_less", [False, True])
def test_out_of_device_memory_to_the_end_is_a_failure(
    platform: Platform,
    host: RunHost,
    tensors: Callable[..., HostPool],
    offers_less: bool,  # noqa: FBT001
) -> None:
    """When nothing helps the code says so; the process and its weights are as good as before."""
    pool = tensors(TENSORS_MIB="500", TENSORS_LIMIT_MIB="2000", WORKER_MEMORY_BUDGET_MIB=ROOMY)
    steps = [["allocate", 1800]]
    less = {"smaller": {"do": steps}} if offers_less else {}
    assert run(platform, host, *steps, **less) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("OUT_OF_MEMORY", True)
    assert memory(pool).used_mib == pytest.approx(500, abs=30)
    assert run(platform, host, ["allocate", 1000], ["count", 0]) == "succeeded"
    assert platform.outcome.metrics["setups"] == 1


def test_a_pipeline_too_large_beside_others_is_loaded_without_them(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool]
) -> None:
    """Half loaded weights of the first try are not in the way of the second."""
    pool = tensors(
        TENSORS_MIB="500",
        LARGE_TENSORS_MIB="1700",
        TENSORS_LIMIT_MIB="2000",
        WORKER_MEMORY_BUDGET_MIB=ROOMY,
    )
    assert run(platform, host) == "succeeded"
    assert run(platform, host, pipeline="large") == "succeeded"
    assert warm(pool) == {"large"}
    assert "memory did not suffice" not in log(platform)


def test_a_device_too_full_to_begin_with_is_emptied(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool], other_python: Path
) -> None:
    """A process that cannot even open the device is out of memory like any other."""
    pool = tensors(
        WORKER_PIPELINES=f"one={TENSORS} far={TENSORS}@{other_python}",
        TENSORS_MIB="100",
        WORKER_MEMORY_BUDGET_MIB="1000000",
    )
    assert run(platform, host, ["fill", 100], pipeline="far") == "succeeded"
    assert run(platform, host, ["compute", 0]) == "succeeded"
    assert platform.outcome.metrics["sum"] == 10
    assert "with nothing else loaded" in log(platform)
    assert warm(pool) == {"one"}


def test_a_failed_assertion_on_the_device_costs_one_run(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool]
) -> None:
    """After a CUDA error the run may be tried again, and the next one has a new process."""
    tensors(TENSORS_MIB="500")
    assert run(platform, host, ["count", 0]) == "succeeded"
    before = int(platform.outcome.metrics["pid"])
    assert run(platform, host, ["read_out_of_bounds", 0]) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("PIPELINE_ERROR", False)
    assert "AcceleratorError" in platform.outcome.message
    assert "device-side assert" in log(platform)
    assert gone(before)
    assert run(platform, host, ["compute", 0], ["count", 0]) == "succeeded"
    assert platform.outcome.metrics["sum"] == 10
    assert platform.outcome.metrics["pid"] != before


@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_an_ended_host_gives_its_memory_back(
    platform: Platform, host: RunHost, tensors: Callable[..., HostPool], end: str
) -> None:
    """However a host ends, the device has its memory again."""
    pool = tensors(TENSORS_MIB="4000")
    before = free_mib()
    assert run(platform, host, ["count", 0]) == "succeeded"
    assert free_mib() <= before - 4000
    if end == "stop":
        pool.stop()
    elif end == "kill":
        os.kill(int(platform.outcome.metrics["pid"]), signal.SIGKILL)
    else:
        assert run(platform, host, ["exit_at_once", 1]) == "failed"
    until(lambda: free_mib() >= before - 100, "the return of the device's memory")


def test_a_killed_worker_gives_its_memory_back(
    platform: Platform, start: Start, queue: Queue
) -> None:
    """SIGKILL of the worker itself leaves nothing on the device."""
    before = free_mib()
    worker = start(WORKER_PIPELINES=PLUGINS, TENSORS_MIB="4000")
    platform.spec["pipeline"] = "one"
    do(platform, ["count", 0])
    push(queue, platform.attempt_id)
    platform.wait_for(lambda: platform.requests("finish"))
    assert platform.outcome.outcome == "succeeded"
    assert free_mib() <= before - 4000
    worker.kill()
    until(lambda: free_mib() >= before - 100, "the return of the device's memory")
