"""What the worker and its pipeline host say to each other, over a stream socket.

Standard library only: the host may be another Python with nothing of ours installed. Every message
is a frozen dataclass; on the wire it is a length (four bytes, big endian) and JSON.
"""

import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_LENGTH = struct.Struct("!I")
_INT = struct.Struct("i")
_LARGEST = 16 << 20
_CHUNK = 1 << 16
_CHUNKS = 256
"""Read at once: more than a socket holds, and no end of it from one who never stops talking."""
_DESCRIPTORS = 16
"""That may wait to be taken."""


# --- commands, to the host -----------------------------------------------------------------------


@dataclass(frozen=True)
class Prepare:
    """Load a pipeline before it is needed."""

    pipeline: str


@dataclass(frozen=True)
class Run:
    """Run a pipeline once. Paths are of the private folder of the run."""

    pipeline: str
    job_id: str
    model_id: str
    model_version: str
    params: dict[str, Any]
    prompt: str | None
    inputs: dict[str, str]
    work_dir: str
    ranged: dict[str, int] = field(default_factory=dict)
    """Inputs that are read by ranges (`range_protocol`), with their sizes; a connection for each
    comes with the message, in this order."""
    checkpoint: str | None = None
    number: int = 0
    """Tells this run from others of its host."""


@dataclass(frozen=True)
class Cancel:
    """Stop the run at its next report."""


@dataclass(frozen=True)
class Unload:
    """Give back a pipeline's memory, between two runs; answered by `Loaded`."""

    pipeline: str


@dataclass(frozen=True)
class RoomMade:
    """The answer to `RoomWanted`: go on; or, if it names one, unload that and ask again."""

    unload: str | None


@dataclass(frozen=True)
class MemoryFreed:
    """The other hosts hold no memory any more: try again."""


# --- events, from the host -----------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """What a host holds of a device's memory, and what all hosts may hold of it together."""

    device: str
    used_mib: int
    budget_mib: int

    def __post_init__(self) -> None:
        if not (isinstance(self.used_mib, int) and isinstance(self.budget_mib, int)):
            raise TypeError("memory is counted in whole MiB")


@dataclass(frozen=True)
class PipelineReport:
    """Whether the host can run a pipeline."""

    name: str
    version: str
    reasons: list[str]
    cancel_grace_seconds: float
    ranged_inputs: list[str] = field(default_factory=list)
    """Parameters whose files it reads by ranges."""

    def __post_init__(self) -> None:
        if not all(isinstance(name, str) for name in self.ranged_inputs):
            raise TypeError("inputs are named by text")


@dataclass(frozen=True)
class Ready:
    """The host has started."""

    python: str
    pipelines: list[PipelineReport]


@dataclass(frozen=True)
class Loaded:
    """What is loaded now, after a pipeline was loaded or dropped."""

    pipelines: list[str]
    memory: Memory

    def __post_init__(self) -> None:
        if not all(isinstance(name, str) for name in self.pipelines):
            raise TypeError("pipelines are named by text")


@dataclass(frozen=True)
class RoomWanted:
    """A pipeline will be, or has been, loaded; the host waits for `RoomMade`."""

    pipeline: str
    memory: Memory


@dataclass(frozen=True)
class Advanced:
    """The run is so far."""

    percent: float
    stage: str
    message: str | None


@dataclass(frozen=True)
class Produced:
    """A file is finished."""

    kind: str
    path: str
    media_type: str


@dataclass(frozen=True)
class Streaming:
    """A file is being made, and comes through the pipe that comes with the message.

    Of one name again, it takes the place of an earlier one that was not finished.
    """

    kind: str
    name: str
    media_type: str


@dataclass(frozen=True)
class Streamed:
    """A file that was streaming is finished."""

    name: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and isinstance(self.size_bytes, int)):
            raise TypeError("a streamed file has a name and a size")


@dataclass(frozen=True)
class Detected:
    """The pipeline has seen something in its input."""

    event: str
    data: dict[str, Any]


@dataclass(frozen=True)
class MemoryNeeded:
    """Memory did not suffice; the host has dropped what it could and waits for `MemoryFreed`."""

    used_mib: int


@dataclass(frozen=True)
class Reduced:
    """The run begins again with smaller settings."""

    params: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """The run is over.

    `outcome` is succeeded, failed (a `PipelineError`), crashed (any other exception, `kind` its
    type), out_of_memory or cancelled.
    """

    outcome: str
    metrics: dict[str, float] = field(default_factory=dict)
    code: str = ""
    message: str = ""
    permanent: bool = False
    kind: str = ""
    used_mib: int = 0
    number: int = 0
    """The run's."""
    recycle: str | None = None
    """Why the host should be replaced before the next run."""


Command = Prepare | Run | Cancel | Unload | RoomMade | MemoryFreed
Event = (
    Ready
    | Loaded
    | RoomWanted
    | Advanced
    | Produced
    | Streaming
    | Streamed
    | Detected
    | MemoryNeeded
    | Reduced
    | Ended
)

_TYPES: dict[str, type[Any]] = {
    message.__name__: message
    for message in (
        *(Prepare, Run, Cancel, Unload, RoomMade, MemoryFreed),
        *(Ready, Loaded, RoomWanted, Advanced, Produced),
        *(Streaming, Streamed, Detected, MemoryNeeded, Reduced, Ended),
    )
}


class ProtocolError(Exception):
    """The other side sent something that is no message."""


def encode(message: Command | Event) -> bytes:
    """A message as it goes over the wire."""
    # `vars`, also of the dataclasses in it: `asdict` would copy all that it holds.
    body = json.dumps({"type": type(message).__name__, **vars(message)}, default=vars).encode()
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Command | Event:
    """A message from its JSON.

    Raises:
        ProtocolError: it is none.
    """
    try:
        values = json.loads(body)
        kind = values.pop("type")
        if kind == "Ready":
            values["pipelines"] = [PipelineReport(**report) for report in values["pipelines"]]
        if "memory" in values:
            values["memory"] = Memory(**values["memory"])
        message: Command | Event = _TYPES[kind](**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"not a message: {type(error).__name__}") from error
    return message


class Channel:
    """One end of the connection. Any thread may send; one at a time may receive."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self.at_end = False
        """Whether the other side has closed its end."""

    def fileno(self) -> int:
        """The socket's file descriptor, to wait on."""
        return self._socket.fileno()

    def send(self, message: Command | Event, descriptors: Sequence[int] = ()) -> None:
        """Send a message, and with it open files, of which the other side gets its own.

        Raises:
            OSError: the other side is gone.
        """
        data = encode(message)
        with self._sending:
            sent = socket.send_fds(self._socket, [data], descriptors) if descriptors else 0
            self._socket.sendall(data[sent:])

    def take_descriptor(self) -> int:
        """The next open file that came with a message; the caller closes it.

        Raises:
            ProtocolError: there is none.
        """
        if not self._descriptors:
            raise ProtocolError("a message without the file that belongs to it")
        return self._descriptors.popleft()

    def receive(self) -> Command | Event | None:
        """The next message, waited for; None when the other side is gone.

        Raises:
            ProtocolError: it is no message.
        """
        while (message := self._take()) is None:
            if not self._receive(0):
                return None
        return message

    def receive_available(self) -> list[Command | Event]:
        """Every message that has arrived in full, without waiting.

        Raises:
            ProtocolError: something is no message.
        """
        for _ in range(_CHUNKS):
            try:
                if not self._receive(socket.MSG_DONTWAIT):
                    break
            except BlockingIOError:
                break
        messages = []
        while (message := self._take()) is not None:
            messages.append(message)
        return messages

    def hang_up(self) -> None:
        """Tell the other side that nothing more will be said or heard."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end, and whatever came with messages and was not taken."""
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _receive(self, flags: int) -> bool:
        """Take in some bytes, and the files that come with them; False at the end."""
        # Not `socket.recv_fds`, which does not pass the flags on.
        try:
            data, ancillary, _, _ = self._socket.recvmsg(
                _CHUNK,
                socket.CMSG_SPACE(_DESCRIPTORS * _INT.size),
                flags | socket.MSG_CMSG_CLOEXEC,
            )
        except ConnectionResetError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = content[: len(content) - len(content) % _INT.size]
                self._descriptors += [number for (number,) in _INT.iter_unpack(whole)]
        if len(self._descriptors) > _DESCRIPTORS:
            raise ProtocolError("files that belong to no message")
        self.at_end = self.at_end or not data
        self._received += data
        return bool(data)

    def _take(self) -> Command | Event | None:
        if len(self._received) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        if length > _LARGEST:
            raise ProtocolError(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(self._received) < end:
            return None
        body = bytes(self._received[_LENGTH.size : end])
        del self._received[:end]
        return decode(body)
