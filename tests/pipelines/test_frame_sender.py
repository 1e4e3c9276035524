"""Frames that become pictures beside the decoding of the next ones."""

import threading
from fractions import Fraction
from pathlib import Path

import av
import pytest

from worker_vm.pipelines.frames.sender import FrameSender, Timeline
from worker_vm.video.pictures import Look
from worker_vm.video.problems import VideoCode, VideoError
from worker_vm.video.records import receive
from worker_vm.video.sampling import Sample, Selector, Wish

TICK = Fraction(1, 2)
FRAMES = 20


def sender(descriptor: int, *, max_pixels: int = 1 << 20) -> FrameSender:
    """One that sends a frame for each half second."""
    wish = Wish(
        sample=Sample.AT_TIME,
        fps=1 / TICK,
        start=Fraction(0),
        end=None,
        max_frames=None,
        frame_limit=100,
        duplicate_limit=10,
    )
    look = Look(
        format="jpg",
        quality=90,
        max_width=None,
        autorotate=False,
        tonemap=False,
        deinterlace=False,
        max_pixels=max_pixels,
    )
    return FrameSender(descriptor, look, frozenset(), Timeline(Selector(wish, TICK), TICK, FRAMES))


def send_all(sending: FrameSender) -> None:
    """Each frame for its own moment."""
    for number in range(FRAMES):
        sending.send(av.VideoFrame(64, 48, "yuv420p"), number, range(number, number + 1))


def give_up(descriptor: int) -> None:
    """Fail in the middle."""
    with sender(descriptor) as sending:
        send_all(sending)
        raise ZeroDivisionError


def refuse(_: threading.Thread) -> None:
    """What Python says where the process may have no more threads."""
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("allowed", [True, False], ids=["a thread", "no thread"])
def test_all_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, allowed: bool) -> None:
    """With a thread for pictures or without: each frame once, in order, with its picture."""
    if not allowed:
        monkeypatch.setattr(threading.Thread, "start", refuse)
    path = tmp_path / "records"
    with path.open("wb") as file, sender(file.fileno()) as sending:
        send_all(sending)
    with path.open("rb") as file:
        records = iter(lambda: receive(file.read, 1 << 20), None)
        told = [(record.moment("pts"), record.body[:2]) for record in records if record]
    assert told == [(number / 2, b"\xff\xd8") for number in range(FRAMES)]
    assert sending.sent == FRAMES


def test_a_picture_that_fails(tmp_path: Path) -> None:
    """What is wrong with it reaches whoever decodes, at the latest at the end."""
    with (
        pytest.raises(VideoError) as caught,
        (tmp_path / "records").open("wb") as file,
        sender(file.fileno(), max_pixels=1) as sending,
    ):
        sending.send(av.VideoFrame(64, 48, "yuv420p"), 0, range(1))
    assert caught.value.code is VideoCode.RESOLUTION_LIMIT


def test_nothing_comes_after_a_try_was_given_up(tmp_path: Path) -> None:
    """The next try begins anew, and has the pipe to itself."""
    path = tmp_path / "records"
    before = threading.active_count()
    with path.open("wb") as file:
        with pytest.raises(ZeroDivisionError):
            give_up(file.fileno())
        size = path.stat().st_size
        assert threading.active_count() == before
    assert path.stat().st_size == size
