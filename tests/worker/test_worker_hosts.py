"""The process that runs pipelines: how long it lives, how it ends, and what its end means."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_platform import Platform
from worker_support import content, do, every_pipeline, gone, meanwhile, names, until

from worker_vm import host_pool, host_process
from worker_vm.backoff import RetryPolicy
from worker_vm.control import RunControl
from worker_vm.host_pool import HostPool, PipelineUnavailableError
from worker_vm.runner import RunHost, run_attempt

SECRETS = (
    *("REDIS_URL", "API_URL", "WORKER_API_KEY", "redis_url", "worker_api_key"),
    *("DATABASE_URL", "SECRET_KEY", "MINIO_SECRET_KEY", "FIRST_SUPERUSER_API_KEY"),
)
MakePool = Callable[..., HostPool]


def counted(platform: Platform, host: RunHost, *steps: list[Any]) -> dict[str, float]:
    """A run of its own, and what its process then has done so far."""
    platform.new_attempt()
    do(platform, *steps, ["count", 0])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    return dict(platform.outcome.metrics)


def test_many_runs_share_one_process_and_one_setup(
    platform: Platform, host: RunHost, make_pool: MakePool
) -> None:
    """Run after run finds its pipeline loaded, whether it ends well or fails with a code."""
    host.pool = make_pool()
    first = counted(platform, host)
    platform.new_attempt()
    do(platform, ["fail", ["NO", "No.", True]])
    run_attempt(host, platform.attempt_id)
    platform.new_attempt()
    do(platform, ["crash", "oh"])
    run_attempt(host, platform.attempt_id)
    for _ in range(5):
        last = counted(platform, host)
    assert last["pid"] == first["pid"]
    assert (last["setups"], last["runs"]) == (1, 8)


def test_a_pipeline_may_be_loaded_at_the_start(make_pool: MakePool) -> None:
    """What is preloaded is told to be warm before its first run."""
    pool = make_pool(preload=("scripted", "nowhere"))
    pool.await_started()

    def warm() -> list[str]:
        return [status.name for status in pool.statuses() if status.warm]

    assert warm() == []

    def warm_by_now() -> bool:
        pool.ensure_started()
        return warm() == ["scripted"]

    until(warm_by_now)


def test_a_cancelled_loop_leaves_the_process_warm(platform: Platform, host: RunHost) -> None:
    """A pipeline that notices the stop ends by itself, and keeps its models."""
    before = counted(platform, host)
    platform.new_attempt()
    do(platform, ["progress", 1], ["work", 120])

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        platform.cancel_requested = True
        host.stop_current()

    with meanwhile(cancel):
        assert run_attempt(host, platform.attempt_id) == "cancelled"
    assert counted(platform, host) == {**before, "runs": before["runs"] + 2}


@pytest.mark.parametrize("step", [["hold_gil", 120], ["ignore_all", 120]])
def test_a_cancelled_deaf_run_is_killed(platform: Platform, host: RunHost, step: list[Any]) -> None:
    """A pipeline that cannot notice the stop is killed, and a new process runs the next job."""
    before = counted(platform, host)
    platform.new_attempt()
    do(platform, ["progress", 1], step)

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        platform.cancel_requested = True
        host.stop_current()

    with meanwhile(cancel):
        assert run_attempt(host, platform.attempt_id) == "cancelled"
    after = counted(platform, host)
    assert gone(int(before["pid"]))
    assert (after["setups"], after["runs"]) == (1, 1)


@pytest.mark.parametrize("step", [["work", 120], ["hold_gil", 120]])
def test_the_time_limit_ends_any_run(
    platform: Platform, host: RunHost, step: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run over its limit fails for good, whether it notices or has to be killed."""
    monkeypatch.setattr(host_process, "LIMIT_GRACE_SECONDS", 0.3)
    platform.spec["time_limit_seconds"] = 1
    do(platform, step)
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("TIME_LIMIT_EXCEEDED", True)
    assert names(platform) == ["run.log"]
    platform.spec["time_limit_seconds"] = 60
    counted(platform, host)


@pytest.mark.parametrize(
    ("step", "end"),
    [
        (["exit_at_once", 7], "exited with status 7"),
        (["exit_at_once", 0], "exited with status 0"),
        (["segfault", 0], "was ended by SIGSEGV"),
        (["kill_itself", 0], "was ended by SIGKILL"),
    ],
)
def test_a_crash_is_told_and_survived(
    platform: Platform, host: RunHost, step: list[Any], end: str
) -> None:
    """Exit, signal, last words and peak memory stand in a failure that may be tried again."""
    do(platform, ["say", "last words"], ["artifact", "still.png"], step)
    assert run_attempt(host, platform.attempt_id) == "failed"
    outcome = platform.outcome
    assert (outcome.code, outcome.permanent) == ("WORKER_CRASHED", False)
    assert f"scripted {end} (peak memory " in outcome.message
    assert "(peak memory 0 MiB)" not in outcome.message
    assert "last words" in outcome.message
    assert "last words" in outcome.log_tail
    assert list(host.work_root.iterdir()) == []
    counted(platform, host)


def test_a_busy_run_in_c_keeps_its_lease(platform: Platform, host: RunHost) -> None:
    """Heartbeats go on while no thread of the pipeline's process can run."""
    platform.spec["heartbeat_seconds"] = 0.3
    do(platform, ["hold_gil", 2])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert len(platform.requests("heartbeat")) >= 3


@pytest.mark.parametrize("own_session", [False, True])
@pytest.mark.parametrize("step", [["kill_itself", 0], ["ignore_all", 120]])
def test_processes_that_hold_the_output_open_block_nothing(
    platform: Platform,
    host: RunHost,
    tmp_path: Path,
    step: list[Any],
    own_session: bool,  # noqa: FBT001
) -> None:
    """A crash or a kill is complete although something that the run started keeps its pipe."""
    path = tmp_path / "grandchild"
    do(platform, ["start_child", [str(path), own_session]], ["progress", 1], step)

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        platform.cancel_requested = True
        host.stop_current()

    with meanwhile(cancel if step[0] == "ignore_all" else lambda: None):
        assert run_attempt(host, platform.attempt_id) in {"failed", "cancelled"}
    grandchild = int(path.read_text())
    counted(platform, host)
    until(lambda: gone(grandchild), "end of what the run had started")


@pytest.mark.parametrize(
    "step",
    [
        ["babble", 0],
        ["babble_json", "no json"],
        ["babble_json", "[]"],
        ["babble_json", '{"type": "Nothing"}'],
        ["babble_json", '{"type": "Advanced"}'],
        ["babble_json", '{"type": "Advanced", "percent": "x", "stage": 7, "message": []}'],
        ["babble_json", '{"type": "Produced", "kind": 1, "path": 2, "media_type": 3}'],
        ["babble_json", '{"type": "Ended", "outcome": 3, "metrics": []}'],
        ["babble_json", '{"type": "Loaded", "pipelines": 3}'],
        ["hang_up", 0],
    ],
)
def test_garbage_from_a_pipeline_ends_its_run_only(
    platform: Platform, host: RunHost, step: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a pipeline's process sends, the attempt fails and the next one runs."""
    monkeypatch.setattr(host_process, "_HUNG_UP_SECONDS", 0.2)
    do(platform, step)
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code in {"WORKER_CRASHED", "PIPELINE_ERROR"}
    counted(platform, host)


def test_what_a_pipeline_prints_is_in_its_log(platform: Platform, host: RunHost) -> None:
    """Lines on stdout and stderr are lines of the run's log, with the run's ids."""
    do(platform, ["say", "hello"], ["artifact", "a.png"])
    run_attempt(host, platform.attempt_id)
    lines = [json.loads(line) for line in content(platform, "run.log").splitlines()]
    said = [line for line in lines if line["event"] == "pipeline.output"]
    assert {"hello", "aside: hello"} <= {line["line"] for line in said}
    assert {line["job_id"] for line in said} == {str(platform.job_id)}


@pytest.mark.parametrize("kind", ["outside", "link", "parent"])
def test_files_elsewhere_are_not_handed_over(
    platform: Platform, host: RunHost, tmp_path: Path, kind: str
) -> None:
    """A path outside the run's folder, or a link to one, is refused and stays untouched."""
    secret = tmp_path / "secret.png"
    secret.write_text("secret")
    step = {
        "outside": ["hand_over", str(secret)],
        "link": ["hand_over_link", str(secret)],
        "parent": ["hand_over", "../../run.log"],
    }[kind]
    do(platform, step, ["work", 60])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code == "INVALID_OUTPUT"
    assert names(platform) == ["run.log"]
    assert secret.read_text() == "secret"


def test_a_relative_path_is_the_pipelines(platform: Platform, host: RunHost) -> None:
    """A path is meant as seen from the folder that the pipeline's process is in."""
    do(platform, ["hand_over_relative", "here.png"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert content(platform, "here.png") == b"here"


def test_a_pipeline_knows_no_secret(platform: Platform, host: RunHost, make_pool: MakePool) -> None:
    """Addresses and keys of the worker and of the platform are not in the environment."""
    secrets = dict.fromkeys(SECRETS, "x")
    host.pool = make_pool(**secrets, HF_HOME="/models")
    do(platform, ["tell_job", "told.json"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    told = json.loads(content(platform, "told.json"))
    assert not set(secrets) & set(told["environment"])
    assert "HF_HOME" in told["environment"]
    assert not {"pydantic", "httpx", "rq", "structlog", "redis"} & set(told["modules"])


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false", "/bin/sleep"])
def test_a_host_that_cannot_start_is_tried_again_later(
    make_pool: MakePool, python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pipelines say why, the others run, and each failure makes the next try later."""
    monkeypatch.setattr(host_pool, "_RESPAWN", RetryPolicy(first_wait=600, longest_wait=60_000))
    pool = make_pool(WORKER_PIPELINES=f"alien=a:B@{python} inflate=scripted_pipeline:Scripted")
    pool.await_started()
    (alien,) = [status for status in pool.statuses() if status.name == "alien"]
    assert not alien.runnable
    assert python in alien.reasons[0]
    with pytest.raises(PipelineUnavailableError, match=python):
        pool.require("alien", RunControl())
    assert pool.able
    assert pool.require("inflate", RunControl()).ready
    pool.await_started()
    assert pool._failures[python] == 1, "it was tried again at once"
    first = pool._respawn_at[python]
    pool._respawn_at.clear()
    pool.await_started()
    assert pool._failures[python] == 2
    assert pool._respawn_at[python] > first


def test_a_host_that_cannot_start_again_says_why(
    platform: Platform, host: RunHost, make_pool: MakePool, tmp_path: Path
) -> None:
    """What could be run cannot any more once the host has died and its Python is gone."""
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    host.pool = pool = make_pool(WORKER_PIPELINES=f"scripted=scripted_pipeline:Scripted@{python}")
    platform.spec["pipeline"] = "scripted"
    do(platform, ["exit_at_once", 3])
    run_attempt(host, platform.attempt_id)
    (status,) = [status for status in pool.statuses() if status.name == "scripted"]
    assert status.runnable, "a new host is as good as started"
    python.unlink()
    pool.await_started()
    (status,) = [status for status in pool.statuses() if status.name == "scripted"]
    assert not status.runnable
    assert str(python) in status.reasons[0]


@pytest.fixture
def slow_python(tmp_path: Path) -> str:
    """A program that starts and never says anything."""
    path = tmp_path / "slow-python"
    path.write_text("#!/bin/sh\nexec sleep 600\n")
    path.chmod(0o755)
    return str(path)


def test_a_slow_start_holds_up_nobody_else(
    platform: Platform, host: RunHost, make_pool: MakePool, slow_python: str
) -> None:
    """While one host starts, another one runs."""
    host.pool = make_pool(
        WORKER_PIPELINES="scripted=scripted_pipeline:Scripted "
        f"inflate=scripted_pipeline:Scripted@{slow_python}"
    )
    counted(platform, host)
    assert [h.starting for h in host.pool._hosts if h.python == slow_python] == [True]
    assert host.pool._failures == {}


def test_a_run_that_waits_for_its_host_can_be_cancelled(
    platform: Platform, host: RunHost, make_pool: MakePool, slow_python: str
) -> None:
    """A stop is obeyed although the host of the run has not started."""
    host.pool = make_pool(
        WORKER_PIPELINES="scripted=scripted_pipeline:Scripted "
        f"inflate=scripted_pipeline:Scripted@{slow_python}"
    )
    platform.spec |= {"pipeline": "inflate", "heartbeat_seconds": 0.2}
    platform.cancel_requested = True
    assert run_attempt(host, platform.attempt_id) == "cancelled"
    assert host.pool._failures == {}


def test_a_start_that_takes_too_long_has_failed(
    make_pool: MakePool, slow_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is not ready in time is killed, and its pipelines say why."""
    monkeypatch.setattr(host_process, "START_SECONDS", 0.2)
    pool = make_pool(WORKER_PIPELINES=every_pipeline(f"a:B@{slow_python}"))
    pool.await_started()
    assert pool.hopeless
    assert "took more than" in pool.statuses()[0].reasons[0]


def test_crashes_in_a_row_make_the_next_start_wait(
    platform: Platform, host: RunHost, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One crash costs nothing, a second one a wait, and a run that ends forgives both."""
    monkeypatch.setattr(host_pool, "_RESPAWN", RetryPolicy(first_wait=600, longest_wait=600))
    host.pool = pool = make_pool()
    do(platform, ["exit_at_once", 3])
    run_attempt(host, platform.attempt_id)
    assert pool._respawn_at == {}
    platform.new_attempt()
    run_attempt(host, platform.attempt_id)
    assert sys.executable in pool._respawn_at
    platform.new_attempt()
    assert run_attempt(host, platform.attempt_id) == "released"
    assert "does not run" in platform.outcome.reason
    pool._respawn_at.clear()
    counted(platform, host)
    assert pool._failures == {}


def test_a_careless_pipeline_hides_no_other(make_pool: MakePool) -> None:
    """A version that is no text, or reasons that are no list, do not end the worker."""
    pool = make_pool(
        WORKER_PIPELINES="careless=scripted_pipeline:Careless scripted=scripted_pipeline:Scripted"
    )
    pool.await_started()
    runnable = {status.name: status.runnable for status in pool.statuses()}
    assert runnable["scripted"]
    assert not runnable["careless"]
