"""Memory: what is dropped to make room, when a process is replaced, and what follows an error."""

import json
import os
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from platform import python_version
from typing import Any

import pytest
from fake_platform import Platform
from worker_support import content, do, gone, names, until

from contract.attempts import AttemptHeartbeat
from worker_vm.host_pool import HostPool
from worker_vm.runner import RunHost, run_attempt

MakePool = Callable[..., HostPool]


def run(
    platform: Platform, host: RunHost, *steps: list[Any], pipeline: str = "scripted", **params: Any
) -> str:
    """A run of its own; its outcome in a word."""
    platform.new_attempt()
    platform.spec["pipeline"] = pipeline
    do(platform, *steps, **params)
    return run_attempt(host, platform.attempt_id)


def told_of(manifest: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Of what parameters a manifest says its run was made."""
    run = manifest["run"]
    return run["params"], run["reduced_from"], run["try"]


def warm(host: RunHost) -> set[str]:
    """What is loaded."""
    return {status.name for status in host.pool.statuses() if status.warm}


def test_the_least_recently_used_pipeline_makes_room(
    platform: Platform, host: RunHost, make_pool: MakePool
) -> None:
    """With a budget for two pipelines, a third drops the one that was used longest ago."""
    host.pool = make_pool(SCRIPTED_MIB="200", WORKER_MEMORY_BUDGET_MIB="500")
    for pipeline in ("scripted", "other", "scripted"):
        assert run(platform, host, pipeline=pipeline) == "succeeded"
    assert warm(host) == {"scripted", "other"}
    run(platform, host, pipeline="third")
    assert warm(host) == {"scripted", "third"}
    run(platform, host, ["count", 0])
    assert platform.outcome.metrics["setups"] == 3


def test_one_pipeline_may_be_larger_than_the_budget(
    platform: Platform, host: RunHost, make_pool: MakePool
) -> None:
    """What is needed now stays, however large; the others go."""
    host.pool = make_pool(SCRIPTED_MIB="100", WORKER_MEMORY_BUDGET_MIB="50")
    for pipeline in ("scripted", "other", "other"):
        assert run(platform, host, ["count", 0], pipeline=pipeline) == "succeeded"
        assert warm(host) == {pipeline}
    assert platform.outcome.metrics["setups"] == 2


def test_the_budget_is_that_of_all_hosts(
    platform: Platform, host: RunHost, make_pool: MakePool, bare_python: str
) -> None:
    """What was used least recently makes room, whichever Python it runs in; its process stays."""
    host.pool = make_pool(
        SCRIPTED_MIB="200",
        WORKER_MEMORY_BUDGET_MIB="550",
        WORKER_PIPELINES="one=scripted_pipeline:Scripted two=scripted_pipeline:Scripted "
        f"far=scripted_pipeline:Scripted@{bare_python}",
    )
    run(platform, host, ["count", 0], pipeline="one")
    first = platform.outcome.metrics["pid"]
    run(platform, host, pipeline="two")
    assert warm(host) == {"one", "two"}
    run(platform, host, ["count", 0], pipeline="far")
    far = platform.outcome.metrics["pid"]
    assert warm(host) == {"two", "far"}
    run(platform, host, ["count", 0], pipeline="two")
    assert platform.outcome.metrics == {"pid": first, "setups": 2, "runs": 3}
    run(platform, host, ["count", 0], pipeline="one")
    assert platform.outcome.metrics["pid"] == first
    assert warm(host) == {"one", "two"}
    run(platform, host, ["count", 0], pipeline="far")
    assert platform.outcome.metrics == {"pid": far, "setups": 2, "runs": 2}


def test_a_host_that_keeps_its_memory_is_ended(
    platform: Platform, host: RunHost, make_pool: MakePool, bare_python: str, tmp_path: Path
) -> None:
    """One that does not answer when it should give memory back is replaced."""
    host.pool = make_pool(
        SCRIPTED_MIB="200",
        WORKER_MEMORY_BUDGET_MIB="300",
        WORKER_PIPELINES="one=scripted_pipeline:Scripted "
        f"far=scripted_pipeline:Scripted@{bare_python}",
    )
    run(platform, host, ["count", 0], pipeline="far")
    far = int(platform.outcome.metrics["pid"])
    os.kill(far, signal.SIGSTOP)
    assert run(platform, host, pipeline="one") == "succeeded"
    assert gone(far)
    assert warm(host) == {"one"}
    assert run(platform, host, pipeline="far") == "succeeded"
    assert warm(host) == {"far"}


def test_preloaded_pipelines_share_the_budget(
    make_pool: MakePool, bare_python: str, process_log: StringIO
) -> None:
    """What is loaded before it is needed makes room like anything else."""
    pool = make_pool(
        preload=("one", "far"),
        SCRIPTED_MIB="200",
        WORKER_MEMORY_BUDGET_MIB="300",
        WORKER_PIPELINES="one=scripted_pipeline:Scripted "
        f"far=scripted_pipeline:Scripted@{bare_python}",
    )

    def settled() -> bool:
        pool.ensure_started()
        said = process_log.getvalue()
        return (
            "one is set up" in said
            and "far is set up" in said
            and sum(status.warm for status in pool.statuses()) == 1
        )

    until(settled, "loading of both, and dropping of one")


def pids(platform: Platform, host: RunHost, count: int) -> list[float]:
    """The process of each of so many runs."""
    found = []
    for _ in range(count):
        assert run(platform, host, ["count", 0]) == "succeeded"
        found.append(platform.outcome.metrics["pid"])
    return found


def test_a_process_is_replaced_after_so_many_runs(
    platform: Platform, host: RunHost, make_pool: MakePool
) -> None:
    """WORKER_RECYCLE_RUNS is how many runs a process makes."""
    host.pool = make_pool(WORKER_RECYCLE_RUNS="2")
    first, second, third, fourth = pids(platform, host, 4)
    assert first == second
    assert third == fourth
    assert first != third


def test_a_process_that_grows_is_replaced(
    platform: Platform, host: RunHost, make_pool: MakePool
) -> None:
    """A process whose memory has grown by more than the setting allows makes no other run."""
    host.pool = make_pool(WORKER_RECYCLE_DRIFT_MIB="100")
    before = pids(platform, host, 2)
    run(platform, host, ["leak", 20])
    assert pids(platform, host, 1) == before[:1]
    assert run(platform, host, ["leak", 200]) == "succeeded"
    assert pids(platform, host, 1) != before[:1]


def test_a_process_with_a_broken_device_is_replaced(platform: Platform, host: RunHost) -> None:
    """After a CUDA error the run may be tried again, and the next one gets a new process."""
    before = pids(platform, host, 1)
    assert run(platform, host, ["break_device", "an illegal memory access"]) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("PIPELINE_ERROR", False)
    assert pids(platform, host, 1) != before


def test_a_full_device_is_out_of_memory(platform: Platform, host: RunHost) -> None:
    """What the driver says of a full device is no broken device, but a new process is due."""
    before = pids(platform, host, 1)
    assert run(platform, host, ["break_device", "out of memory"]) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("OUT_OF_MEMORY", True)
    assert pids(platform, host, 1) != before


def test_out_of_memory_is_tried_again_alone(
    platform: Platform, host: RunHost, make_pool: MakePool
) -> None:
    """The second try finds every other pipeline unloaded; what was handed over keeps its name."""
    host.pool = make_pool(
        WORKER_PIPELINES="inflate=scripted_pipeline:Scripted other=scripted_pipeline:Scripted "
        "scripted=scripted_pipeline:Scripted"
    )
    run(platform, host, pipeline="other")
    steps = (["progress", 40], ["artifact", "still.png"], ["exhaust_memory", 1])
    assert run(platform, host, *steps, ["artifact", "model.png"]) == "succeeded"
    assert warm(host) == {"scripted"}
    assert names(platform) == ["still.png", "still-2.png", "model.png", "run.log"]
    assert "memory did not suffice" in content(platform, "run.log").decode()


def test_out_of_memory_twice_is_tried_smaller(
    platform: Platform, host: RunHost, make_pool: MakePool
) -> None:
    """The second try is alone, the third has the smaller settings; the manifest says so."""
    host.pool = make_pool()
    run(platform, host, pipeline="other")
    smaller = {
        "do": [["artifact", "still.png"], ["tell_job", "told.json"], ["manifest", '{"mesh": 1}']],
        "resolution": 512,
    }
    asked = {"resolution": 1024, "smaller": smaller}
    steps = (["artifact", "still.png"], ["exhaust_memory", 2])
    assert run(platform, host, *steps, **asked) == "succeeded"
    assert warm(host) == {"scripted"}
    log = content(platform, "run.log").decode()
    assert log.index("with nothing else loaded") < log.index("trying smaller settings")
    told = json.loads(content(platform, "told.json"))
    assert told["params"]["resolution"] == 512
    assert told["reduced_from"]["resolution"] == 1024
    manifest = json.loads(content(platform, "manifest.json"))
    assert manifest.keys() == {"mesh", "run"}
    assert told_of(manifest) == (smaller, {"do": list(steps), **asked}, 3)
    assert names(platform) == [
        "still.png",
        "still-2.png",
        "still-3.png",
        "told.json",
        "manifest.json",
        "run.log",
    ]


def test_a_reduced_run_without_a_manifest_gets_one(platform: Platform, host: RunHost) -> None:
    """What was really used is recorded even if the pipeline records nothing."""
    smaller = {"do": [["artifact", "still.png"]], "resolution": 512}
    assert run(platform, host, ["exhaust_memory", 2], resolution=9, smaller=smaller) == "succeeded"
    (record,) = [record for record in platform.records if record.kind == "manifest"]
    assert json.loads(content(platform, record.name))["run"]["params"] == smaller


@pytest.mark.parametrize("text", ["no json", "[1]", '"text"', "[" * 100_000])
def test_a_manifest_that_is_no_object_is_left_alone(
    platform: Platform, host: RunHost, text: str
) -> None:
    """Whatever else a pipeline calls its manifest is kept as it is."""
    assert run(platform, host, ["manifest", text]) == "succeeded"
    assert content(platform, "manifest.json").decode() == text


def test_a_manifest_names_the_parameters_of_any_run(platform: Platform, host: RunHost) -> None:
    """A run that had enough memory has nothing to hide either."""
    steps = [["manifest", "{}"]]
    assert run(platform, host, *steps, seed=7) == "succeeded"
    manifest = json.loads(content(platform, "manifest.json"))
    assert told_of(manifest) == ({"do": steps, "seed": 7}, None, 1)


def test_a_manifest_names_the_machine(platform: Platform, host: RunHost) -> None:
    """What may change the last bit of a result is told with it."""
    assert run(platform, host, ["manifest", "{}"]) == "succeeded"
    machine = json.loads(content(platform, "manifest.json"))["run"]["machine"]
    assert machine.keys() == {"python", "system", "processor", "threads", "gpu"}
    assert machine["python"] == python_version()


@pytest.mark.parametrize("offers_less", [False, True])
def test_out_of_memory_to_the_end_is_a_failure(
    platform: Platform,
    host: RunHost,
    offers_less: bool,  # noqa: FBT001
) -> None:
    """When nothing helps, the failure says so, may be tried elsewhere, and the queue goes on."""
    steps = [["exhaust_memory", 3]]
    less = {"smaller": {"do": steps}} if offers_less else {}
    assert run(platform, host, *steps, **less) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("OUT_OF_MEMORY", True)
    assert run(platform, host) == "succeeded"


def test_other_interpreters_give_their_memory_too(
    platform: Platform, host: RunHost, make_pool: MakePool, bare_python: str
) -> None:
    """Out of memory in one process ends the other ones before the second try."""
    host.pool = make_pool(
        WORKER_PIPELINES="scripted=scripted_pipeline:Scripted "
        f"other=scripted_pipeline:Scripted@{bare_python}"
    )
    assert run(platform, host, pipeline="other") == "succeeded"
    assert warm(host) == {"other"}
    assert run(platform, host, ["exhaust_memory", 1]) == "succeeded"
    assert warm(host) == {"scripted"}
    assert run(platform, host, pipeline="other") == "succeeded"


def test_progress_never_falls_in_a_second_try(platform: Platform, host: RunHost) -> None:
    """A run that begins again does not go back in the eyes of its owner."""
    steps = (["progress", 70], ["ignore_all", 0.1], ["exhaust_memory", 1])
    assert run(platform, host, *steps, ["progress", 20], ["ignore_all", 0.1]) == "succeeded"
    beats = [AttemptHeartbeat.model_validate_json(s.body) for s in platform.requests("heartbeat")]
    told = [beat.progress.percent for beat in beats if beat.progress is not None]
    assert set(told) == {70}
