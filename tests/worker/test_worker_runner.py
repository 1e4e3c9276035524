"""One attempt from claim to report, against an API that can be told to misbehave."""

import json
import os
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fake_platform import LOST, SIGNATURE, TOKEN, Platform
from worker_support import content, do, names

from contract.attempts import ClaimRequest
from contract.kinds import ArtifactKind
from worker_vm.api_client import ApiRefusedError, WorkerKeyRefusedError
from worker_vm.runner import RunHost, run_attempt
from worker_vm.uploads import open_regular


def test_a_run_downloads_uploads_and_reports(platform: Platform, host: RunHost) -> None:
    """Inputs arrive, artifacts go out in order, and the report names all of them."""
    platform.add_input("image_path", b"pixels")
    do(
        platform,
        ["progress", 10],
        ["artifact", "still.png"],
        ["copy_input", "image_path"],
        ["metric", ["faces", 12]],
    )
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == ["still.png", "copy.bin", "run.log"]
    assert platform.records[-1].kind is ArtifactKind.LOG
    outcome = platform.outcome
    assert outcome.artifact_ids == [record.artifact_id for record in platform.records[:-1]]
    assert outcome.metrics == {"faces": 12.0}
    (copied,) = [path for path in platform.objects if path.endswith("copy.bin")]
    assert platform.objects[copied] == b"pixels"


def test_calls_carry_the_token_and_the_trace(platform: Platform, host: RunHost) -> None:
    """Each call after the claim names its attempt's token and trace; storage sees neither."""
    do(platform, ["artifact", "still.png"])
    run_attempt(host, platform.attempt_id)
    for route in ("upload-tickets", "artifacts", "finish"):
        headers = platform.requests(route)[0].headers
        assert headers["x-attempt-token"] == TOKEN
        assert headers["traceparent"] == platform.spec["traceparent"]
    put = platform.requests("PUT")[0].headers
    assert "x-attempt-token" not in put
    assert "x-api-key" not in put
    assert put["content-type"] == "image/png"
    assert put["content-length"] == str(len(b"content of still.png"))
    assert "transfer-encoding" not in put


def test_private_folders_are_removed(platform: Platform, host: RunHost) -> None:
    """Nothing of a run stays on the disk, however it ends."""
    for steps in ([["artifact", "a.png"]], [["crash", "oh"]]):
        do(platform, *steps)
        run_attempt(host, platform.attempt_id)
        platform.new_attempt()
    assert list(host.work_root.iterdir()) == []


def test_a_repeated_claim_is_the_same_claim(platform: Platform, host: RunHost) -> None:
    """A claim whose answer was lost is sent again with the same id, and granted."""
    platform.faults["claim"] = [LOST, 503, LOST]
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    claims = [ClaimRequest.model_validate_json(s.body) for s in platform.requests("claim")]
    assert len(claims) == 4
    assert len({claim.claim_id for claim in claims}) == 1


@pytest.mark.parametrize("status", [409, 410])
def test_a_refused_claim_ends_quietly(platform: Platform, host: RunHost, status: int) -> None:
    """A superseded or cancelled attempt is left alone."""
    platform.faults["claim"] = [status]
    assert run_attempt(host, platform.attempt_id) == "not run"
    assert [seen.route for seen in platform.seen] == ["claim"]


def test_a_wrong_key_is_told_in_a_sentence(platform: Platform, host: RunHost) -> None:
    """A key that the API keeps refusing fails the claim with what to check."""
    platform.faults["claim"] = [401] * 1000
    with pytest.raises(WorkerKeyRefusedError, match="check WORKER_API_KEY"):
        run_attempt(host, platform.attempt_id)


def test_a_key_that_is_put_right_goes_on(platform: Platform, host: RunHost) -> None:
    """A refused key fails no task while the operator puts it right."""
    platform.faults["claim"] = [401, 403]
    platform.spec["params"] = {"do": []}
    assert run_attempt(host, platform.attempt_id) == "succeeded"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """What a pipeline puts in a result's place, such as a pipe or a link, is never waited for."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing"):
        with pytest.raises(OSError, match=r"not a regular file|No such file|Too many levels"):
            open_regular(tmp_path / name)
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"content"


def test_an_unknown_attempt_is_refused(host: RunHost) -> None:
    """An id the API doesn't know is an error, with the API's own code."""
    with pytest.raises(ApiRefusedError) as caught:
        run_attempt(host, uuid4())
    assert (caught.value.status, caught.value.code) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("nowhere", "knows no pipeline 'nowhere'"),
        ("unavailable", "There is no GPU. Weights are missing."),
        ("broken", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_cannot_run_here_is_released(
    platform: Platform, host: RunHost, pipeline: str, reason: str
) -> None:
    """A pipeline that this worker lacks is handed back, with why."""
    platform.spec["pipeline"] = pipeline
    assert run_attempt(host, platform.attempt_id) == "released"
    assert reason in platform.outcome.reason
    assert platform.records == []


@pytest.mark.parametrize(
    ("step", "code", "permanent", "sentence"),
    [
        (["fail", ["CUTOUT_EMPTY", "Send a picture.", True]], "CUTOUT_EMPTY", True, "Send a pic"),
        (["fail", ["bad code", "What.", True]], "PIPELINE_ERROR", False, "unexpected"),
        (["crash", "at /home/x"], "PIPELINE_ERROR", False, "unexpected ZeroDivisionError"),
        (["exit", 0], "PIPELINE_ERROR", False, "unexpected SystemExit"),
        (["exhaust_memory", 3], "OUT_OF_MEMORY", True, "memory"),
        (["hand_over", "none.png"], "INVALID_OUTPUT", False, "does not exist"),
        (["hand_over", "run.log"], "INVALID_OUTPUT", False, "name of the run's log"),
        (["hand_over", "ä b.png"], "INVALID_OUTPUT", False, "not allowed"),
        (["hand_over", f"{300 * 'x'}.png"], "INVALID_OUTPUT", False, "File name too long"),
        (["hand_over", "a\0b.png"], "INVALID_OUTPUT", False, "cannot be looked at"),
        (["fail", ["ODD", "a$ODDb", False]], "ODD", False, "a\ufffd?b"),
        (["log_and_crash", "$ODD"], "PIPELINE_ERROR", False, "unexpected"),
        (["nonsense", 0], "PIPELINE_ERROR", False, "unexpected AttributeError"),
    ],
)
def test_failures_have_a_code(
    platform: Platform,
    host: RunHost,
    step: list[Any],
    code: str,
    permanent: bool,  # noqa: FBT001
    sentence: str,
) -> None:
    """Each way to fail is reported with its code, a sentence and whether it would recur."""
    do(platform, step)
    assert run_attempt(host, platform.attempt_id) == "failed"
    outcome = platform.outcome
    assert (outcome.code, outcome.permanent) == (code, permanent)
    assert sentence in outcome.message
    assert "/home/x" not in outcome.message
    assert names(platform) == ["run.log"]


def test_odd_text_and_numbers_are_reported(platform: Platform, host: RunHost) -> None:
    """What JSON or a database refuses is replaced, not a reason to lose a result."""
    do(
        platform,
        ["progress_text", "a$ODD"],
        ["metric", ["a$ODD", 1]],
        ["metric", ["endless", "inf"]],
    )
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert platform.outcome.metrics == {"a\N{REPLACEMENT CHARACTER}?": 1.0}


def test_an_empty_result_is_refused(platform: Platform, host: RunHost) -> None:
    """A file without content never becomes an artifact."""
    do(platform, ["empty", "e.png"], ["hand_over", "e.png"])
    run_attempt(host, platform.attempt_id)
    assert platform.outcome.code == "INVALID_OUTPUT"
    assert "is empty" in platform.outcome.message


def test_the_log_says_what_happened_and_no_secret(
    platform: Platform, host: RunHost, process_log: StringIO
) -> None:
    """The run's log has the ids, the trace and the error, but no folder, token or signature."""
    platform.add_input("image_path", b"pixels")
    platform.faults["PUT"] = [500]
    do(
        platform,
        ["say", f"fetching {platform.url}/bucket/x?{SIGNATURE}"],
        ["artifact", "still.png"],
        ["work", 0.1],
        ["crash", "cannot open $WORK/model.bin"],
    )
    run_attempt(host, platform.attempt_id)
    run_log = content(platform, "run.log").decode()
    lines = [json.loads(line) for line in run_log.splitlines()]
    assert all(line["attempt_id"] == str(platform.attempt_id) for line in lines)
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert {line["traceparent"] for line in lines} == {platform.spec["traceparent"]}
    (crash,) = [line for line in lines if line["event"] == "run.crashed"]
    assert crash["message"] == "cannot open <work>/work/1/model.bin"
    said = [line["line"] for line in lines if line["event"] == "pipeline.output"]
    assert "ZeroDivisionError: cannot open <work>/work/1/model.bin" in said
    told = run_log + process_log.getvalue() + platform.outcome.log_tail
    assert "5ec4e7" not in told
    assert TOKEN not in told
    assert str(host.work_root) not in run_log + platform.outcome.log_tail
    assert "run.crashed" in platform.outcome.log_tail
