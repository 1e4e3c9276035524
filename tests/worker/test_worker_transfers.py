"""Inputs and results of one attempt, with a storage that can be told to misbehave."""

from dataclasses import replace

import pytest
from fake_platform import LOST, Platform, Reply
from worker_support import content, do, names

from contract.attempts import SHORT_LOG
from worker_vm.backoff import RetryPolicy
from worker_vm.runner import RunHost, run_attempt


def be_brief(host: RunHost, *calls: str) -> None:
    """Give up soon on these kinds of calls."""
    brief = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=0.1)
    host.patience = replace(host.patience, **dict.fromkeys(calls, brief))


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
    assert len(platform.requests("PUT")) == 4


def test_a_file_that_storage_lost_is_uploaded_again(platform: Platform, host: RunHost) -> None:
    """When the app doesn't find what was uploaded, the file is sent once more."""
    platform.faults["PUT"] = [Reply(200)]
    do(platform, ["artifact", "still.png"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == ["still.png", "run.log"]


def test_results_are_committed_with_the_report(platform: Platform, host: RunHost) -> None:
    """A small result is neither shown nor asked about before the run has ended."""
    platform.add_input("image_path", b"pixels")
    do(platform, ["copy_input", "image_path"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert platform.requests("artifacts") == []
    assert names(platform) == ["copy.bin", "run.log"]


def test_a_result_that_storage_lost_is_uploaded_again(platform: Platform, host: RunHost) -> None:
    """When the report is refused for a missing file, the files are committed one by one."""
    platform.add_input("image_path", b"pixels")
    platform.faults["PUT"] = [Reply(200), Reply(200)]
    do(platform, ["copy_input", "image_path"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == ["copy.bin", "run.log"]
    assert content(platform, "copy.bin") == b"pixels"
    assert len(platform.requests("finish")) == 2


def test_a_result_that_is_refused_for_good_fails_the_run(platform: Platform, host: RunHost) -> None:
    """A result that the app won't take, however often it is sent, is a failure with its log."""
    platform.add_input("image_path", b"pixels")
    platform.faults["artifacts"] = [422] * 10
    platform.faults["finish"] = [422]
    do(platform, ["copy_input", "image_path"])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("INVALID_OUTPUT", True)
    assert names(platform) == ["run.log"]


def test_a_log_of_many_bytes_is_uploaded(platform: Platform, host: RunHost) -> None:
    """A log that is short in characters and long in bytes goes the way of a file, too."""
    do(platform, *[["say", "\N{PILE OF POO}" * 1000]] * 18)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert len(content(platform, "run.log").decode()) <= SHORT_LOG
    assert platform.outcome.log is None


def test_a_long_log_is_uploaded(platform: Platform, host: RunHost) -> None:
    """A log that is too long for the report goes the way of a file."""
    do(platform, *[["say", "x" * 1000]] * 70)
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert len(content(platform, "run.log")) > SHORT_LOG
    assert platform.outcome.log is None


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
    assert names(platform) == ["run.log"]


def test_a_refused_artifact_is_a_permanent_failure(platform: Platform, host: RunHost) -> None:
    """A file that the app won't take would not be taken next time either."""
    platform.faults["upload-tickets"] = [413]
    do(platform, ["artifact", "still.png"])
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("INVALID_OUTPUT", True)
