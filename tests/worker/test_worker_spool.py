"""Finished work on disk: kept while it cannot be delivered, delivered once, and then removed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_platform import LOST, Platform, Reply
from rq import Queue
from rq.job import JobStatus
from worker_support import Start, do, meanwhile, names, push, status, until

from worker_vm import spool, spool_delivery
from worker_vm.backoff import RetryPolicy
from worker_vm.runner import RunHost, deliver_spooled, run_attempt
from worker_vm.spool import OUTCOME
from worker_vm.spool_delivery import SpoolDelivery
from worker_vm.workspace import Workspace

BRIEF = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=0.1)


@pytest.fixture
def workspace(host: RunHost, tmp_path: Path) -> Workspace:
    """The folder of a worker, as a worker process makes it; a test may close it."""
    workspace = Workspace(tmp_path / "runs")
    host.work_root = workspace.folder
    return workspace


def leave_undelivered(platform: Platform, host: RunHost, *steps: list[Any]) -> Path:
    """Finish a run whose report nobody takes; its folder."""
    do(platform, *(steps or (["artifact", "still.png"], ["metric", ["faces", 12]])))
    patience = host.patience
    host.patience = replace(patience, finish=BRIEF, log_upload=BRIEF)
    platform.faults["finish"] = [503] * 1000
    assert run_attempt(host, platform.attempt_id) == "undelivered"
    host.patience = patience
    platform.faults.clear()
    (folder,) = host.work_root.glob("run-*")
    return folder


def test_an_undelivered_result_is_kept_and_delivered(
    platform: Platform, host: RunHost, workspace: Workspace
) -> None:
    """What the API did not take is taken later: the same files, metrics and ids."""
    folder = leave_undelivered(platform, host)
    workspace.clear()
    assert spool.is_spooled(folder)
    assert deliver_spooled(host, folder) == "succeeded"
    assert platform.outcome.metrics == {"faces": 12.0}
    assert {record.artifact_id for record in platform.records} >= set(platform.outcome.artifact_ids)
    assert names(platform) == ["still.png", "run.log"]
    assert not folder.exists()
    workspace.close()
    assert not workspace.folder.exists()


def test_an_undelivered_failure_is_kept_too(
    platform: Platform, host: RunHost, workspace: Workspace
) -> None:
    """A failure's code and message arrive as they were judged."""
    folder = leave_undelivered(platform, host, ["fail", ["CUTOUT_EMPTY", "Send another.", True]])
    assert deliver_spooled(host, folder) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("CUTOUT_EMPTY", True)
    assert names(platform) == ["run.log"]
    workspace.close()


def test_an_undelivered_cancellation_keeps_its_files(
    platform: Platform, host: RunHost, workspace: Workspace
) -> None:
    """What a cancelled run had made arrives with the report of its end, however late."""
    platform.spec["heartbeat_seconds"] = 1
    platform.faults["upload-tickets"] = [503] * 1000
    patience = host.patience
    host.patience = replace(patience, cancelled=BRIEF)

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("upload-tickets"))
        platform.cancel_requested = True

    with meanwhile(cancel):
        folder = leave_undelivered(platform, host, ["artifact", "still.png"], ["work", 60])
    assert names(platform) == []
    host.patience = patience
    assert deliver_spooled(host, folder) == "cancelled"
    assert names(platform) == ["still.png", "run.log"]
    workspace.close()


@pytest.mark.parametrize("answer", [409, 410, Reply(403, b'{"code": "ATTEMPT_TOKEN_INVALID"}')])
def test_what_nobody_wants_any_more_is_removed(
    platform: Platform, host: RunHost, workspace: Workspace, answer: int | Reply
) -> None:
    """A result that comes too late is dropped, and stays dropped."""
    folder = leave_undelivered(platform, host)
    platform.faults["heartbeat"] = [answer] * 100
    platform.faults["finish"] = [answer] * 100
    assert deliver_spooled(host, folder) == "lost"
    assert platform.finished is None
    assert not folder.exists()
    workspace.close()


def test_the_next_worker_takes_over(
    platform: Platform, host: RunHost, workspace: Workspace, tmp_path: Path
) -> None:
    """A new worker moves what a dead one has finished into its own folder, and delivers it."""
    leave_undelivered(platform, host)
    (workspace.folder / "run-unfinished").mkdir()
    workspace.close()
    assert [entry.name for entry in workspace.folder.glob("run-*")] != []
    heir = Workspace(tmp_path / "runs")
    assert not workspace.folder.exists()
    assert [folder.parent for folder in heir.spooled] == [heir.folder]
    host.work_root = heir.folder
    delivery = SpoolDelivery(host, heir.spooled)
    platform.faults["finish"] = [LOST, 503]
    delivery.start()
    until(lambda: not heir.spooled[0].exists())
    delivery.stop()
    assert platform.outcome.outcome == "succeeded"
    assert len({seen.body for seen in platform.requests("finish")[-3:]}) == 1
    heir.close()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_living_worker_tries_again(
    platform: Platform, host: RunHost, workspace: Workspace
) -> None:
    """What fails again waits longer each time, and is delivered once, however often it is told."""
    delivery = SpoolDelivery(host, retry=RetryPolicy(first_wait=0.1, longest_wait=0.4))
    delivery.start()
    folder = leave_undelivered(platform, host)
    platform.seen.clear()
    platform.faults["finish"] = [401, 401, LOST]
    delivery.take(workspace.clear())
    delivery.take(workspace.clear())
    until(lambda: not folder.exists())
    delivery.take([folder])
    delivery.stop()
    assert platform.outcome.outcome == "succeeded"
    reports = [seen.body for seen in platform.requests("finish")]
    assert len(reports) == 4, "two refused, one obeyed without an answer, and its repeat"
    assert reports[-1] == reports[-2] == platform.finished
    assert names(platform) == ["still.png", "run.log"]
    workspace.close()


def test_one_that_nobody_takes_keeps_no_other(
    platform: Platform, host: RunHost, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose delivery breaks is tried again later, after the others."""
    good = leave_undelivered(platform, host)
    bad = workspace.folder / "run-bad"
    bad.mkdir()
    (bad / OUTCOME).write_text("{}")
    tried: list[Path] = []

    def deliver(run_host: RunHost, folder: Path) -> str:
        tried.append(folder)
        if folder == bad and tried.count(bad) < 3:
            raise RuntimeError("it is broken")
        return deliver_spooled(run_host, folder)

    monkeypatch.setattr(spool_delivery, "deliver_spooled", deliver)
    delivery = SpoolDelivery(host, [bad, good], RetryPolicy(first_wait=0.05, longest_wait=0.05))
    delivery.start()
    until(lambda: not bad.exists())
    delivery.stop()
    assert tried == [bad, good, bad, bad]
    assert platform.outcome.outcome == "succeeded"
    workspace.close()


def test_a_worker_delivers_later_what_was_refused(
    platform: Platform, queue: Queue, start: Start, runs: Path
) -> None:
    """A result that a refused key kept back arrives when the key is taken, without a restart."""
    do(platform, ["artifact", "still.png"])
    platform.faults["finish"] = [401]
    job = push(queue, platform.attempt_id)
    worker = start()
    until(lambda: status(job) is JobStatus.FINISHED)
    assert job.latest_result().return_value == "undelivered"
    assert list(runs.glob(f"*/*/{OUTCOME}"))
    platform.wait_for(lambda: platform.finished)
    until(lambda: "spool.delivered" in worker.log())
    assert platform.outcome.outcome == "succeeded"
    assert len(platform.requests("claim")) == 1
    assert worker.stop() == 0
    assert list(runs.iterdir()) == []


def test_a_living_workers_results_are_its_own(
    platform: Platform, host: RunHost, workspace: Workspace, tmp_path: Path
) -> None:
    """Two workers may share a work directory: only what the dead leave is taken over."""
    folder = leave_undelivered(platform, host)
    other = Workspace(tmp_path / "runs")
    assert other.spooled == []
    assert folder.exists()
    other.close()
    workspace.close()


@pytest.mark.parametrize("content", ["", "{}", '{"spec": 3}', "\x00"])
def test_an_unreadable_outcome_keeps_nobody(
    platform: Platform, host: RunHost, workspace: Workspace, content: str
) -> None:
    """A file that cannot be read is removed with a line in the log, and others are delivered."""
    good = leave_undelivered(platform, host)
    bad = workspace.folder / "run-bad"
    bad.mkdir()
    (bad / OUTCOME).write_text(content)
    delivery = SpoolDelivery(host, [bad, good])
    delivery.start()
    until(lambda: not good.exists())
    delivery.stop()
    assert not bad.exists()
    assert platform.outcome.outcome == "succeeded"
    workspace.close()


def test_a_missing_file_is_a_failure(
    platform: Platform, host: RunHost, workspace: Workspace
) -> None:
    """When a result has gone from the disk, the attempt fails so that another may succeed."""
    folder = leave_undelivered(platform, host)
    (folder / "work" / "1" / "still.png").unlink()
    assert deliver_spooled(host, folder) == "failed"
    assert platform.outcome.permanent is False
    workspace.close()


def test_a_delivery_is_interrupted_by_the_end_of_the_worker(
    platform: Platform, host: RunHost, workspace: Workspace
) -> None:
    """A worker that stops leaves what it could not deliver to the next one."""
    folder = leave_undelivered(platform, host)
    platform.seen.clear()
    platform.faults["finish"] = [503] * 1000
    delivery = SpoolDelivery(host, [folder])
    delivery.start()
    platform.wait_for(lambda: platform.requests("finish"))
    delivery.stop()
    assert spool.is_spooled(folder)
    workspace.close()
    assert spool.is_spooled(folder)


def test_a_full_disk_is_no_reason_to_lose_a_result(
    platform: Platform, host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that cannot be written down is delivered all the same."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "save", full)
    do(platform, ["artifact", "still.png"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == ["still.png", "run.log"]


def test_a_cancelled_jobs_report_waits_no_longer_than_the_worker(
    platform: Platform, host: RunHost, workspace: Workspace
) -> None:
    """A worker that has to end keeps the report of a cancelled run for later, too."""
    do(platform, ["progress", 1], ["work", 60])
    platform.faults["finish"] = [503] * 1000

    def cancel_and_leave() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        platform.cancel_requested = True
        host.stop_current()
        platform.wait_for(lambda: platform.requests("finish"))
        host.shut_down()

    host.patience = replace(host.patience, finish=RetryPolicy(first_wait=0.1))
    with meanwhile(cancel_and_leave):
        assert run_attempt(host, platform.attempt_id) == "undelivered"
    workspace.close()
    assert list(workspace.folder.glob(f"*/{OUTCOME}"))


def test_a_run_may_be_handed_back_before_it_begins(platform: Platform, host: RunHost) -> None:
    """A worker that has to end when a task was just taken hands it back unrun."""
    host.shut_down()
    do(platform, ["work", 60])
    assert run_attempt(host, platform.attempt_id) == "released"
