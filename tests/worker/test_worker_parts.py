"""The worker's smaller parts, each by itself."""

import fcntl
import json
import os
import threading
from io import StringIO
from pathlib import Path

import httpx
import pytest
from fake_platform import WORKER_KEY, Platform, Reply
from pydantic import SecretStr
from structlog.contextvars import bound_contextvars

from worker_vm import capabilities
from worker_vm.api_client import (
    ApiClient,
    ApiRefusedError,
    ApiUnavailableError,
    WorkerKeyRefusedError,
)
from worker_vm.backoff import RetryPolicy, retry
from worker_vm.capabilities import find_gpus, parse_gpus
from worker_vm.control import RunControl, StopReason
from worker_vm.http_client import make_client
from worker_vm.logs import get_logger, redact, run_log
from worker_vm.presence import Presence, unique_name
from worker_vm.workspace import LOCK_NAME, PREFIX, Workspace


def presence(platform: Platform, key: str = WORKER_KEY) -> Presence:
    return Presence(
        name=unique_name(),
        queue="test",
        open_api=lambda: ApiClient(platform.url, SecretStr(key)),
        current_attempt=lambda: None,
        pipelines=list,
    )


def test_waits_double_with_jitter_up_to_a_limit() -> None:
    """The wait grows, stays between half and all of its ceiling, and never passes the longest."""
    policy = RetryPolicy(first_wait=1, longest_wait=8)
    for failures, ceiling in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (5000, 8)):
        assert ceiling / 2 <= policy.wait(failures) <= ceiling


def test_a_pause_may_end_the_trying() -> None:
    """A pause that says stop ends it with the last error."""
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        retry(fail, policy=RetryPolicy(), retryable=lambda _: True, pause=lambda _: True)
    assert len(tries) == 1


def test_the_first_reason_to_stop_stays_unless_the_attempt_is_lost() -> None:
    """A lost attempt overrides all other reasons: nothing may be reported any more."""
    control = RunControl()
    control.stop(StopReason.CANCELLED)
    control.stop(StopReason.TIME_LIMIT)
    assert control.reason is StopReason.CANCELLED
    control.stop(StopReason.LOST)
    control.stop(StopReason.CANCELLED)
    assert control.reason is StopReason.LOST


def test_a_report_waits_for_nobody_once_the_worker_must_end() -> None:
    """A first reason stays the reason, and the end of the process is still known."""
    control = RunControl()
    control.stop(StopReason.CANCELLED)
    assert not control.abandoned
    control.stop(StopReason.SHUTDOWN)
    assert control.reason is StopReason.CANCELLED
    assert control.abandoned


def test_who_has_stopped_listening_is_called_no_more() -> None:
    """Each reason is told to those that listen at that time."""
    control = RunControl()
    heard: list[str] = []
    forget = control.listen(lambda: heard.append("first"))
    control.listen(lambda: heard.append("second"))
    control.stop(StopReason.CANCELLED)
    forget()
    control.stop(StopReason.LOST)
    assert heard == ["first", "second", "second"]


def test_a_runs_log_is_its_own(tmp_path: Path) -> None:
    """Lines of other attempts, and of the worker itself, stay out of a run's log."""
    log = get_logger("worker_vm.test")
    with bound_contextvars(attempt_id="one"), run_log(tmp_path / "log", hide=tmp_path) as lines:
        log.info("ours")
        with bound_contextvars(attempt_id="two"):
            log.info("theirs")
        thread = threading.Thread(target=log.info, args=("nobody's",))
        thread.start()
        thread.join()
    assert [json.loads(line)["event"] for line in lines.tail().splitlines()] == ["ours"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET http://s:9000/b/k?X-Amz-Signature=abc done", "GET http://s:9000/b/k?… done"),
        ("https://h/x?a=1&b=2\nhttps://h/y", "https://h/x?…\nhttps://h/y"),
        ("redis://:pw@host:6379/0", "redis://…@host:6379/0"),
        ("no address? no", "no address? no"),
    ],
)
def test_secrets_in_addresses_are_hidden(text: str, expected: str) -> None:
    """Queries and passwords of URLs never reach a log."""
    assert redact(text) == expected


def test_loopback_is_never_asked_of_a_proxy(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in the environment is used for other machines only."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with make_client() as client:
        assert client.get(f"{platform.url}/bucket/none").status_code == 403
        with pytest.raises(httpx.ConnectError):
            client.get("http://storage.invalid/")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), ApiUnavailableError),
        (Reply(502, b"<html>"), ApiUnavailableError),
        (Reply(429, b"{}"), ApiUnavailableError),
        (Reply(401, b"[]"), WorkerKeyRefusedError),
        (Reply(403, b""), WorkerKeyRefusedError),
        (Reply(308, b""), ApiRefusedError),
        (Reply(422, b"\xff"), ApiRefusedError),
    ],
)
def test_answers_that_are_no_problem_document_are_understood(
    platform: Platform, answer: Reply, error: type[Exception]
) -> None:
    """Whatever stands between worker and API may answer; its status decides."""
    platform.faults["workers/heartbeat"] = [answer]
    with ApiClient(platform.url, SecretStr(WORKER_KEY)) as api, pytest.raises(error) as caught:
        api.worker_heartbeat(presence(platform).describe())
    assert type(caught.value) is error


def test_a_problem_document_is_told() -> None:
    """Code and sentence of a refusal are kept apart and shown together."""
    error = ApiRefusedError(422, "INVALID", "The name is wrong.")
    assert (error.code, error.detail) == ("INVALID", "The name is wrong.")
    assert str(error) == "The name is wrong. (422 INVALID)"


def test_the_presence_survives_an_outage_of_the_api(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports that fail are repeated, the failure logged once."""
    monkeypatch.setattr("worker_vm.presence.RETRY", RetryPolicy(first_wait=0.01, longest_wait=0.01))
    platform.faults["workers/heartbeat"] = [503, 503, 401]
    reporter = presence(platform)
    reporter.start()
    platform.wait_for(lambda: platform.workers)
    reporter.stop()
    assert [beat.stopping for beat in platform.workers] == [False, True]


def test_a_refused_key_is_told_in_a_sentence(platform: Platform, process_log: StringIO) -> None:
    """A worker with a wrong key says which setting to check."""
    reporter = presence(platform, key="another key")
    reporter.start()
    reporter.stop()
    assert "The API refused the worker key; check WORKER_API_KEY." in process_log.getvalue()


def test_a_change_is_told_at_once(platform: Platform) -> None:
    """What can be run, or is loaded, is not only told every 30 seconds."""
    reporter = presence(platform)
    reporter.start()
    platform.wait_for(lambda: len(platform.workers) == 1)
    reporter.report_soon()
    platform.wait_for(lambda: len(platform.workers) == 2)
    reporter.stop()


def test_gpus_are_read_from_the_tools_table() -> None:
    """Names with commas aside, the CSV of nvidia-smi becomes GPUs; what it doesn't know is 0."""
    table = "NVIDIA H200, 143771, 143167, 570.86.15\nNVIDIA GB10, [N/A], [N/A], 580.1\n\njunk\n"
    first, second = parse_gpus(table)
    assert (first.name, first.memory_total_mib, first.memory_free_mib, first.driver) == (
        "NVIDIA H200",
        143771,
        143167,
        "570.86.15",
    )
    assert (second.memory_total_mib, second.driver) == (0, "580.1")


@pytest.mark.parametrize("script", ["exit 9", "echo Failed; exit 1", "echo No devices were found"])
def test_a_machine_without_a_usable_gpu_has_none(tmp_path: Path, script: str) -> None:
    """A driver that fails, or sees no device, means no GPU and no error."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    assert find_gpus(str(tool)) == []
    assert find_gpus("no-such-tool") == []


def test_a_containers_memory_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, memory is what its limit allows."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(capabilities, "_CGROUP_LIMIT", limit)
    whole = capabilities.memory_total_mib()
    limit.write_text(f"{64 << 20}\n")
    assert capabilities.memory_total_mib() == 64
    limit.write_text("max\n")
    assert capabilities.memory_total_mib() == whole


def test_a_workspace_removes_what_the_dead_left(tmp_path: Path) -> None:
    """Folders whose lock is free go; those of living workers stay."""
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / LOCK_NAME).touch()
    (dead / "weights.bin").touch()
    living = Workspace(tmp_path)
    another = Workspace(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([living.folder, another.folder])
    (living.folder / "run-1").mkdir()
    living.clear()
    assert [entry.name for entry in living.folder.iterdir()] == [LOCK_NAME]
    lock = os.open(living.folder / LOCK_NAME, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)
    living.close()
    another.close()
    assert list(tmp_path.iterdir()) == []


def test_each_start_has_a_name_of_its_own() -> None:
    """Names don't repeat, even within one process."""
    assert unique_name() != unique_name()
