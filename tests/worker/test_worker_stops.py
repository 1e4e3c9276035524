"""Reports, progress, and everything that ends a run before its time."""

from pathlib import Path
from typing import Any

import pytest
from fake_platform import LOST, Platform, Reply
from worker_support import do, meanwhile, names

from contract.attempts import AttemptHeartbeat
from worker_vm.runner import RunHost, run_attempt


def test_a_report_is_repeated_word_for_word(platform: Platform, host: RunHost) -> None:
    """A report whose answer was lost is sent again unchanged, so that it counts once."""
    platform.faults["finish"] = [503, LOST, LOST]
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    bodies = {seen.body for seen in platform.requests("finish")}
    assert len(platform.requests("finish")) == 4
    assert len(bodies) == 1


def test_a_refused_success_is_reported_as_a_failure(platform: Platform, host: RunHost) -> None:
    """When the app finds fault with the result, the attempt fails instead of going silent."""
    platform.faults["finish"] = [422, 422]
    do(platform, ["copy_input", "image_path"])
    platform.add_input("image_path", b"pixels")
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code == "INVALID_OUTPUT"


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_refused_failure_is_reported_without_its_log(
    platform: Platform, host: RunHost, refusals: int
) -> None:
    """Whatever the app finds wrong with a report, that the run has failed arrives."""
    platform.faults["finish"] = [422] * refusals
    do(platform, ["crash", "oh"])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert (platform.outcome.code, platform.outcome.log) == ("PIPELINE_ERROR", None)
    assert platform.outcome.log_tail == ""


def test_progress_never_falls(platform: Platform, host: RunHost) -> None:
    """The API sees rising percentages within 0-100, whatever the pipeline says."""
    steps: list[list[Any]] = []
    for percent in (5, 40, 20, 500, "nan"):
        steps += [["progress", percent], ["ignore_all", 0.1]]
    do(platform, *steps)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    beats = [AttemptHeartbeat.model_validate_json(s.body) for s in platform.requests("heartbeat")]
    told = [beat.progress.percent for beat in beats if beat.progress is not None]
    assert told == sorted(told)
    assert told[0] >= 5
    assert told[-1] == 100


def test_a_cancelled_run_keeps_its_previews(platform: Platform, host: RunHost) -> None:
    """Cancel, learned from a heartbeat, ends the run; what was uploaded stays."""
    platform.spec["heartbeat_seconds"] = 1
    platform.cancel_requested = False
    do(platform, ["artifact", "still.png"], ["progress", 1], ["work", 60])

    def cancel() -> None:
        platform.wait_for(lambda: platform.records)
        platform.cancel_requested = True

    with meanwhile(cancel):
        assert run_attempt(host, platform.attempt_id) == "cancelled"
    assert names(platform) == ["still.png", "run.log"]
    assert platform.outcome.outcome == "cancelled"


@pytest.mark.parametrize(("asked", "outcome"), [(True, "cancelled"), (False, "released")])
def test_a_stop_command_ends_the_run(
    platform: Platform,
    host: RunHost,
    asked: bool,  # noqa: FBT001
    outcome: str,
) -> None:
    """A stop cancels if the job was cancelled; else the attempt is handed back."""

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        platform.cancel_requested = asked
        host.stop_current()

    do(platform, ["progress", 1], ["work", 60])
    with meanwhile(cancel):
        assert run_attempt(host, platform.attempt_id) == outcome
    assert names(platform) == ["run.log"]


REFUSED_TOKEN = Reply(403, b'{"code": "ATTEMPT_TOKEN_INVALID"}')


@pytest.mark.parametrize("status", [409, 410, REFUSED_TOKEN])
def test_a_lost_attempt_is_left_alone(
    platform: Platform, host: RunHost, status: int | Reply
) -> None:
    """After a 409, a 410 or a refused token in a heartbeat the run stops and reports nothing."""
    platform.faults["heartbeat"] = [status]
    do(platform, ["progress", 1], ["work", 60])
    assert run_attempt(host, platform.attempt_id) == "lost"
    assert platform.finished is None
    assert platform.requests("upload-tickets") == []


def test_an_attempt_lost_while_uploading_is_left_alone(platform: Platform, host: RunHost) -> None:
    """After a 409 for a ticket the run stops and reports nothing."""
    platform.faults["upload-tickets"] = [409]
    do(platform, ["artifact", "still.png"], ["work", 60])
    assert run_attempt(host, platform.attempt_id) == "lost"
    assert platform.finished is None


def test_an_attempt_lost_at_the_end_is_left_alone(platform: Platform, host: RunHost) -> None:
    """A report that comes too late ends quietly."""
    platform.faults["finish"] = [409]
    assert run_attempt(host, platform.attempt_id) == "lost"


def test_failed_heartbeats_are_repeated(platform: Platform, host: RunHost) -> None:
    """Heartbeats that fail for a while do no harm, and progress arrives afterwards."""
    platform.faults["heartbeat"] = [503, LOST]
    do(platform, ["progress", 33], ["wait_for", str(host.work_root.parent / "go")])

    def watch() -> None:
        platform.wait_for(lambda: len(platform.requests("heartbeat")) >= 3)
        Path(host.work_root.parent / "go").touch()

    with meanwhile(watch):
        assert run_attempt(host, platform.attempt_id) == "succeeded"
    last = AttemptHeartbeat.model_validate_json(platform.requests("heartbeat")[2].body)
    assert last.progress is not None


def test_the_time_limit_ends_a_run(platform: Platform, host: RunHost) -> None:
    """A run over its limit fails for good, with its log."""
    platform.spec["time_limit_seconds"] = 1
    do(platform, ["work", 60])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("TIME_LIMIT_EXCEEDED", True)
    assert names(platform) == ["run.log"]
