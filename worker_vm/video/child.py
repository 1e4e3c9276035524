"""The pipeline's side of a confined child that decodes a video; imports nothing heavy."""

import os
import subprocess
from collections.abc import Callable, Iterator

from worker_vm.sandbox import ConfinedChild, Limit, Limits, SandboxError
from worker_vm.video.input import Video
from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.records import Record, RecordError, receive
from worker_vm.video.settings import THREADS_BESIDE_DECODERS


def decode_confined(
    video: Video,
    module: str,
    request: str,
    *,
    memory_bytes: int,
    work_seconds: int,
    largest_body: int,
    take: Callable[[Record], None],
    idle: Callable[[], None],
) -> int:
    """Have a child decode, and take in what it tells.

    Args:
        video: what to decode.
        module: of the child; it calls `worker_vm.video.confined.serve`.
        request: what it is to do.
        memory_bytes: that it may use beyond its program.
        work_seconds: that it may take, by the clock and of CPU time for each thread.
        largest_body: the most bytes that a record of the child may bring.
        take: gets each record but the child's reason to give up; a RecordError says that it is
            nonsense.
        idle: called every half second while nothing comes; raises to give up.

    Returns:
        The most memory that the child held.

    Raises:
        VideoError: the child's reason, or that it broke down.
    """
    threads = max(int(os.environ.get("WORKER_THREADS", "1")), 1)
    limits = Limits(
        memory_bytes=memory_bytes,
        cpu_seconds=work_seconds * (threads + 1),
        output_bytes=0,  # it writes to a pipe only
        wall_seconds=work_seconds,
        threads=threads + THREADS_BESIDE_DECODERS,
    )
    peak = 0
    last = ""
    with (
        video.open() as file,
        ConfinedChild(
            module, stdin=file, stdout=subprocess.PIPE, limits=limits, request=request
        ) as child,
    ):
        try:
            for record in _records(lambda size: child.read(size, idle), largest_body):
                if record.type == "error":
                    raise _reason(record)
                take(record)
                last = record.type
                peak = max(peak, child.peak_memory_bytes())
            child.wait()
        except RecordError as error:
            raise _broke_down(f"the decoder told nonsense ({error})") from error
        except SandboxError as error:
            if error.limit is Limit.TIME:
                raise VideoError(
                    VideoCode.TIMEOUT, f"The video could not be decoded: {error}. Send less."
                ) from error
            raise _broke_down(str(error)) from error
    if last != "done":
        raise _broke_down("the decoder ended early")
    return peak


def _records(read: Callable[[int], bytes], largest_body: int) -> Iterator[Record]:
    """What the child tells; nothing may come after `done`."""
    is_done = False
    while record := receive(read, largest_body):
        if is_done:
            raise RecordError(f"a {record.type[:40]!r} after it was done")
        yield record
        is_done = record.type == "done"


def _reason(record: Record) -> VideoError:
    """Why the child gave up, in its own words."""
    try:
        code = VideoCode(record.text("code"))
    except ValueError as error:
        raise RecordError("a reason that is none") from error
    return VideoError(code, record.text("message"))


def _broke_down(reason: str) -> VideoError:
    return VideoError(
        VideoCode.CORRUPT_INPUT, f"The video could not be decoded: {reason}. Send another file."
    )
