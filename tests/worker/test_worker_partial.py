"""What a cancelled run has made, before and after it was told, is kept as far as that goes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_platform import Platform
from worker_support import content, do, meanwhile, names

from worker_vm.backoff import RetryPolicy
from worker_vm.runner import RunHost, run_attempt


@pytest.fixture(autouse=True)
def thorough(platform: Platform) -> None:
    """A pipeline with time to hand over what it has."""
    platform.spec["pipeline"] = "thorough"
    platform.spec["heartbeat_seconds"] = 1


def cancelled(platform: Platform, host: RunHost, meet: Callable[[], Any] = lambda: None) -> str:
    """The outcome of a run that is cancelled as soon as it works."""

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        meet()
        platform.cancel_requested = True

    with meanwhile(cancel):
        return run_attempt(host, platform.attempt_id)


def test_partial_results(platform: Platform, host: RunHost) -> None:
    """Files handed over before and after a cancellation are all committed before the report."""
    do(
        platform,
        ["model", "rough.glb"],
        ["work_then", [["artifact", "best.png"], ["checkpoint", "at-50.bin"]]],
    )
    assert cancelled(platform, host) == "cancelled"
    assert names(platform) == ["rough.glb", "best.png", "at-50.bin", "run.log"]
    assert content(platform, "best.png") == b"content of best.png"
    routes = [seen.route for seen in platform.seen]
    assert routes.index("finish") > max(i for i, r in enumerate(routes) if r == "artifacts")


def test_told_only_once_by_a_file(platform: Platform, host: RunHost) -> None:
    """Progress is refused each time, so that a pipeline that hands over files still ends."""
    do(platform, ["work_then", [["artifact", "best.png"], ["progress", 60], ["artifact", "x.png"]]])
    assert cancelled(platform, host) == "cancelled"
    assert names(platform) == ["best.png", "run.log"]


def test_a_run_that_returns_after_it_was_told(platform: Platform, host: RunHost) -> None:
    """Whoever ends well after the cancellation is cancelled all the same."""
    do(platform, ["progress", 1], ["artifact", "early.png"], ["ignore_all", 3])
    assert cancelled(platform, host) == "cancelled"
    assert names(platform) == ["early.png", "run.log"]
    platform.new_attempt()
    do(platform, ["count", 0])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert platform.outcome.metrics["runs"] > 1, "the process was not killed for it"


def test_a_bad_file_costs_no_good_one(platform: Platform, host: RunHost) -> None:
    """An unusable partial result, or one that the app refuses, is left out."""
    do(
        platform,
        [
            "work_then",
            [
                ["empty", "none.png"],
                ["hand_over", "none.png"],
                ["model", "a.glb"],
                ["model", "b.glb"],
            ],
        ],
    )
    # A run's files are committed after its end, so the first of these is for `a.glb`.
    platform.faults["upload-tickets"] = [422]
    assert cancelled(platform, host) == "cancelled"
    assert names(platform) == ["b.glb", "run.log"]


def test_patience_has_an_end(platform: Platform, host: RunHost) -> None:
    """Storage that stays away delays the report of a cancellation, and does not prevent it."""
    brief = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=0.2)
    host.patience = replace(host.patience, cancelled=brief)
    do(platform, ["work_then", [["artifact", "best.png"]]])
    assert (
        cancelled(platform, host, lambda: platform.faults["PUT"].extend([503] * 10_000))
        == "cancelled"
    )
    assert names(platform) == ["run.log"]
    assert platform.requests("PUT")


def test_an_upload_in_mid_air(platform: Platform, host: RunHost) -> None:
    """A file whose upload was under way when the cancellation came is uploaded again."""
    platform.faults["PUT"] = [503] * 3
    host.patience = replace(
        host.patience, upload=RetryPolicy(first_wait=60, longest_wait=60, give_up_after=600)
    )
    do(platform, ["artifact", "early.png"], ["work_then", []])
    under_way = lambda: platform.wait_for(lambda: platform.requests("PUT"))  # noqa: E731
    assert cancelled(platform, host, under_way) == "cancelled"
    assert names(platform) == ["early.png", "run.log"]


def test_other_stops_keep_nothing(platform: Platform, host: RunHost) -> None:
    """A run over its time limit fails: what it still hands over is dropped."""
    platform.spec["time_limit_seconds"] = 1
    do(platform, ["work_then", [["artifact", "best.png"]]])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code == "TIME_LIMIT_EXCEEDED"
    assert names(platform) == ["run.log"]


def test_a_lost_attempt_hands_over_nothing(platform: Platform, host: RunHost) -> None:
    """If the attempt is somebody else's by then, the files are dropped and nothing is reported."""
    do(platform, ["work_then", [["artifact", "best.png"]]])

    def lose() -> None:
        platform.faults["upload-tickets"] = [409]

    assert cancelled(platform, host, lose) == "lost"
    assert platform.finished is None
