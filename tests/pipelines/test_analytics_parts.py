"""The parts that videos are analysed with, by themselves."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from analytics_runs import analyse
from lying_decoder import LIES, MOST_FRAMES
from PIL import Image
from pyarrow import parquet
from video_clips import CLIPS

from worker_vm.analytics.boxes import Box, Track
from worker_vm.analytics.clusters import Clusters
from worker_vm.analytics.drawing import Painter, Scene, ZoneCount
from worker_vm.analytics.event_log import EventLog
from worker_vm.analytics.events import Event, EventType
from worker_vm.analytics.heat_map import HeatMap
from worker_vm.analytics.labels import tag, write
from worker_vm.analytics.summary import zones_summary
from worker_vm.analytics.telemetry import Moment, Row, open_writer
from worker_vm.analytics.text_reader import Reading, TextReader
from worker_vm.analytics.track_book import TrackBook
from worker_vm.analytics.video_writer import VideoWriter
from worker_vm.analytics.zone_watch import ZoneFigures
from worker_vm.analytics.zones import Zone
from worker_vm.pipelines.analytics.writing import writing
from worker_vm.pipelines.base import PipelineError
from worker_vm.video.problems import VideoError
from worker_vm.video.raw_frames import RawFrames

GREY = np.full((90, 160, 3), 100, np.uint8)


def track(number: int, box: Box, *, is_seen: bool = True) -> Track:
    """A thing."""
    return Track(number, box, 0, 0.9, is_seen)


# A decoder that lies


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_decoder(lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a decoder tells that has been taken over, the job fails, and nothing else does."""
    monkeypatch.setattr(
        "worker_vm.pipelines.analytics.run._DECODER", "tests.pipelines.lying_decoder"
    )
    monkeypatch.setattr("worker_vm.video.input.Video.media_type", lambda _: lie)
    monkeypatch.setenv("ANALYTICS_MAX_FRAMES", str(MOST_FRAMES))
    video = CLIPS["short"].write(tmp_path / "clip.mp4")
    with pytest.raises(PipelineError) as caught:
        analyse(video, tmp_path / "run", mock_mode=True)
    assert caught.value.code == "CORRUPT_INPUT"


# Reading


class Eyes:
    """Reads what it was told that stands there, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []
        self.readings: list[Reading] = []

    def read(self, picture: np.ndarray) -> list[Reading]:
        """What stands there."""
        self.shown.append((picture.shape[1], picture.shape[0]))
        return self.readings


def test_only_what_has_changed_is_read() -> None:
    """The whole of the first frame, nothing of a still picture, then the part that changed."""
    eyes = Eyes()
    reader = TextReader(eyes.read)
    still = np.full((360, 640, 3), 90, np.uint8)
    reader.read(still, 0)
    reader.read(still.copy(), 1)
    assert eyes.shown == [(640, 360)]
    changed = still.copy()
    changed[200:230, 320:400] = 250
    eyes.readings = [Reading("EXIT", 0.95, (40.0, 10.0, 60.0, 20.0))]
    (text,) = reader.read(changed, 2)
    width, height = eyes.shown[1]
    assert 80 <= width < 300
    assert 30 <= height < 200
    assert (text.text, text.first_s) == ("EXIT", 2)
    assert text.box[0] > 250  # where it lies in the whole picture


def test_a_text_is_one_text() -> None:
    """Read again, in other letters, or a little wrong in the same place, it is the same."""
    eyes = Eyes()
    reader = TextReader(eyes.read)
    spellings = ["GATE 12", "gate12", "GATE I2", "gate  12", "EXIT", "GATE 12"]
    new = []
    for number, spelling in enumerate(spellings):
        eyes.readings = [Reading(spelling, 0.8 + number / 100, (10.0, 10.0, 90.0, 30.0))]
        shown = np.full((90, 160, 3), number * 40, np.uint8)
        new += [text.text for text in reader.read(shown, float(number))]
    assert new == ["GATE 12", "EXIT"]
    first = reader.texts[0]
    assert (first.readings, first.first_s, first.last_s) == (5, 0, 5)


def test_what_is_no_text() -> None:
    """Single letters and guesses do not count."""
    eyes = Eyes()
    eyes.readings = [
        Reading("I", 0.99, (0.0, 0.0, 9.0, 9.0)),
        Reading("maybe", 0.4, (0.0, 0.0, 9.0, 9.0)),
        Reading("", 0.99, (0.0, 0.0, 9.0, 9.0)),
    ]
    assert TextReader(eyes.read).read(GREY, 0) == []


def test_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A video of a telephone book does not fill the memory, and the results say so."""
    monkeypatch.setattr("worker_vm.analytics.text_reader._MOST_TEXTS", 3)
    eyes = Eyes()
    reader = TextReader(eyes.read)
    eyes.readings = [
        Reading(f"{name} street", 0.9, (0.0, 20.0 * at, 9.0, 20.0 * at + 9))
        for at, name in enumerate(("oak", "elm", "cherry", "birch"))
    ]
    assert len(reader.read(GREY, 0)) == 3
    assert reader.is_cut


# Clusters


def test_things_that_look_alike() -> None:
    """Red ones go together, and blue ones; each is told once, and only when it is sure."""
    clusters = Clusters()
    frame = GREY.copy()
    colours = [(20, 20, 200), (200, 40, 20), (25, 22, 190), (190, 45, 25)]
    tracks = []
    for number, colour in enumerate(colours):
        left = 10 + 35 * number
        frame[20:80, left : left + 25] = colour
        tracks.append(track(number + 1, (left, 20.0, left + 25.0, 80.0)))
    told = [clusters.look(frame, tracks) for _ in range(6)]
    assert [step for step in told if step] == [{1: 1, 2: 2, 3: 1, 4: 2}]
    assert [cluster.size for cluster in clusters.clusters] == [2, 2]
    assert clusters.clusters[0].colour == pytest.approx([195, 21, 22], abs=3)
    assert clusters.of(3) == 1
    clusters.forget(3)
    assert clusters.of(3) is None


@pytest.mark.parametrize(
    "box",
    [(0.0, 0.0, 3.0, 3.0), (-50.0, -50.0, -10.0, -10.0), (500.0, 500.0, 600.0, 600.0)],
)
def test_things_too_small_or_outside(box: Box) -> None:
    """What cannot be looked at has no cluster."""
    clusters = Clusters()
    for _ in range(6):
        assert clusters.look(GREY, [track(1, box)]) == {}


def test_hidden_things_are_not_looked_at() -> None:
    """Where a thing should be, something else is to be seen."""
    clusters = Clusters()
    for _ in range(6):
        assert clusters.look(GREY, [track(1, (10.0, 10.0, 60.0, 60.0), is_seen=False)]) == {}


# Drawing


def test_the_frame_itself_stays_as_it_is() -> None:
    """What is drawn is a copy; a frame may be read only."""
    frame = GREY.copy()
    frame.flags.writeable = False
    painter = Painter(160, 90, [], ["a", "b"], is_mock=False)
    drawn = painter.draw(frame, Scene(1.0, [track(1, (20.0, 20.0, 60.0, 80.0))], [], 1))
    assert (frame == 100).all()
    assert (drawn != 100).any()


@pytest.mark.parametrize("size", [(32, 32), (64, 480), (2000, 40), (1280, 720)])
def test_anything_can_be_drawn(size: tuple[int, int]) -> None:
    """Boxes, texts and zones across and beyond every border, in pictures of any shape."""
    width, height = size
    zone = Zone("Zürich 出口 " + "x" * 60, ((0, 0), (width, 0), (width, height), (0, height)))
    painter = Painter(width, height, [zone] * 12, ["cat"], is_mock=True)
    boxes = [(-50.0, -50.0, 9e4, 9e4), (-9.0, -9.0, -3.0, -3.0), (5.0, 5.0, 5.0, 5.0)]
    tracks = [track(n, box, is_seen=n % 2 == 0) for n, box in enumerate(boxes)]
    scene = Scene(1e5, tracks, [ZoneCount(1, 2, 3)] * 12, 3, [("x" * 500, boxes[0])])
    drawn = painter.draw(np.full((height, width, 3), 90, np.uint8), scene)
    assert drawn.shape == (height, width, 3)


def test_hidden_things_are_drawn_as_corners() -> None:
    """The middle of an edge is drawn only for what is seen."""
    box = (40.0, 20.0, 120.0, 80.0)
    edges = {}
    for is_seen in (True, False):
        painter = Painter(160, 90, [], ["a"], is_mock=False)
        drawn = painter.draw(GREY, Scene(0.0, [track(1, box, is_seen=is_seen)], [], 1))
        edges[is_seen] = (drawn[50, 38:43] != 100).any()
    assert edges == {True: True, False: False}


@pytest.mark.parametrize("place", [(-500, 0), (-3, -3), (155, 85), (160, 90), (0, 5000)])
def test_letters_at_the_border(place: tuple[int, int]) -> None:
    """Letters that reach over the border are cut off; plates stay inside."""
    picture = GREY.copy()
    write(picture, "Letters", place, 14, (255, 255, 255))
    tag(picture, "Letters", place, 14, (0, 0, 255))
    assert (picture == (0, 0, 255)).all(axis=2).any()


# Writing


def test_colours_and_times_survive(tmp_path: Path) -> None:
    """What is red is red, and each picture is shown when it should be."""
    path = tmp_path / "out.mp4"
    colours = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 128, 128)]
    times = [0.0, 0.04, 3.5, 3.5]
    writer = VideoWriter(path, 64, 48, rate=25, preset="ultrafast", threads=1, comment="x")
    for colour, time in zip(colours, times, strict=True):
        writer.write(np.full((48, 64, 3), colour, np.uint8), time)
    writer.finish()
    writer.close()
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    shown = [frame.to_ndarray(format="bgr24")[24, 32] for frame in frames]
    assert np.abs(np.array(shown, int) - np.array(colours)).max() < 6
    assert [float(frame.time) for frame in frames] == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize("rate", [1e-9, 0.0004, 0.0011])
def test_hardly_any_pictures(rate: float, tmp_path: Path) -> None:
    """A video may show a picture an hour."""
    path = tmp_path / "out.mp4"
    writer = VideoWriter(path, 64, 48, rate=rate, preset="ultrafast", threads=1, comment="x")
    for time in (0, 3600):
        writer.write(np.zeros((48, 64, 3), np.uint8), time)
    writer.finish()
    with av.open(str(path)) as container:
        assert [float(frame.time) for frame in container.decode(video=0)] == [0, 3600]


def test_the_highest_picture_can_be_encoded(tmp_path: Path) -> None:
    """What is sent of a very high frame fits the encoder, and keeps its shape."""
    pixels = RawFrames(1280, 1 << 22).pixels(av.VideoFrame(128, 32_768, "yuv420p"))
    height, width = pixels.shape[:2]
    assert (width, height) == (64, 16_384)
    path = tmp_path / "out.mp4"
    writer = VideoWriter(path, width, height, rate=1, preset="ultrafast", threads=1, comment="x")
    writer.write(pixels, 0)
    writer.finish()
    with av.open(str(path)) as container:
        assert [frame.height for frame in container.decode(video=0)] == [height]


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "OUTPUT_WRITE_ERROR"), (errno.EINVAL, "FFMPEG_CODEC_ERROR")]
)
def test_what_ffmpeg_says_while_it_writes(number: int, code: str) -> None:
    """A full disk is one thing, pictures that cannot be encoded another."""
    with pytest.raises(VideoError) as caught, writing("the annotated video"):
        av.error.err_check(-number)
    assert caught.value.code == code


def test_want_of_memory_while_writing() -> None:
    """Who began the run can begin again with less, if nobody renames the error."""
    with pytest.raises(MemoryError), writing("the annotated video"):
        av.error.err_check(-errno.ENOMEM)


def test_telemetry_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet is written in groups, so that memory does not grow, and all rows are there."""
    monkeypatch.setattr("worker_vm.analytics.telemetry._ROWS_A_GROUP", 10)
    writer = open_writer("parquet", tmp_path / "t.parquet", is_mock=False)
    row = Row(1, "cat", 0.9, (1.0, 2.0, 3.0, 4.0), is_seen=True, cluster=None)
    for number in range(25):
        writer.write(Moment(number, number / 25, [row], []))
    writer.close()
    writer.close()
    file = parquet.ParquetFile(tmp_path / "t.parquet")
    assert file.num_row_groups == 3
    assert file.read().column("frame").to_pylist() == list(range(25))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_telemetry_of_nothing(kind: str, tmp_path: Path) -> None:
    """A video in which nothing moves makes files that can be read."""
    path = tmp_path / f"t.{kind}"
    writer = open_writer(kind, path, is_mock=False)
    writer.write(Moment(0, 0.0, [], []))
    writer.close()
    if kind == "jsonl":
        assert json.loads(path.read_text()) == {"frame": 0, "time_s": 0, "tracks": [], "events": []}
    elif kind == "csv":
        assert path.read_text().startswith("frame,time_s,track_id,class")
    else:
        assert parquet.read_table(path).num_rows == 0


def test_heat_is_where_things_stood(tmp_path: Path) -> None:
    """The warmest place is where the foot was longest."""
    heat = HeatMap(np.full((180, 320, 3), 60, np.uint8))
    for _ in range(50):
        heat.add([track(1, (200.0, 40.0, 240.0, 120.0))], 0.1)
    heat.add([track(2, (20.0, 40.0, 60.0, 120.0), is_seen=False)], 9)
    heat.write(tmp_path / "heat.png", is_mock=False)
    picture = np.asarray(Image.open(tmp_path / "heat.png").convert("RGB")).astype(int)
    warm = picture[..., 0] - picture[..., 2]
    y, x = np.unravel_index(warm.argmax(), warm.shape)
    assert (x, y) == (pytest.approx(220, abs=8), pytest.approx(120, abs=8))
    assert picture[120, 40].std() == 0  # nothing but grey where nobody was seen


def test_no_heat_at_all(tmp_path: Path) -> None:
    """A video in which nothing moves has a map all the same, of 32 x 32 too."""
    HeatMap(np.full((32, 32, 3), 60, np.uint8)).write(tmp_path / "heat.png", is_mock=True)
    with Image.open(tmp_path / "heat.png") as picture:
        assert picture.size == (32, 32)


# Adding up


def test_each_type_has_its_room() -> None:
    """One type that babbles leaves the others their room, and all are counted."""
    told: list[tuple[str, dict]] = []
    log = EventLog(lambda kind, data: told.append((kind, dict(data))), 2, is_mock=False)
    log.add(Event(EventType.TRACK_START, n / 10, n, {"track_id": n}) for n in range(5))
    log.add([Event(EventType.ZONE_ENTER, 1.23456, 9, {"zone": "a"})])
    assert [kind for kind, _ in told] == ["track.start", "track.start", "zone.enter"]
    assert told[-1][1] == {"time_s": 1.2346, "frame": 9, "zone": "a"}
    assert log.summary()["counts"]["track.start"] == 5
    assert log.summary()["is_cut"]


def test_tracks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd is counted, though not all of it is listed."""
    monkeypatch.setattr("worker_vm.analytics.track_book._MOST_LISTED", 2)
    book = TrackBook(["cat"], (2.0, 2.0))
    book.update([track(n, (0.0, 0.0, 10.0, 10.0)) for n in (1, 2, 3)], 0.0, 0)
    book.update([track(n, (3.0, 4.0, 13.0, 14.0)) for n in (1, 2, 3)], 1.0, 25)
    ended = book.end_all()
    assert [event.data["seconds"] for event in ended] == [1, 1, 1]
    summary = book.summary()
    assert (summary["count"], len(summary["list"]), summary["is_cut"]) == (3, 2, True)
    assert summary["by_class"] == {"cat": 3}
    assert summary["list"][0]["distance_px"] == 10  # 3 and 4 pixels, twice as many of the video


def test_histogram_of_dwelling() -> None:
    """Each visit is in one step."""
    figures = ZoneFigures()
    for seconds in (0.0, 0.5, 1.0, 4.0, 29.0, 10_000.0):
        figures.dwell_s.append(seconds)
    zone = Zone("a", ((0, 0), (9, 0), (9, 9)))
    (summary,) = zones_summary([zone], {"a": figures})
    steps = {step["from_s"]: step["visits"] for step in summary["dwell"]["histogram"]}
    assert steps == {0: 2, 1: 1, 2: 1, 5: 0, 10: 1, 30: 0, 60: 0, 300: 0, 1800: 1}
    assert summary["dwell"]["visits"] == 6


# Memory

_MEASURED = """
import resource, sys
sys.path[:0] = [{pipelines!r}, {root!r}]
from pathlib import Path
from analytics_runs import analyse
from walks import Walk
folder = Path({folder!r})
video = Walk(seconds={seconds}, size=(160, 96), rest=(1.0, {seconds} - 2)).write(folder / "v.mp4")
run = analyse(video, folder / "run", zones=[dict(name="a", x1=0, y1=0, x2=80, y2=96)])
assert run.metrics["frame_count"] == {seconds} * 15
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Ten times as long a video needs no more memory but a little."""
    peaks = []
    for seconds in (20, 200):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        here = Path(__file__).parent
        code = _MEASURED.format(
            pipelines=str(here), root=str(here.parents[1]), folder=str(folder), seconds=seconds
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 24, peaks
