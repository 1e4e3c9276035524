"""Tracks keep their id while things are missed, hidden and pass each other."""

from collections.abc import Sequence

import numpy as np
import pytest

from worker_vm.analytics.boxes import Detections, Frame, Track
from worker_vm.analytics.tracking import TRACKER_NAMES, Tracker, TrackerName, make_tracker

SIZE = (640, 360)
RATE = 25.0
BLANK = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)

every_tracker = pytest.mark.parametrize("name", TRACKER_NAMES)


def found(*boxes: Sequence[float], confidence: float = 0.9, class_id: int = 0) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, confidence, np.float32),
        np.full(count, class_id, np.int32),
    )


def person(x: float, y: float = 200) -> tuple[float, float, float, float]:
    return (x - 20, y - 100, x + 20, y)


def clipped(x: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = person(x)
    return max(left, 0), top, min(right, SIZE[0]), bottom


def run(tracker: Tracker, frames: Sequence[Detections]) -> list[list[Track]]:
    return [tracker.update(one, BLANK, number / RATE) for number, one in enumerate(frames)]


def seen(tracks: list[Track]) -> list[int]:
    return [track.id for track in tracks if track.is_seen]


@every_tracker
def test_ids_count_from_one(name: TrackerName) -> None:
    """Ids follow the order of appearance, without gaps, from the second frame on."""
    frames = [found(person(100 + n), *[person(500 - n)] * (n >= 10)) for n in range(20)]
    tracks = run(make_tracker(name, RATE, SIZE), frames)
    assert [seen(one) for one in tracks] == [[]] + [[1]] * 10 + [[1, 2]] * 9


@every_tracker
def test_box_is_the_detected_one(name: TrackerName) -> None:
    """A seen track has the box, class and confidence of its detection."""
    tracker = make_tracker(name, RATE, SIZE)
    run(tracker, [found(person(100), class_id=3)] * 3)
    (track,) = tracker.update(found(person(104), confidence=0.75, class_id=3), BLANK, 3 / RATE)
    assert track == Track(1, person(104), 3, 0.75, is_seen=True)


@every_tracker
def test_class_by_majority(name: TrackerName) -> None:
    """A track is what it has been taken for most often."""
    frames = [found(person(100), class_id=2)] * 5 + [found(person(100), class_id=7)] * 2
    assert run(make_tracker(name, RATE, SIZE), frames)[-1][0].class_id == 2


@every_tracker
def test_coasting_and_coming_back(name: TrackerName) -> None:
    """What is missed for half a second goes on its way and keeps its id."""
    frames = [found() if 20 <= n < 32 else found(person(100 + 5 * n)) for n in range(50)]
    tracks = run(make_tracker(name, RATE, SIZE), frames)
    assert [(track.id, track.is_seen) for track in tracks[31]] == [(1, False)]
    assert tracks[31][0].box == pytest.approx(person(100 + 5 * 31), abs=3)
    assert seen(tracks[-1]) == [1]


@every_tracker
def test_hidden_behind_a_pillar(name: TrackerName) -> None:
    """What goes behind something narrows at one side, and comes out with its id at the other."""
    frames = []
    for n in range(90):
        left, top, right, bottom = person(80 + 5 * n)
        parts = [(left, min(right, 280.0)), (max(left, 360.0), right)]
        frames.append(found(*[(a, top, b, bottom) for a, b in parts if b - a >= 8]))
    tracks = run(make_tracker(name, RATE, SIZE), frames)
    assert seen(tracks[35]) == [1]
    assert seen(tracks[50]) == []
    assert seen(tracks[80]) == [1]


@every_tracker
def test_ends_after_a_while(name: TrackerName) -> None:
    """What stays away for longer than a second and a half has ended, and is told once."""
    tracker = make_tracker(name, RATE, SIZE)
    run(tracker, [found(person(300))] * 10)
    gone = [tracker.update(found(), BLANK, (10 + n) / RATE) for n in range(40)]
    assert [len(one) for one in gone] == [1] * 37 + [0] * 3
    assert tracker.finished() == [1]
    assert tracker.finished() == []


@every_tracker
def test_leaving_is_not_waited_for(name: TrackerName) -> None:
    """Who comes in where someone has just left is someone else."""
    leaving = [found(clipped(100 - 5 * n)) for n in range(23)]
    coming = [found(clipped(-12 + 5 * n)) for n in range(20)]
    tracks = run(make_tracker(name, RATE, SIZE), [*leaving, found(), found(), *coming])
    assert seen(tracks[20]) == [1]
    assert seen(tracks[-1]) == [2]


def painted(*people: tuple[float, tuple[int, int, int]]) -> Frame:
    """Draw people at places, the later ones in front, each in a colour."""
    picture = BLANK + np.uint8(120)
    for x, colour in people:
        left, top, right, bottom = (int(edge) for edge in clipped(x))
        picture[top:bottom, left : max(right, left)] = colour
    return picture


RED, BLUE = (40, 40, 200), (200, 80, 30)


@every_tracker
@pytest.mark.parametrize("turns", [False, True])
def test_looks_tell_who_is_who(name: TrackerName, *, turns: bool) -> None:
    """Two who hide each other wholly keep their ids, whether they go on or turn back."""
    tracker = make_tracker(name, RATE, SIZE)
    for number in range(71):
        x = 100.0 + 4 * (70 - number if turns and number > 35 else number)
        red, blue = (x, RED), (480 - x, BLUE)
        behind = [] if abs(x - 240) < 14 else [person(480 - x)]
        tracks = tracker.update(found(person(x), *behind), painted(blue, red), number / RATE)
        places = {track.id: (track.box[0] + track.box[2]) / 2 for track in tracks if track.is_seen}
        if number == 20:
            first, second = sorted(places, key=places.__getitem__)
            assert places == {first: x, second: 480 - x}
    assert places == {first: x, second: 480 - x}


@every_tracker
def test_entering_before_another_has_left(name: TrackerName) -> None:
    """Who comes in, and hides one who is just leaving there, gets an id of his own."""
    tracker = make_tracker(name, RATE, SIZE)
    for number in range(40):
        out, into = 60 - 4 * number, -56 + 4 * number
        picture = painted((out, BLUE), (into, RED))
        # One frame shows both; then the one who comes in hides the other.
        boxes = [clipped(out)] * (number < 14) + [clipped(into)] * (number > 12)
        tracks = tracker.update(found(*boxes), picture, number / RATE)
        if number == 10:
            assert seen(tracks) == [1]
    assert seen(tracks) == [2]


@every_tracker
@pytest.mark.parametrize("size", [(1, 1), (3, 640), (360, 1)])
def test_boxes_beside_the_frame(name: TrackerName, size: tuple[int, int]) -> None:
    """Boxes that have nothing to do with the picture are followed all the same."""
    tracker = make_tracker(name, RATE, SIZE)
    frame = np.zeros((*size, 3), np.uint8)
    for number in range(30):
        boxes = found(person(100 + 5 * number), person(300 - 5 * number), (-9, -9, -2, -3))
        tracks = tracker.update(boxes, frame, number / RATE)
    assert len(seen(tracks)) >= 2


@every_tracker
def test_irregular_times(name: TrackerName) -> None:
    """Frames need not be evenly spaced: the way since the last one follows from their times."""
    tracker = make_tracker(name, RATE, SIZE)
    times = [0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.48, 0.52, 0.56]
    tracks = [tracker.update(found(person(100 + 125 * time)), BLANK, time) for time in times]
    assert [seen(one) for one in tracks[1:]] == [[1]] * 10


@every_tracker
def test_long_gap(name: TrackerName) -> None:
    """After a gap of a minute all are new."""
    tracker = make_tracker(name, RATE, SIZE)
    run(tracker, [found(person(300))] * 10)
    later = [tracker.update(found(person(300)), BLANK, 60 + n / RATE) for n in range(4)]
    assert seen(later[-1]) == [2]
    assert tracker.finished() == [1]


@every_tracker
def test_unsure_detections_start_nothing(name: TrackerName) -> None:
    """A detection below the confidence makes no track."""
    frames = [found(person(300), confidence=0.4)] * 10
    assert run(make_tracker(name, RATE, SIZE, confidence=0.5), frames)[-1] == []


def test_unsure_detections_continue_tracks() -> None:
    """ByteTrack follows a track through unsure detections."""
    frames = [found(person(300), confidence=0.9 if n < 5 else 0.4) for n in range(60)]
    assert seen(run(make_tracker("bytetrack", RATE, SIZE), frames)[-1]) == [1]


@pytest.mark.parametrize("time_s", [0.0, -1.0, float("nan")])
def test_time_must_move_on(time_s: float) -> None:
    """A frame that is no later than the one before is an error."""
    tracker = make_tracker("bytetrack", RATE, SIZE)
    tracker.update(found(), BLANK, 0.0)
    with pytest.raises(ValueError, match="cannot follow"):
        tracker.update(found(), BLANK, time_s)


def test_unknown_tracker() -> None:
    """The error names what there is."""
    with pytest.raises(ValueError, match="bytetrack, sort, ocsort"):
        make_tracker("deepsort", RATE, SIZE)  # type: ignore[arg-type]


@every_tracker
def test_memory_stays_bounded(name: TrackerName) -> None:
    """Nothing is kept of the tracks that have ended."""
    tracker = make_tracker(name, RATE, SIZE)
    for number in range(600):
        tracker.update(found(person(100 + 200 * (number // 4 % 3))), BLANK, number / RATE)
        tracker.finished()
    assert len(tracker._alive) < 20
    assert len(tracker._library.tracks) < 20
