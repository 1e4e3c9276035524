"""What a user can ask of `video-analytics`, and what comes back."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from analytics_runs import AnalyticsOutcome, analyse
from PIL import Image
from pyarrow import parquet
from video_clips import CLIPS, Clip
from walks import Walk

from app.catalog.parameters import default_parameters
from app.initial_data import SEEDS
from contract.events import MOST_EVENTS
from contract.kinds import ArtifactKind
from worker_vm.analytics.events import EventType
from worker_vm.analytics.settings import AnalyticsSettings, read_settings
from worker_vm.pipelines.analytics.parameters import read_parameters
from worker_vm.pipelines.base import PipelineError, RunCancelledError
from worker_vm.pipelines.registry import load_pipeline

WALK = Walk()
SCHEMA: dict[str, Any] = next(
    model["parameters"]
    for model in json.loads(SEEDS.read_text())
    if model["id"] == "video-analytics-v1"
)
GATE = {"name": "gate", "x1": 120, "y1": 60, "x2": 200, "y2": 180}
FIELD = {"name": "field", "points": [[0.7, 0.4], [1, 0.4], [1, 1], [0.7, 1]]}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WALK.write(tmp_path_factory.mktemp("clip") / "walk.mp4")


@pytest.fixture(scope="module")
def walked(video: Path, tmp_path_factory: pytest.TempPathFactory) -> AnalyticsOutcome:
    """The walk, analysed."""
    folder = tmp_path_factory.mktemp("walked") / "run"
    return analyse(
        video, folder, zones=[GATE, FIELD], dwell_s=1.2, telemetry=["jsonl", "csv", "parquet"]
    )


def moments_inside(left: float, right: float) -> tuple[float, float]:
    """When the figure's foot comes between two abscissae, and when it leaves."""
    times = np.arange(0, WALK.seconds, 1 / WALK.rate)
    inside = [time for time in times if left <= WALK.foot(time)[0] <= right]
    return inside[0], inside[-1]


def test_artifacts(walked: AnalyticsOutcome) -> None:
    """All files are there, of their kinds, and the run is at its end."""
    kinds = {name: kind for name, (kind, _, _) in walked.recorder.artifacts.items()}
    assert kinds == {
        "annotated.mp4": ArtifactKind.VIDEO,
        "analytics.json": ArtifactKind.ANALYTICS,
        "telemetry.jsonl": ArtifactKind.TELEMETRY,
        "telemetry.csv": ArtifactKind.TELEMETRY,
        "telemetry.parquet": ArtifactKind.TELEMETRY,
        "poster.jpg": ArtifactKind.PREVIEW,
        "sprite.jpg": ArtifactKind.PREVIEW,
        "preview.webp": ArtifactKind.PREVIEW,
        "heat_map.png": ArtifactKind.PREVIEW,
        "manifest.json": ArtifactKind.MANIFEST,
    }
    for name in ("poster.jpg", "sprite.jpg", "preview.webp", "heat_map.png"):
        with Image.open(walked.path(name)) as picture:
            picture.verify()
    percents = [percent for percent, _ in walked.recorder.steps]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert walked.metrics["frame_count"] == WALK.seconds * WALK.rate


def test_one_figure_is_followed(walked: AnalyticsOutcome) -> None:
    """The figure that walks and rests is one track from start to end, where it really is."""
    (track,) = walked.analytics["tracks"]["list"]
    assert track["first_s"] < 0.7
    assert track["last_s"] == pytest.approx(WALK.seconds, abs=0.2)
    assert len(walked.of_type("track.start")) == len(walked.of_type("track.end")) == 1
    errors = []
    for row in walked.rows:
        x, y = WALK.foot(float(row["time_s"]))
        foot = (float(row["x1"]) + float(row["x2"])) / 2, float(row["y2"])
        errors.append(np.hypot(foot[0] - x, foot[1] - y))
    assert len(errors) > WALK.seconds * WALK.rate * 0.9
    assert np.median(errors) < 8


def test_zone_events(walked: AnalyticsOutcome) -> None:
    """Who comes into a zone, stays and leaves is told in order and at the right moment."""
    told = [(kind, data["zone"]) for kind, data in walked.events if kind.startswith("zone.")]
    assert told == [
        ("zone.enter", "gate"),
        ("zone.dwell", "gate"),
        ("zone.exit", "gate"),
        ("zone.enter", "field"),
        ("zone.exit", "field"),
    ]
    entered, left = moments_inside(GATE["x1"], GATE["x2"])
    assert walked.of_type("zone.enter")[0]["time_s"] == pytest.approx(entered, abs=0.15)
    assert walked.of_type("zone.exit")[0]["time_s"] == pytest.approx(left, abs=0.15)
    gate, field = walked.analytics["zones"]
    assert (gate["name"], gate["entries"], gate["exits"], gate["peak_occupancy"]) == (
        "gate",
        1,
        1,
        1,
    )
    assert gate["dwell"]["longest_s"] == pytest.approx(left - entered, abs=0.25)
    assert sum(step["visits"] for step in gate["dwell"]["histogram"]) == 1
    assert field["points"] == [[224, 72], [320, 72], [320, 180], [224, 180]]


def test_telemetry_agrees(walked: AnalyticsOutcome) -> None:
    """Lines, rows and columns say the same, and events lie with the frame that showed them."""
    rows = walked.rows
    flat = [
        (line["frame"], track["id"], *track["box"])
        for line in walked.lines
        for track in line["tracks"]
    ]
    assert flat == [
        (
            int(row["frame"]),
            int(row["track_id"]),
            *(float(row[c]) for c in ("x1", "y1", "x2", "y2")),
        )
        for row in rows
    ]
    table = parquet.read_table(walked.path("telemetry.parquet")).to_pylist()
    assert [(row["frame"], row["time_s"], row["class"]) for row in table] == [
        (int(row["frame"]), float(row["time_s"]), row["class"]) for row in rows
    ]
    written = [event["type"] for line in walked.lines for event in line["events"]]
    assert sorted(written) == sorted(kind for kind, _ in walked.events)
    assert {row["mock"] for row in rows} == {"false"}


def test_annotated_video_plays_in_browsers(walked: AnalyticsOutcome) -> None:
    """H.264, 4:2:0, the table in front, a picture for each frame at its time, with boxes in it."""
    file = walked.path("annotated.mp4").read_bytes()
    assert 0 < file.index(b"moov") < file.index(b"mdat")
    pictures = walked.pictures()
    assert [time for time, _ in pictures] == pytest.approx(
        [number / WALK.rate for number in range(len(pictures))], abs=1e-3
    )
    original = list(WALK.frames())
    changed = np.abs(pictures[40][1].astype(int) - original[40]).max(axis=2) > 20
    (row,) = [row for row in walked.rows if row["frame"] == "40"]
    left, top, right, bottom = (round(float(row[name])) for name in ("x1", "y1", "x2", "y2"))
    for edge in (left, right):
        assert changed[top:bottom, edge - 2 : edge + 3].any(axis=1).mean() > 0.8
    assert changed.mean() < 0.3


def test_manifest(walked: AnalyticsOutcome) -> None:
    """It says what was done to which video by what."""
    manifest = walked.manifest
    assert manifest["parameters"]["dwell_s"] == 1.2
    assert manifest["parameters"]["telemetry"] == ["csv", "jsonl", "parquet"]
    assert manifest["source"]["codec"] == "h264"
    assert manifest["mock"] is False
    assert {"av", "numpy", "trackers"} <= set(manifest["libraries"])


def test_same_video_again(video: Path, walked: AnalyticsOutcome, tmp_path: Path) -> None:
    """The same video and parameters give the same telemetry and results."""
    again = analyse(video, tmp_path / "run", zones=[GATE, FIELD], dwell_s=1.2)
    for name in ("telemetry.jsonl", "telemetry.csv", "analytics.json", "annotated.mp4"):
        assert again.path(name).read_bytes() == walked.path(name).read_bytes(), name


def test_zones_under_their_former_name(
    video: Path, walked: AnalyticsOutcome, tmp_path: Path
) -> None:
    """`zones_json` takes the JSON text of the same zones."""
    run = analyse(video, tmp_path / "run", zones_json=json.dumps([GATE, FIELD]), dwell_s=1.2)
    assert run.analytics["zones"] == walked.analytics["zones"]


@pytest.mark.parametrize(
    "zones",
    [
        "not json",
        '[{"name": "a", "x1": NaN, "y1": 0, "x2": 9, "y2": 9}]',
        [{"name": "a", "x1": 0, "y1": 0, "x2": 0, "y2": 9}],
        [{"name": "far", "x1": 0, "y1": 0, "x2": 5000, "y2": 9}],
        [{"name": "bow", "points": [[0, 0], [90, 90], [90, 0], [0, 90]]}],
        [GATE, GATE],
        [3],
        ["[" * 5000],
    ],
)
def test_impossible_zones(zones: object, video: Path, tmp_path: Path) -> None:
    """A zone that cannot be meant fails the job for good, by its own code."""
    with pytest.raises(PipelineError) as caught:
        analyse(video, tmp_path / "run", zones=zones)
    assert caught.value.code == "INVALID_ZONE"
    assert caught.value.permanent


def test_catalog_and_pipeline_agree() -> None:
    """The same names, defaults and choices, and every limit of the catalog is the pipeline's."""
    given = {"video_path": "uploads/video"}
    mine = read_parameters(given).model_dump(mode="json")
    assert set(mine) == set(SCHEMA["properties"])
    for name, default in default_parameters(SCHEMA).items():
        mine_here = sorted(mine[name]) if isinstance(default, list) else mine[name]
        assert mine_here == (sorted(default) if isinstance(default, list) else default), name
    for name, rules in SCHEMA["properties"].items():
        if name in {"end_s", "start_s", "dwell_s", "confidence"}:
            continue
        for end, beyond in (("minimum", -1), ("maximum", 1)):
            if end in rules:
                assert read_parameters({**given, name: rules[end]})
                with pytest.raises(PipelineError):
                    read_parameters({**given, name: rules[end] + beyond})
        for value in rules.get("enum", []):
            assert read_parameters({**given, name: value})
        for value in rules.get("items", {}).get("enum", []):
            assert read_parameters({**given, name: [value]})
    for example in SCHEMA["examples"]:
        assert read_parameters(example)
        jsonschema.validate(example, SCHEMA)


@pytest.mark.parametrize(
    "parameters",
    [
        {"fps": 61},
        {"fps": 0.0001},
        {"detector": "magic"},
        {"tracker": "magic"},
        {"confidence": 0},
        {"classes": ["unicorn"]},
        {"classes": []},
        {"ocr_interval": 0},
        {"max_width": 10},
        {"start_s": 5, "end_s": 5},
        {"start_s": 100},
        {"telemetry": ["xml"]},
        {"zones": [], "zones_json": "[]"},
        {"unknown": 1},
    ],
)
def test_impossible_parameters(parameters: dict, video: Path, tmp_path: Path) -> None:
    """What cannot be meant is refused for good."""
    with pytest.raises(PipelineError) as caught:
        analyse(video, tmp_path / "run", **parameters)
    assert caught.value.code == "INVALID_PARAMETERS"
    assert caught.value.permanent


def test_mock_mode_says_so_everywhere(video: Path, tmp_path: Path) -> None:
    """Boxes that mean nothing are marked in every file, every event and every picture."""
    run = analyse(
        video, tmp_path / "a", mock_mode=True, seed=5, zones=[FIELD], telemetry=["jsonl", "csv"]
    )
    assert run.analytics["mock"] is True
    assert run.manifest["mock"] is True
    assert {row["mock"] for row in run.rows} == {"true"}
    assert {line["mock"] for line in run.lines} == {True}
    assert run.events
    assert {data["mock"] for _, data in run.events} == {True}
    with Image.open(run.path("heat_map.png")) as picture:
        assert picture.text["mock"] == "true"
    assert b"mock: true" in run.path("annotated.mp4").read_bytes()
    warning = run.pictures()[10][1][-14:, 120:200].astype(int)
    assert (warning[..., 2] - warning[..., 0]).max() > 100  # red, where the street is grey


def test_seeds_draw_boxes(video: Path, tmp_path: Path) -> None:
    """The same seed makes the same boxes, another one others."""
    one, same, other = (
        analyse(video, tmp_path / str(number), mock_mode=True, seed=seed, previews=[])
        for number, seed in enumerate((1, 1, 2))
    )
    assert one.lines == same.lines != other.lines


def test_fewer_frames(video: Path, tmp_path: Path) -> None:
    """`fps`, a part and a number of frames: the annotated video begins at 0 and keeps its times."""
    run = analyse(video, tmp_path / "run", fps=5, start_s=1, end_s=3, max_frames=6, mock_mode=True)
    assert [line["time_s"] for line in run.lines[:-1]] == [1, 1.2, 1.4, 1.6, 1.8, 2]
    assert [time for time, _ in run.pictures()] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_wide_video_is_scaled_and_told_in_its_own_pixels(tmp_path: Path) -> None:
    """Analysed at a smaller width, zones and boxes are still in pixels of the video."""
    wide = Walk(size=(640, 360))
    video = wide.write(tmp_path / "wide.mp4")
    gate = {name: value * 2 if name != "name" else value for name, value in GATE.items()}
    run = analyse(video, tmp_path / "run", max_width=320, zones=[gate])
    sizes = run.analytics["video"]
    assert (sizes["width"], sizes["annotated_width"], sizes["annotated_height"]) == (640, 320, 180)
    assert run.pictures()[0][1].shape == (180, 320, 3)
    assert [data["zone"] for data in run.of_type("zone.enter")] == ["gate"]
    last = run.rows[-1]
    assert (float(last["x1"]) + float(last["x2"])) / 2 == pytest.approx(
        wide.foot(float(last["time_s"]))[0], abs=12
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rotated", (160, 96)),
        ("h264-444-odd", None),
        ("hevc-10-bit", None),
        ("vfr", None),
        ("h264-in-avi", None),
        ("one-frame", None),
    ],
)
def test_odd_videos(name: str, shape: tuple[int, int] | None, tmp_path: Path) -> None:
    """Whatever the video is like, all frames are there, upright and even."""
    clip = CLIPS[name]
    video = clip.write(tmp_path / f"clip.{clip.suffix}")
    run = analyse(video, tmp_path / "run", mock_mode=True)
    pictures = run.pictures()
    assert len(pictures) == run.metrics["frame_count"] > 0
    times = [time for time, _ in pictures]
    assert times == sorted(set(times))
    assert pictures[0][1].shape[0] % 2 == pictures[0][1].shape[1] % 2 == 0
    if shape:
        assert pictures[0][1].shape[:2] == shape


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_every_kind_of_video(name: str, tmp_path: Path) -> None:
    """What `video-frames` takes is taken here too, with as many frames."""
    clip = CLIPS[name]
    video = clip.write(tmp_path / f"clip.{clip.suffix}")
    run = analyse(video, tmp_path / "run", fps=2, mock_mode=True, previews=[], telemetry=[])
    assert len(run.pictures()) == run.metrics["frame_count"] > 0


def test_tiny_pictures(tmp_path: Path) -> None:
    """The smallest pictures get through, with nothing in them."""
    video = Clip("mpeg4", size=(2, 2), frames=10).write(tmp_path / "clip.mp4")
    run = analyse(video, tmp_path / "run")
    assert run.metrics["frame_count"] == 10


def test_texts_are_read_once(tmp_path: Path) -> None:
    """A sign is one event, however often it is looked at, and stands in the results."""
    video = Walk(size=(640, 360), sign="EXIT GATE 12").write(tmp_path / "sign.mp4")
    run = analyse(video, tmp_path / "run", ocr=True, ocr_interval=10)
    assert [data["text"] for data in run.of_type("ocr.text")] == ["EXIT GATE 12"]
    (text,) = run.analytics["texts"]["list"]
    left, top, right, bottom = text["box"]
    assert left == pytest.approx(64, abs=15)
    assert 40 < top < bottom < 110
    assert right > 200


def test_events_are_bounded(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each type only so many are told, and the results say that there were more."""
    monkeypatch.setenv("ANALYTICS_MAX_EVENTS", "1")
    run = analyse(video, tmp_path / "run", zones=[GATE, FIELD])
    assert len(run.of_type("zone.enter")) == 1
    events = run.analytics["events"]
    assert (events["counts"]["zone.enter"], events["told"]["zone.enter"]) == (2, 1)
    assert events["is_cut"] is True


def test_the_platform_takes_all_events() -> None:
    """As many events as are told by default are kept by the platform."""
    assert AnalyticsSettings.max_events * len(EventType) <= MOST_EVENTS


def test_unwritable_results_are_tried_again(video: Path, tmp_path: Path) -> None:
    """Where the disk refuses, the failure passes."""
    (tmp_path / "run" / "output" / "annotated.mp4").mkdir(parents=True)
    with pytest.raises(PipelineError) as caught:
        analyse(video, tmp_path / "run")
    assert caught.value.code == "OUTPUT_WRITE_ERROR"
    assert not caught.value.permanent


def test_cancelled_in_the_middle(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is told to stop at a report lets that through and leaves no decoder behind."""

    def stop(self, percent: float, stage: str, message: str | None = None) -> None:
        if stage == "analyse":
            raise RunCancelledError

    monkeypatch.setattr("inflate_runs.Recorder.progress", stop)
    with pytest.raises(RunCancelledError):
        analyse(video, tmp_path / "run")
    children = Path("/proc/self/task").glob("*/children")
    names = [
        Path(f"/proc/{pid}/cmdline").read_bytes()
        for file in children
        for pid in file.read_text().split()
    ]
    assert not [name for name in names if b"analytics.decoder" in name]


def test_reasons_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is missing or malformed is told in sentences."""
    pipeline = load_pipeline("video-analytics")
    assert pipeline.unavailable_reasons() == []
    monkeypatch.setenv("YOLO_MODEL_PATH", str(tmp_path / "none.onnx"))
    assert pipeline.unavailable_reasons() == [
        "YOLO_MODEL_PATH must name an ONNX file that is there."
    ]
    monkeypatch.delenv("YOLO_MODEL_PATH")
    monkeypatch.setattr(
        "worker_vm.analytics.settings.find_spec", lambda name: None if name == "trackers" else name
    )
    (reason,) = pipeline.unavailable_reasons()
    assert reason == (
        "The Python package 'trackers' is not installed"
        " (poetry install --only worker,video,analytics)."
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DETECTION_CONFIDENCE_THRESHOLD", "1.5"),
        ("DETECTION_CONFIDENCE_THRESHOLD", "much"),
        ("ANALYTICS_X264_PRESET", "warp"),
        ("ANALYTICS_MAX_FRAMES", "-1"),
    ],
)
def test_malformed_settings(name: str, value: str) -> None:
    """A malformed setting is named."""
    with pytest.raises(ValueError, match=name):
        read_settings({name: value})


def test_looking_is_cheap() -> None:
    """Asking whether the pipeline can run imports nothing heavy."""
    code = (
        "import sys\n"
        "from worker_vm.pipelines.registry import load_pipeline\n"
        "load_pipeline('video-analytics').unavailable_reasons()\n"
        "heavy = {'av', 'cv2', 'numpy', 'onnxruntime', 'trackers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
