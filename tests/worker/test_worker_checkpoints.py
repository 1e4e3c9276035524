"""A later attempt goes on from what an earlier one has left, if that can be had."""

import json
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from fake_platform import LOST, Platform
from worker_support import content, do, names

from worker_vm.backoff import RetryPolicy
from worker_vm.runner import RunHost, run_attempt

TELL = ["tell_job", "told.json"]


def told(platform: Platform) -> Any:
    """What the run was given as a checkpoint."""
    return json.loads(content(platform, "told.json"))["checkpoint"]


def test_a_run_gets_the_checkpoint(platform: Platform, host: RunHost) -> None:
    """The file arrives, after a failure of storage too, beside the inputs and not among them."""
    platform.add_input("image_path", b"pixels")
    platform.add_checkpoint("checkpoint-60.bin", b"60 %")
    platform.faults["GET"] = [LOST, 503]
    do(platform, TELL)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert told(platform) == "60 %"


def test_a_first_run_has_none(platform: Platform, host: RunHost) -> None:
    """Without an earlier attempt there is nothing to go on from."""
    do(platform, TELL)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert told(platform) is None


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("gone", "INPUT_UNAVAILABLE"),
        ("changed", "INPUT_CHANGED"),
        ("longer", "INPUT_CHANGED"),
        ("away", "STORAGE_UNAVAILABLE"),
    ],
)
def test_a_checkpoint_that_cannot_be_had(
    platform: Platform, host: RunHost, process_log: StringIO, damage: str, code: str
) -> None:
    """The run starts from its beginning instead, and the log says why."""
    data = b"60 %"
    size = {"size_bytes": len(data) - 1} if damage == "longer" else {}
    platform.add_checkpoint("checkpoint-60.bin", data, **size)
    (path,) = platform.objects
    if damage == "gone":
        del platform.objects[path]
    elif damage == "changed":
        platform.objects[path] = b"61 %"
    elif damage == "away":
        platform.faults["GET"] = [503] * 1000
        brief = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=0.1)
        host.patience = replace(host.patience, download=brief)
    do(platform, TELL)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert told(platform) is None
    lines = [json.loads(line) for line in process_log.getvalue().splitlines()]
    (line,) = [line for line in lines if line["event"] == "input.left_out"]
    assert line["code"] == code


def test_a_checkpoint_is_no_result(platform: Platform, host: RunHost) -> None:
    """It is committed while the run goes on, and the report does not name it."""
    do(platform, ["checkpoint", "checkpoint-30.bin"], ["model", "model.glb"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == ["checkpoint-30.bin", "model.glb", "run.log"]
    assert platform.outcome.artifact_ids == [platform.records[1].artifact_id]
