"""Results that are uploaded while they are made: bounded in memory, never on disk, never lost."""

import hashlib
import os
import select
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_platform import LOST, Platform, Reply, etag
from worker_support import content, do, meanwhile, names, until

from contract.streams import PART_BYTES
from worker_vm import part_uploads, spool, streams
from worker_vm.backoff import RetryPolicy
from worker_vm.runner import RunHost, deliver_spooled, run_attempt

BRIEF = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=0.1)
SIZE = 2 * PART_BYTES + 1000
"""Three parts."""
FILE = "frames.zip"
NOT_STREAMED = '{"type": "Streamed", "name": 1, "size_bytes": "x"}'


def streamed(platform: Platform, name: str = FILE) -> int:
    """How many bytes arrived, all of them right."""
    data = content(platform, name)
    assert not data.strip(b"\0")
    return len(data)


def on_disk(folder: Path) -> int:
    """Bytes of all files below a folder, whichever of them are still there."""
    total = 0
    for inside, _, files in os.walk(folder):  # which passes over folders that are gone
        for name in files:
            with suppress(FileNotFoundError):
                total += (Path(inside) / name).stat().st_size
    return total


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts go to disk as soon as storage takes none."""
    monkeypatch.setattr(streams, "_STALL_SECONDS", 0.05)
    monkeypatch.setattr(streams, "_SETTLE_SECONDS", 0.05)


@pytest.mark.parametrize("size", [1, PART_BYTES, PART_BYTES + 1, SIZE])
def test_a_file_arrives_in_parts(platform: Platform, host: RunHost, size: int) -> None:
    """All bytes arrive, in parts of the agreed size, and the report names the file."""
    do(platform, ["stream", [FILE, size]])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert streamed(platform) == size
    parts = [len(seen.body) for seen in platform.requests("PUT")]
    assert parts == [PART_BYTES] * (size // PART_BYTES) + [size % PART_BYTES] * bool(
        size % PART_BYTES
    )
    (record,) = [record for record in platform.records if record.name == FILE]
    assert platform.outcome.artifact_ids == [record.artifact_id]
    assert platform.uploads == {}


def test_nothing_lies_on_disk(platform: Platform, host: RunHost) -> None:
    """However large a file is, the worker's folders stay small all the time."""
    do(platform, ["stream", [FILE, 6 * PART_BYTES]], ["artifact", "still.png"])
    peaks: list[int] = []

    def watch() -> None:
        while platform.finished is None:
            peaks.append(on_disk(host.work_root))

    with meanwhile(watch):
        assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert streamed(platform) == 6 * PART_BYTES
    assert 0 < max(peaks) < 100_000


def test_each_step_is_tried_again(platform: Platform, host: RunHost) -> None:
    """Errors, lost answers and expired addresses lead to another try; the file comes once."""
    platform.faults["streams"] = [503, LOST]
    platform.faults["streams/parts"] = [LOST, 503]
    platform.faults["PUT"] = [500, LOST, 403, Reply(200)]
    platform.faults["streams/complete"] = [503, LOST]
    do(platform, ["stream", [FILE, SIZE]])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert streamed(platform) == SIZE
    assert names(platform) == [FILE, "run.log"]


def test_storage_that_is_not_ready_is_asked_again(
    platform: Platform, host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage that is still at it, for a call whose answer was lost, says so for a while."""
    monkeypatch.setattr(part_uploads, "_COMPLETION_WAIT", 0.01)
    refusal = Reply(409, b'{"code": "ARTIFACT_NOT_UPLOADED", "detail": "Not yet."}')
    platform.faults["streams/complete"] = [refusal, refusal]
    do(platform, ["stream", [FILE, 1000]])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert streamed(platform) == 1000


@pytest.mark.parametrize(
    ("route", "faults"),
    [
        ("streams", [Reply(422, b'{"code": "ARTIFACT_MISMATCH", "detail": "No."}')]),
        ("streams/complete", [Reply(422, b'{"code": "ARTIFACT_MISMATCH", "detail": "No."}')]),
        ("streams/complete", [Reply(404, b'{"code": "TICKET_NOT_FOUND", "detail": "No."}')]),
    ],
)
def test_a_refused_file_fails_the_run(
    platform: Platform, host: RunHost, route: str, faults: list[Any]
) -> None:
    """What the app does not take is a failure by its name."""
    platform.faults[route] = faults
    do(platform, ["stream", [FILE, 1000]])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code == "INVALID_OUTPUT"
    assert FILE in platform.outcome.message


def test_dropped_parts_are_no_permanent_failure(platform: Platform, host: RunHost) -> None:
    """Where storage has forgotten the upload, another attempt makes the file again."""
    platform.faults["PUT"] = [Reply(404)]
    do(platform, ["stream", [FILE, SIZE]])
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("STORAGE_UNAVAILABLE", False)


def test_begun_anew(platform: Platform, host: RunHost) -> None:
    """A file begun again takes the place of what was sent of it before."""
    do(platform, ["stream_unfinished", [FILE, SIZE]], ["stream", [FILE, 1000]])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert streamed(platform) == 1000
    assert names(platform) == [FILE, "run.log"]
    assert platform.uploads == {}


def test_what_is_not_finished_is_no_result(platform: Platform, host: RunHost) -> None:
    """A file that is never finished is not shown, and stops nobody."""
    do(platform, ["stream_unfinished", [FILE, SIZE]], ["artifact", "still.png"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == ["still.png", "run.log"]


def test_memory_that_does_not_suffice(platform: Platform, host: RunHost) -> None:
    """A run that begins again hands over its file once more, under another name."""
    do(platform, ["stream", [FILE, 1000]], ["exhaust_memory", 1])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert names(platform) == [FILE, "frames-2.zip", "run.log"]


@pytest.mark.parametrize(
    "steps",
    [
        [["stream_as", ["frames_zip", "../x.zip", "application/zip"]]],
        [["stream_as", ["hologram", FILE, "application/zip"]]],
        [["stream_as", ["frames_zip", FILE, "zip"]]],
        [["stream_as", ["frames_zip", "run.log", "application/zip"]]],
        [["stream", [FILE, 0]]],
        [["stream", [FILE, 10]], ["stream", [FILE, 10]]],
        [["stream_unfinished", [FILE, 10]], ["claim_streamed", [FILE, 11]]],
        [["stream_unfinished", [FILE, 10]], ["claim_streamed", [FILE, 9]]],
        [["claim_streamed", ["never.zip", 1]]],
        [["artifact", "still.png"], ["stream", ["still.png", 10]]],
    ],
)
def test_files_that_cannot_be_kept(platform: Platform, host: RunHost, steps: list[Any]) -> None:
    """What a pipeline says of a file is not believed; the failure names it, the worker goes on."""
    do(platform, *steps)
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("INVALID_OUTPUT", False)
    do(platform, ["stream", [FILE, 10]])
    assert run_attempt(host, platform.new_attempt()) == "succeeded"


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([["stream_unfinished", [f"{n}.zip", 1]] for n in range(9)], "8 unfinished"),
        ([["stream", [f"{n}.zip", 1]] for n in range(5)], "4 streamed"),
        ([["stream_unfinished", [FILE, 1]]] * 5, "4 streamed"),
    ],
)
def test_too_many_files(
    platform: Platform,
    host: RunHost,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[Any],
    problem: str,
) -> None:
    """A run gets no more threads and memory of the worker than the limits say."""
    if "unfinished" not in problem:
        monkeypatch.setattr(streams, "_MOST_BEGUN", 4)
    do(platform, *steps[:-1])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    do(platform, *steps)
    assert run_attempt(host, platform.new_attempt()) == "failed"
    assert (platform.outcome.code, platform.outcome.permanent) == ("INVALID_OUTPUT", False)
    assert problem in platform.outcome.message


class DrainingPoll:
    """A poll after which somebody else with the same pipe takes what has come."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._pipe = -1

    def register(self, pipe: int, events: int) -> None:
        """As `select.poll` has it."""
        self._pipe = pipe
        self._poll.register(pipe, events)

    def poll(self, wait_ms: int) -> list[tuple[int, int]]:
        """As `select.poll` has it; what it says was so a moment ago."""
        found = self._poll.poll(wait_ms)
        other = os.open(f"/proc/self/fd/{self._pipe}", os.O_RDONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while os.read(other, 1 << 16):
                pass
        os.close(other)
        return found


@pytest.mark.parametrize("writer", ["left open", "drained", "socket"])
def test_a_pipe_that_is_none_of_ours(
    platform: Platform, host: RunHost, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    """Whoever else holds, reads or keeps open what a file comes through, nobody waits for it."""
    if writer == "drained":
        poll = SimpleNamespace(poll=DrainingPoll, POLLIN=select.POLLIN)
        monkeypatch.setattr(streams, "select", poll)
    do(platform, ["stream_from", [FILE, writer, 10]])
    ended = run_attempt(host, platform.attempt_id)
    if writer == "left open":
        assert (ended, streamed(platform)) == ("succeeded", 10)
        return
    assert (platform.outcome.code, platform.outcome.permanent) == ("INVALID_OUTPUT", False)
    problem = "is empty" if writer == "drained" else "does not come through a pipe"
    assert problem in platform.outcome.message


@pytest.mark.parametrize("steps", [[["claim_streaming", FILE]], [["babble_json", NOT_STREAMED]]])
def test_nonsense_ends_the_process(platform: Platform, host: RunHost, steps: list[Any]) -> None:
    """A pipeline's process that does not keep to the protocol is not heard any more."""
    do(platform, *steps)
    assert run_attempt(host, platform.attempt_id) == "failed"
    assert platform.outcome.code == "WORKER_CRASHED"


def test_storage_is_away_for_long(
    platform: Platform, host: RunHost, impatient: None, tmp_path: Path
) -> None:
    """The run goes on and ends while storage takes nothing; its file waits on disk."""
    ended = tmp_path / "ended"
    platform.faults["PUT"] = [503] * 1_000_000
    do(platform, ["stream", [FILE, 6 * PART_BYTES]], ["touch", str(ended)])

    def heal() -> None:
        until(ended.exists)
        until(lambda: on_disk(host.work_root) > 3 * PART_BYTES)
        platform.faults["PUT"] = []

    with meanwhile(heal):
        assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert streamed(platform) == 6 * PART_BYTES


def test_a_finished_file_survives_the_process(platform: Platform, host: RunHost) -> None:
    """When the report could not be delivered, the file is completed again, and counts once."""
    do(platform, ["stream", [FILE, SIZE]], ["artifact", "still.png"])
    patience = host.patience
    host.patience = replace(patience, finish=BRIEF, log_upload=BRIEF)
    platform.faults["finish"] = [503] * 1000
    assert run_attempt(host, platform.attempt_id) == "undelivered"
    host.patience = patience
    platform.faults.clear()
    (folder,) = host.work_root.glob("run-*")
    assert spool.is_spooled(folder)
    assert deliver_spooled(host, folder) == "succeeded"
    assert streamed(platform) == SIZE
    assert names(platform) == [FILE, "still.png", "run.log"]
    assert not folder.exists()


def test_cancelled(platform: Platform, host: RunHost) -> None:
    """Of a cancelled run a finished file is kept, and an unfinished one is not."""
    platform.spec["pipeline"] = "thorough"
    platform.spec["heartbeat_seconds"] = 1
    do(
        platform,
        ["stream", [FILE, SIZE]],
        ["stream_unfinished", ["other.zip", SIZE]],
        ["work", 60],
    )

    def cancel() -> None:
        platform.wait_for(lambda: platform.requests("heartbeat"))
        platform.cancel_requested = True

    with meanwhile(cancel):
        assert run_attempt(host, platform.attempt_id) == "cancelled"
    assert names(platform) == [FILE, "run.log"]
    assert streamed(platform) == SIZE


def test_made_again(platform: Platform, host: RunHost) -> None:
    """A streamed result is compared with the original's like any other."""
    sha256 = hashlib.sha256(bytes(SIZE)).hexdigest()
    platform.add_original(sha256, b"{}")
    platform.spec["reproduction"]["kind"] = "frames_zip"
    do(platform, ["stream", [FILE, SIZE]], ["manifest", "{}"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert b'"bit_equal": true' in content(platform, "manifest.json")


def settled(host: RunHost) -> tuple[Path, streams.StreamRecord]:
    """The folder of a run that is not delivered, and what it says of its streamed file."""
    (folder,) = host.work_root.glob("run-*")
    (record,) = spool.load(folder).streams
    return folder, record


def test_a_worker_that_ends_before_its_file_is_in_storage(
    platform: Platform, host: RunHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What storage does not have is on disk when the worker ends, and the next one sends it."""
    monkeypatch.setattr(streams, "_STALL_SECONDS", 0.05)
    ended = tmp_path / "ended"
    do(platform, ["stream", [FILE, SIZE]], ["touch", str(ended)])
    # The first part arrives, and then nothing more.
    platform.faults["PUT"] = [Reply(200, headers={"ETag": '"lost"'}), *[503] * 1_000_000]

    def end() -> None:
        until(ended.exists)
        until(lambda: list(host.work_root.glob("run-*/outcome.json")))
        host.shut_down()

    with meanwhile(end):
        assert run_attempt(host, platform.attempt_id) == "undelivered"
    folder, record = settled(host)
    assert record.etags == {1: "lost"}
    assert sorted(record.waiting) == [2, 3]
    assert sum((folder / path).stat().st_size for path in record.waiting.values()) == SIZE - (
        PART_BYTES
    )
    # Storage has the first part after all.
    platform.faults.clear()
    (upload,) = platform.uploads.values()
    upload[1][1] = bytes(PART_BYTES)
    text = (folder / spool.OUTCOME).read_text()
    (folder / spool.OUTCOME).write_text(text.replace('"lost"', f'"{etag(bytes(PART_BYTES))}"'))
    host.ending = False
    assert deliver_spooled(host, folder) == "succeeded"
    assert streamed(platform) == SIZE


def test_the_api_is_away_at_the_end(platform: Platform, host: RunHost) -> None:
    """With its parts in storage, a file is completed when the API is back, by another process."""
    do(platform, ["stream", [FILE, SIZE]])
    platform.away_after = "streams/parts"

    def end() -> None:
        until(lambda: list(host.work_root.glob("run-*/outcome.json")))
        host.shut_down()

    with meanwhile(end):
        assert run_attempt(host, platform.attempt_id) == "undelivered"
    folder, record = settled(host)
    assert (len(record.etags), record.waiting) == (3, {})
    platform.away = False
    host.ending = False
    assert deliver_spooled(host, folder) == "succeeded"
    assert streamed(platform) == SIZE
