"""Inputs that stay in storage: right to the last byte or not at all, with few requests."""

import hashlib
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_platform import Platform, Reply
from worker_support import content, do, until

from tests.support.range_storage import Fault, RangeStorage
from worker_vm.backoff import RetryPolicy, sleep
from worker_vm.http_client import make_client
from worker_vm.pipelines.base import PipelineError
from worker_vm.range_protocol import MOST_BYTES, REQUEST, RangeReader
from worker_vm.range_server import RangedInputs
from worker_vm.range_source import BLOCK_BYTES, RangeSource
from worker_vm.runner import RunHost, run_attempt

QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=2)
BRIEF = RetryPolicy(first_wait=0.01, longest_wait=0.02, give_up_after=0.1)
SIZE = 3 * BLOCK_BYTES + 12_345
DATA = random.Random(6).randbytes(SIZE)  # noqa: S311

Open = Callable[..., tuple[RangedInputs, RangeReader]]


@pytest.fixture
def storage() -> Iterator[RangeStorage]:
    with RangeStorage(DATA) as storage:
        yield storage


@pytest.fixture
def ranged(storage: RangeStorage) -> Iterator[Open]:
    """Serves the object, and reads it as a pipeline does."""
    with ExitStack() as stack:
        client = stack.enter_context(make_client())

        def serve(
            policy: RetryPolicy = QUICK, server: RangeStorage = storage
        ) -> tuple[RangedInputs, RangeReader]:
            inputs = stack.enter_context(RangedInputs())
            assert inputs.serve(RangeSource(client, server.item, policy=policy, pause=sleep))
            (connection,) = inputs.connections
            reader = RangeReader(connection, server.item.size_bytes)
            stack.callback(reader.close)
            return inputs, reader

        yield serve


def read_all(reader: RangeReader, size: int = 700_001) -> bytes:
    """From where it stands to the end."""
    parts = []
    while part := reader.read(size):
        parts.append(part)
    return b"".join(parts)


def test_all_of_it(ranged: Open) -> None:
    """Read from one end to the other, it is the object."""
    _, reader = ranged()
    assert read_all(reader) == DATA
    assert reader.tell() == SIZE


def test_anywhere(ranged: Open) -> None:
    """Wherever one looks, before and behind the end, there is what a file would have."""
    _, reader = ranged()
    rng = random.Random(1)  # noqa: S311
    for _ in range(200):
        place = rng.randrange(SIZE + 1000)
        length = rng.randrange(1, 5000)
        assert reader.seek(place) == place
        found = reader.read(length)
        expected = DATA[place : place + length]
        assert expected.startswith(found)
        assert bool(found) == bool(expected)
    assert reader.seek(-5, os.SEEK_END) == SIZE - 5
    assert read_all(reader) == DATA[-5:]
    assert reader.seek(-2, os.SEEK_CUR) == SIZE - 2
    for offset, whence in ((-1, os.SEEK_SET), (0, 7), (0, 1 << 16)):
        with pytest.raises(OSError, match="no place"):
            reader.seek(offset, whence)


def test_one_request_for_each_block(storage: RangeStorage, ranged: Open) -> None:
    """Passes over an object of some blocks ask for each block once, and for nothing else."""
    _, reader = ranged()
    for _ in range(3):
        reader.seek(-100, os.SEEK_END)
        reader.read(100)
        reader.seek(0)
        assert read_all(reader) == DATA
    starts = [first for first, _ in storage.ranges]
    assert sorted(starts) == [0, BLOCK_BYTES, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES]


def test_a_large_object_costs_what_it_is_read(ranged: Open) -> None:
    """Beyond what is kept, each pass reads the object once; a look at its end costs one block."""
    blocks = 12
    with RangeStorage(bytes(blocks * BLOCK_BYTES)) as large:
        _, reader = ranged(server=large)
        for _ in range(2):
            reader.seek(-100, os.SEEK_END)
            reader.read(100)
            reader.seek(0)
            assert len(read_all(reader, 1 << 20)) == blocks * BLOCK_BYTES
        assert 2 * (blocks - 8) + 8 <= len(large.ranges) <= 2 * (blocks + 2)


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.CUT, Fault.SHORT, Fault.UNAVAILABLE])
def test_what_passes(storage: RangeStorage, ranged: Open, fault: Fault) -> None:
    """A reset, an answer cut short and an error are tried again; every byte is right."""
    _, reader = ranged()
    storage.faults += [fault, fault, None, fault]
    assert read_all(reader) == DATA
    assert not storage.faults


def test_storage_that_says_200(ranged: Open) -> None:
    """A part is a part, whatever status it comes with."""
    with RangeStorage(DATA, status=200) as storage:
        _, reader = ranged(server=storage)
        assert read_all(reader) == DATA


@pytest.mark.parametrize(
    "fault", [Fault.DENIED, Fault.UNAVAILABLE, Fault.SHORT, Fault.WHOLE, Fault.ANOTHER_PART]
)
def test_what_does_not_pass(storage: RangeStorage, ranged: Open, fault: Fault) -> None:
    """The reader is told that reading failed, and the worker knows why."""
    inputs, reader = ranged(BRIEF)
    storage.always = fault
    reader.seek(2 * BLOCK_BYTES + BLOCK_BYTES // 2)
    with pytest.raises(OSError, match="could not be read"):
        read_all(reader)
    assert reader.failure is not None
    assert inputs.failure is not None
    assert (inputs.failure.code, inputs.failure.permanent) == ("INPUT_READ_ERROR", False)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", DATA[::-1], b""])
def test_another_object(storage: RangeStorage, ranged: Open, data: bytes) -> None:
    """An object that is replaced in mid-reading is noticed, whether its ETag tells or its size."""
    inputs, reader = ranged()
    reader.read(10)
    storage.data = data
    if len(data) == SIZE:
        storage.etag = "another"
    reader.seek(2 * BLOCK_BYTES)
    with pytest.raises(OSError, match="could not be read"):
        read_all(reader)
    assert inputs.failure is not None
    assert (inputs.failure.code, inputs.failure.permanent) == ("INPUT_CHANGED", True)


def test_changed_before_the_run(storage: RangeStorage) -> None:
    """What is wrong from the beginning is found before the pipeline is started."""
    item = storage.item
    storage.etag = "another"
    with make_client() as client, RangedInputs() as inputs:
        source = RangeSource(client, item, policy=QUICK, pause=sleep)
        with pytest.raises(PipelineError) as caught:
            inputs.serve(source)
    assert caught.value.code == "INPUT_CHANGED"


@pytest.mark.parametrize("request_", [(0, 0), (SIZE, 10), (1 << 63, 10), (0, 0xFFFFFFFF)])
def test_hostile_requests(ranged: Open, request_: tuple[int, int]) -> None:
    """Whatever is asked for, the answer is bytes of the object, not too many, or a refusal."""
    inputs, _ = ranged()
    with socket.socket(fileno=os.dup(inputs.connections[0])) as connection:
        connection.sendall(REQUEST.pack(*request_))
        answer = connection.recv(2 * MOST_BYTES)
    assert answer[: REQUEST.size] == REQUEST.pack(*request_)
    asked_too_much = request_ == (0, 0xFFFFFFFF)
    assert answer[REQUEST.size :] == (DATA[:MOST_BYTES] if asked_too_much else b"")


@pytest.mark.parametrize("request_", [b"x", REQUEST.pack(0, 10) + b"x"])
def test_what_is_no_request(ranged: Open, request_: bytes) -> None:
    """It ends the connection, so that nobody waits for an answer."""
    inputs, reader = ranged()
    with socket.socket(fileno=os.dup(inputs.connections[0])) as connection:
        connection.sendall(request_)
        assert connection.recv(1) == b""
    with pytest.raises(OSError, match=r"gone|Broken pipe"):
        reader.read(10)


@pytest.mark.parametrize("taken", [0, 1], ids=["none taken", "first taken"])
def test_a_reader_that_does_not_stay(ranged: Open, taken: int) -> None:
    """Answers that one reader has left behind are not taken for the next one's."""
    inputs, reader = ranged()
    with socket.socket(fileno=os.dup(inputs.connections[0])) as killed:
        for request in ((1000, 10), (2000, MOST_BYTES)):
            killed.sendall(REQUEST.pack(*request))
        for _ in range(taken):
            killed.recv(3)
    assert reader.read(10) == DATA[:10]
    assert reader.read(5000) == DATA[10:5010]
    assert reader.seek(1000) == 1000
    assert reader.read(10) == DATA[1000:1010]


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.DRIBBLE])
def test_nobody_waits_for_what_nobody_reads(storage: RangeStorage, fault: Fault) -> None:
    """At the end of a run, neither a retry nor an answer is waited for (else this never ends)."""
    patient = RetryPolicy(first_wait=3600, longest_wait=3600, give_up_after=1e6)
    with make_client() as client, RangedInputs() as inputs:
        assert inputs.serve(RangeSource(client, storage.item, policy=patient, pause=sleep))
        storage.always = fault
        asked = len(storage.ranges)
        with socket.socket(fileno=os.dup(inputs.connections[0])) as connection:
            connection.sendall(REQUEST.pack(2 * BLOCK_BYTES, 10))
        until(lambda: len(storage.ranges) > asked)


def test_a_fault_of_the_worker_itself(storage: RangeStorage) -> None:
    """What nobody has thought of fails the attempt as an input that could not be read."""
    with RangedInputs() as inputs:
        with make_client() as client:
            assert inputs.serve(RangeSource(client, storage.item, policy=QUICK, pause=sleep))
        reader = RangeReader(inputs.connections[0], SIZE)
        reader.seek(2 * BLOCK_BYTES)
        with pytest.raises(OSError, match="could not be read"):
            reader.read(10)
        reader.close()
        assert inputs.failure is not None
        assert (inputs.failure.code, inputs.failure.permanent) == ("INPUT_READ_ERROR", False)


# --- in a run ------------------------------------------------------------------------------------


@pytest.fixture
def video(platform: Platform) -> None:
    """A run whose pipeline reads by ranges, and says what it has read."""
    platform.spec["pipeline"] = "ranged"
    platform.add_input("video_path", DATA)
    do(platform, ["digest_ranged", "video_path"])


def test_a_run_reads_by_ranges(platform: Platform, host: RunHost, video: None) -> None:
    """The pipeline reads all of its input, and nothing of it lies on the disk."""
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert content(platform, "digest.txt").decode() == hashlib.sha256(DATA).hexdigest()
    assert all("range" in seen.headers for seen in platform.requests("GET"))


def test_storage_without_ranges(platform: Platform, host: RunHost, tmp_path: Path) -> None:
    """Where storage sends nothing but whole objects, the input is downloaded after all."""
    platform.ignores_ranges = True
    platform.spec["pipeline"] = "ranged"
    platform.add_input("video_path", DATA)
    do(platform, ["copy_input", "video_path"])
    assert run_attempt(host, platform.attempt_id) == "succeeded"
    assert content(platform, "copy.bin") == DATA


def test_an_input_that_changes_in_the_run(platform: Platform, host: RunHost, video: None) -> None:
    """What the worker knows of the failure counts, not what the pipeline makes of it."""
    platform.faults["GET"] = ["", "", Reply(412)]
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("INPUT_CHANGED", True)


def test_an_address_that_expires_in_the_run(platform: Platform, host: RunHost, video: None) -> None:
    """An address that storage does not take any more fails this attempt, not the job."""
    platform.faults["GET"] = ["", "", Reply(403), Reply(403)]
    run_attempt(host, platform.attempt_id)
    assert (platform.outcome.code, platform.outcome.permanent) == ("INPUT_READ_ERROR", False)
