"""One attempt from claim to report, against an API that can be told to misbehave."""

import json
import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import scripted_pipeline
from fake_platform import LOST, SIGNATURE, TOKEN, Platform, Reply

from contract.artifacts import ArtifactKind
from contract.attempts import AttemptHeartbeat, ClaimRequest
from worker_vm.api_client import ApiRefusedError, ApiUnavailableError, WorkerKeyRefusedError
from worker_vm.backoff import RetryPolicy
from worker_vm.runner import RunHost, run_attempt


def do(platform: Platform, *steps: list[Any]) -> None:
    platform.spec["params"] = {"do": list(steps)}


def be_brief(host: RunHost, *calls: str) -> None:
    """Give up soon on these kinds of calls."""
    brief = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=0.1)
    host.patience = replace(host.patience, **dict.fromkeys(calls, brief))


def names(platform: Platform) -> list[str]:
    return [record.name for record in platform.records]


def run_log(platform: Platform) -> str:
    (path,) = [path for path in platform.objects if path.endswith("/run.log")]
    return platform.objects[path].decode()


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
    assert outcome.artifact_ids == [record.artifact_id for record in platform.records]
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
        platform.claimed_by = platform.finished = None
        platform.records.clear()
    assert list(host.work_root.iterdir()) == []


def test_setup_runs_once_for_each_process(platform: Platform, host: RunHost) -> None:
    """A second run in the same process finds its pipeline loaded."""
    scripted_pipeline.setups.clear()
    for _ in range(2):
        run_attempt(host, platform.attempt_id)
        platform.claimed_by = platform.finished = None
        platform.records.clear()
    assert len(scripted_pipeline.setups) == 1


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
    """A claim with a key that the API refuses fails with what to check."""
    platform.faults["claim"] = [401]
    with pytest.raises(WorkerKeyRefusedError, match="check WORKER_API_KEY"):
        run_attempt(host, platform.attempt_id)


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
        (["exhaust_memory", 0], "OUT_OF_MEMORY", False, "memory"),
        (["hand_over", "none.png"], "INVALID_OUTPUT", False, "does not exist"),
        (["hand_over", "run.log"], "INVALID_OUTPUT", False, "handed over twice"),
        (["hand_over", "ä b.png"], "INVALID_OUTPUT", False, "not allowed"),
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


def test_rqs_own_limit_is_not_the_models(platform: Platform, host: RunHost) -> None:
    """When RQ's time is over first, the claim had waited long: the attempt is handed back."""
    do(platform, ["time_out", 0])
    assert run_attempt(host, platform.attempt_id) == "released"


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
        ["log", f"fetching {platform.url}/bucket/x?{SIGNATURE}"],
        ["artifact", "still.png"],
        ["work", 0.1],
        ["crash", "cannot open $WORK/model.bin"],
    )
    run_attempt(host, platform.attempt_id)
    lines = [json.loads(line) for line in run_log(platform).splitlines()]
    assert all(line["attempt_id"] == str(platform.attempt_id) for line in lines)
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert {line["traceparent"] for line in lines} == {platform.spec["traceparent"]}
    (crash,) = [line for line in lines if line["event"] == "run.crashed"]
    assert "cannot open <work>/work/model.bin" in crash["exception"]
    told = run_log(platform) + process_log.getvalue() + platform.outcome.log_tail
    assert "5ec4e7" not in told
    assert TOKEN not in told
    assert str(host.work_root) not in run_log(platform) + platform.outcome.log_tail
    assert "run.crashed" in platform.outcome.log_tail


def test_a_changed_input_fails_for_good(platform: Platform, host: RunHost) -> None:
    """An object that is not the one of the job's creation is never used."""
    item = platform.add_input("image_path", b"pixels")
    platform.objects[f"/bucket/{item.object_name}"] = b"other!"
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("INPUT_CHANGED", True)


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, b"pixels and more", {"Content-Length": "15"}),
        Reply(200, b"pixels", {"ETag": '"something else"'}),
    ],
)
def test_an_input_other_than_promised_is_refused(
    platform: Platform, host: RunHost, answer: Reply
) -> None:
    """Storage that ignores If-Match, or sends more bytes than promised, is not believed."""
    platform.add_input("image_path", b"pixels")
    platform.faults["GET"] = [answer]
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("INPUT_CHANGED", True)


def test_a_missing_input_fails_for_good(platform: Platform, host: RunHost) -> None:
    """An input that storage has no longer can't come back."""
    item = platform.add_input("image_path", b"pixels")
    del platform.objects[f"/bucket/{item.object_name}"]
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("INPUT_UNAVAILABLE", True)


def test_downloads_are_tried_again(platform: Platform, host: RunHost) -> None:
    """Errors of storage and a download that ends early are not the end of the run."""
    platform.add_input("image_path", b"pixels")
    platform.faults["GET"] = [503, LOST, Reply(200, b"pix", {"Content-Length": "6"})]
    do(platform, ["copy_input", "image_path"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert len(platform.requests("GET")) == 4


def test_storage_that_stays_away_is_no_permanent_failure(platform: Platform, host: RunHost) -> None:
    """When storage keeps failing, the attempt fails so that another may succeed."""
    platform.add_input("image_path", b"pixels")
    platform.faults["GET"] = [503] * 1000
    be_brief(host, "download")
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("STORAGE_UNAVAILABLE", False)


def test_uploads_are_tried_again_with_a_new_ticket(platform: Platform, host: RunHost) -> None:
    """An expired ticket, an error of storage or a lost answer lead to another try."""
    platform.faults["upload-tickets"] = [503]
    platform.faults["PUT"] = [403, 500, LOST]
    platform.faults["artifacts"] = [LOST, 503]
    do(platform, ["artifact", "still.png"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == ["still.png", "run.log"]
    assert len(platform.requests("PUT")) == 5
    assert len(platform.tickets) == 5


def test_a_file_that_storage_lost_is_uploaded_again(platform: Platform, host: RunHost) -> None:
    """When the app doesn't find what was uploaded, the file is sent once more."""
    platform.faults["PUT"] = [Reply(200)]
    do(platform, ["artifact", "still.png"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == ["still.png", "run.log"]


def test_a_ticket_problem_is_not_a_lost_attempt(platform: Platform, host: RunHost) -> None:
    """A 410 about a ticket concerns the file, not the attempt."""
    gone = Reply(410, b'{"code": "TICKET_EXPIRED"}', {"Content-Type": "application/problem+json"})
    platform.faults["artifacts"] = [gone]
    do(platform, ["artifact", "still.png"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"


def test_a_failed_upload_stops_the_run(platform: Platform, host: RunHost) -> None:
    """A run whose results can't be stored doesn't go on for nothing."""
    be_brief(host, "upload", "log_upload")
    platform.faults["PUT"] = [500] * 1000
    do(platform, ["artifact", "still.png"], ["work", 60])
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("STORAGE_UNAVAILABLE", False)
    assert platform.records == []


def test_a_refused_artifact_is_a_permanent_failure(platform: Platform, host: RunHost) -> None:
    """A file that the app won't take would not be taken next time either."""
    platform.faults["upload-tickets"] = [413]
    do(platform, ["artifact", "still.png"])
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("INVALID_OUTPUT", True)


def test_a_report_is_repeated_word_for_word(platform: Platform, host: RunHost) -> None:
    """A report whose answer was lost is sent again unchanged, so that it counts once."""
    platform.faults["finish"] = [503, LOST, LOST]
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    bodies = {seen.body for seen in platform.requests("finish")}
    assert len(platform.requests("finish")) == 4
    assert len(bodies) == 1


def test_a_refused_success_is_reported_as_a_failure(platform: Platform, host: RunHost) -> None:
    """When the app finds fault with the result, the attempt fails instead of going silent."""
    platform.faults["finish"] = [422]
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code == "INVALID_OUTPUT"


def test_an_undeliverable_report_is_an_error(platform: Platform, host: RunHost) -> None:
    """When the API stays away, the task fails visibly and the lease decides."""
    be_brief(host, "finish")
    platform.faults["finish"] = [503] * 1000
    with pytest.raises(ApiUnavailableError):
        run_attempt(host, platform.attempt_id)


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

    thread = threading.Thread(target=cancel)
    thread.start()
    assert run_attempt(host, platform.attempt_id) == "cancelled"
    thread.join()
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
    thread = threading.Thread(target=cancel)
    thread.start()
    assert run_attempt(host, platform.attempt_id) == outcome
    thread.join()
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

    thread = threading.Thread(target=watch)
    thread.start()
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    thread.join()
    last = AttemptHeartbeat.model_validate_json(platform.requests("heartbeat")[2].body)
    assert last.progress is not None


def test_an_expired_lease_stops_the_run(platform: Platform, host: RunHost) -> None:
    """Without heartbeats the attempt is no longer ours; nothing is reported."""
    platform.spec["lease_seconds"] = 1
    platform.faults["heartbeat"] = [503] * 1000
    do(platform, ["progress", 1], ["work", 60])
    assert run_attempt(host, platform.attempt_id) == "lost"
    assert platform.finished is None


def test_the_time_limit_ends_a_run(platform: Platform, host: RunHost) -> None:
    """A run over its limit fails for good, with its log."""
    platform.spec["time_limit_seconds"] = 1
    do(platform, ["work", 60])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("TIME_LIMIT_EXCEEDED", True)
    assert names(platform) == ["run.log"]


def test_a_deaf_pipeline_is_abandoned(platform: Platform, host: RunHost, exits: list[int]) -> None:
    """A pipeline that doesn't notice its limit is reported for, and its process ended."""
    platform.spec["time_limit_seconds"] = 1
    do(platform, ["ignore_all", 2.5])
    assert run_attempt(host, platform.attempt_id) == "lost"
    assert exits == [1]
    assert platform.outcome.code == "TIME_LIMIT_EXCEEDED"
    assert list(host.work_root.iterdir()) == []
