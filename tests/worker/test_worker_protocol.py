"""What worker and pipeline host say to each other, and how it is cut into messages."""

import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_vm import host_protocol as protocol
from worker_vm.host_protocol import (
    Advanced,
    Cancel,
    Channel,
    Command,
    Detected,
    Ended,
    Event,
    Loaded,
    Memory,
    MemoryFreed,
    MemoryNeeded,
    PipelineReport,
    Prepare,
    Produced,
    ProtocolError,
    Ready,
    Reduced,
    RoomMade,
    RoomWanted,
    Run,
    Unload,
    decode,
    encode,
)

PARAMS = {"seed": 7, "image_path": "uploads/ü.png", "nested": [{"a": None}, 1.5, True]}
MEMORY = Memory("cuda", 2048, 16384)
MESSAGES: list[Command | Event] = [
    Prepare("inflate"),
    Run(
        pipeline="inflate",
        job_id="019a9c6e-0000-7000-8000-000000000000",
        model_id="inflate-v1",
        model_version="1",
        params=PARAMS,
        prompt="a duck\n🦆",
        inputs={"image_path": "/folder/inputs/00-duck.png"},
        work_dir="/folder/w",
        number=3,
    ),
    Cancel(),
    Unload("other"),
    RoomMade("other"),
    RoomMade(None),
    MemoryFreed(),
    Ready("3.11.7", [PipelineReport("inflate", "1.0.0", ["There is no GPU."], 0.5)]),
    Loaded(["inflate", "other"], MEMORY),
    RoomWanted("inflate", MEMORY),
    Advanced(12.5, "mesh", None),
    Produced("model_3d", "/folder/w/1/model.glb", "model/gltf-binary"),
    Detected("zone.enter", {"zone": "Tür", "box": [0, 1.5], "type": "Run", "memory": None}),
    MemoryNeeded(1024),
    Reduced(PARAMS),
    Ended("succeeded", metrics={"faces": 12.0}, used_mib=100, number=3),
    Ended("failed", code="CUTOUT_EMPTY", message="No.", permanent=True, kind="E", recycle="why"),
]
TEXTS = st.text(st.characters(codec=None))
ANY_MESSAGE = st.one_of(
    st.sampled_from(MESSAGES),
    st.builds(Advanced, st.floats(allow_nan=False), TEXTS, st.none() | TEXTS),
    st.builds(Produced, TEXTS, TEXTS, TEXTS),
    st.builds(Loaded, st.lists(TEXTS), st.just(MEMORY)),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: Command | Event) -> None:
    """Every kind of message is the same after its way over the wire."""
    assert decode(encode(message)[4:]) == message


def test_every_kind_of_message_is_tried() -> None:
    """The list above leaves none out."""
    assert {type(message).__name__ for message in MESSAGES} == set(protocol._TYPES)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"type": 3}',
        b'{"type": []}',
        b'{"type": "Nothing"}',
        b'{"type": "Loaded"}',
        b'{"type": "Loaded", "pipelines": []}',
        b'{"type": "Loaded", "pipelines": [], "memory": 3}',
        (
            b'{"type": "Loaded", "pipelines": [[]], "memory": {"device": "cuda", "used_mib": 1, '
            b'"budget_mib": 1}}'
        ),
        (
            b'{"type": "RoomWanted", "pipeline": "x", "memory": {"device": "cuda", "used_mib": '
            b'Infinity, "budget_mib": 1}}'
        ),
        b'{"type": "MemoryFreed", "more": 1}',
        b'{"type": "Ready", "python": "3", "pipelines": 3}',
        b'{"type": "Ready", "python": "3", "pipelines": [{}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_an_error(body: bytes) -> None:
    """Whatever else arrives is one kind of error."""
    with pytest.raises(ProtocolError):
        decode(body)


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_surprise_the_reader(body: bytes) -> None:
    """Arbitrary bytes are a message or that one error."""
    try:
        decode(body)
    except ProtocolError:
        return


@given(st.lists(ANY_MESSAGE, max_size=6), st.lists(st.integers(1, 40), max_size=200))
def test_messages_survive_any_cut(messages: list[Any], cuts: list[int]) -> None:
    """However the stream is cut into pieces, the same messages come out in the same order."""
    stream = b"".join(map(encode, messages))
    ours, theirs = socket.socketpair()
    received: list[Command | Event] = []
    with ours, theirs:
        channel = Channel(ours)
        start = 0
        for cut in [*cuts, len(stream)]:
            theirs.sendall(stream[start : start + cut])
            start += cut
            received += channel.receive_available()
        assert received == messages
        assert not channel.at_end
        theirs.close()
        assert channel.receive_available() == []
        assert channel.at_end


def test_messages_from_several_threads_stay_whole() -> None:
    """Messages sent at the same time are not mixed, not even ones larger than the socket holds."""
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours), Channel(theirs)
    sent = [Advanced(float(n), "s" * 300_000, None) for n in range(6)]
    with ours, theirs:
        threads = [threading.Thread(target=sender.send, args=(message,)) for message in sent]
        for thread in threads:
            thread.start()
        received = [receiver.receive() for _ in sent]
        for thread in threads:
            thread.join()
        ours.close()
        assert receiver.receive() is None
    assert sorted(received, key=lambda message: message.percent) == sent  # type: ignore[union-attr]


def test_a_message_that_is_too_long_is_refused() -> None:
    """A length that no message has is an error before anything of it is kept."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(ProtocolError, match="4294967295 bytes"):
            Channel(ours).receive()
