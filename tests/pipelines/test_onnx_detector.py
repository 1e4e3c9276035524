"""Networks of the operator's: every head, where boxes lie, names, and files that are none."""

from pathlib import Path

import numpy as np
import pytest
from analytics_runs import analyse
from onnx import TensorProto
from onnx_networks import write_network
from walks import Walk

from worker_vm.analytics.onnx_detector import Network, NetworkError, OnnxDetector, Placement
from worker_vm.analytics.onnx_heads import Head, HeadError, Kind, find_head
from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.registry import load_pipeline

HEADS = {
    "yolov8": Kind.YOLO8,
    "yolov5": Kind.YOLO5,
    "end-to-end": Kind.END_TO_END,
    "rf-detr": Kind.DETR,
    "detr": Kind.DETR,
}


def picture(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """Black, with a white rectangle."""
    drawn = np.zeros((size[1], size[0], 3), np.uint8)
    left, top, right, bottom = box
    drawn[top:bottom, left:right] = 255
    return drawn


@pytest.mark.parametrize("head", HEADS)
def test_heads(head: str, tmp_path: Path) -> None:
    """Each head is recognised and read: one thing, at its place, once, by its name."""
    network = Network(write_network(tmp_path / "net.onnx", head), 1)
    assert network.head.kind is HEADS[head]
    found = network.detect(picture((192, 128), (20, 30, 80, 70)), 0.5)
    assert found.xyxy == pytest.approx(np.array([[20, 30, 80, 70]]), abs=1e-4)
    assert found.confidence[0] == pytest.approx(0.965 if head == "detr" else 0.9, abs=0.01)
    assert [network.names[number] for number in found.class_id] == ["dog"]
    assert network.detect(picture((192, 128), (20, 30, 80, 70)), 0.98).xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((192, 64), (20, 30, 80, 50)),  # bars above and below
        ((48, 128), (10, 30, 40, 70)),  # bars on both sides
        ((96, 64), (0, 0, 96, 64)),  # all of it
        ((96, 64), (1, 1, 9, 5)),
    ],
)
def test_letterbox_is_undone_exactly(
    size: tuple[int, int], box: tuple[int, int, int, int], tmp_path: Path
) -> None:
    """A box in the network's input is the right one in the picture, wherever the bars are."""
    network = Network(write_network(tmp_path / "net.onnx", "yolov8"), 1)
    found = network.detect(picture(size, box), 0.5)
    assert found.xyxy.tolist() == [list(box)]


@pytest.mark.parametrize("size", [(1280, 720), (719, 1281), (333, 77), (3, 1000), (1, 1)])
def test_any_shape_fits(size: tuple[int, int]) -> None:
    """A picture of any shape lies inside of the input, and its corners come back."""
    place = Placement.of(size, (640, 640), keep_shape=True)
    assert 0 <= place.left <= place.left + place.width <= 640
    assert 0 <= place.top <= place.top + place.height <= 640
    corners = np.array(
        [[place.left, place.top, place.left + place.width, place.top + place.height]], np.float32
    )
    assert place.undo(corners, size) == pytest.approx(np.array([[0, 0, *size]]), rel=1e-5)


def test_half_precision(tmp_path: Path) -> None:
    """A network of 16-bit floats is fed these."""
    path = write_network(tmp_path / "net.onnx", "yolov8", kind=TensorProto.FLOAT16)
    found = Network(path, 1).detect(picture((96, 64), (10, 20, 30, 40)), 0.5)
    assert found.xyxy.tolist() == [[10, 20, 30, 40]]


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ("{0: 'cat', 1: 'dog'}", ["cat", "dog"]),
        ('["cat", "dog"]', ["cat", "dog"]),
        ('{"1": "dog", "0": "cat"}', ["cat", "dog"]),
        ("nonsense(", ["class 0", "class 1"]),
        ("{-1: 'x'}", ["class 0", "class 1"]),
        ("[]", ["class 0", "class 1"]),
        (None, ["class 0", "class 1"]),
    ],
)
def test_names(told: str | None, names: list[str], tmp_path: Path) -> None:
    """Class names come from the file, however they are written, or are numbers."""
    assert Network(write_network(tmp_path / "net.onnx", "yolov8", names=told), 1).names == names


def test_names_beside_the_file(tmp_path: Path) -> None:
    """A list of names beside the file serves a network that has none."""
    (tmp_path / "net.names").write_text("lorry\nbicycle\n")
    path = write_network(tmp_path / "net.onnx", "yolov8", names=None)
    assert Network(path, 1).names == ["lorry", "bicycle"]


@pytest.mark.parametrize(
    ("shapes", "names", "expected"),
    [
        ({"output0": (1, 84, 8400)}, 80, Head(Kind.YOLO8, ("output0",), 80)),
        ({"output0": (1, 84, 8400)}, None, Head(Kind.YOLO8, ("output0",), 80)),
        ({"output": (1, 25200, 85)}, 80, Head(Kind.YOLO5, ("output",), 80)),
        ({"output": (1, 25200, 6)}, 1, Head(Kind.YOLO5, ("output",), 1)),
        ({"output0": (1, 300, 6)}, 80, Head(Kind.END_TO_END, ("output0",), None)),
        (
            {"dets": (1, 300, 4), "labels": (1, 300, 91)},
            None,
            Head(Kind.DETR, ("dets", "labels"), 91),
        ),
        (
            {"logits": (1, 100, 92), "pred_boxes": (1, 100, 4)},
            None,
            Head(Kind.DETR, ("pred_boxes", "logits"), 91, has_background=True),
        ),
    ],
)
def test_shapes_of_real_networks(
    shapes: dict[str, tuple[int, ...]], names: int | None, expected: Head
) -> None:
    """What the usual exports look like is told apart."""
    assert find_head(shapes, names) == expected


@pytest.mark.parametrize(
    ("shapes", "names"),
    [
        ({}, None),
        ({"logits": (1, 1000)}, None),
        ({"output0": (1, 116, 8400)}, 80),  # segmentation: 32 numbers more
        ({"output0": (8, 84, 8400)}, 80),
        ({"dets": (1, 300, 4), "labels": (1, 200, 91)}, None),
    ],
)
def test_shapes_of_other_networks(shapes: dict[str, tuple[int, ...]], names: int | None) -> None:
    """What is none of them is refused, with what it looks like."""
    with pytest.raises(HeadError, match="outputs"):
        find_head(shapes, names)


def test_nonsense_is_left_out() -> None:
    """Boxes that are no numbers, or whose score is none, do not count."""
    table = np.zeros((1, 300, 6), np.float32)
    table[0, 0] = [0, 0, np.nan, 9, 0.9, 0]
    table[0, 1] = [0, 0, 9, 9, np.nan, 0]
    table[0, 2] = [0, 0, 9, 9, 0.8, np.nan]
    head = Head(Kind.END_TO_END, ("x",), None)
    boxes, scores, _ = head.read([table], (96, 64), 0.5)
    assert boxes.tolist() == [[0, 0, 9, 9]]
    assert scores == pytest.approx([0.8])


@pytest.mark.parametrize(
    "content", [b"", b"not a network", b"\x08\x08\x12\x07pytorch"], ids=["empty", "text", "head"]
)
def test_files_that_are_none(content: bytes, tmp_path: Path) -> None:
    """What cannot be loaded is refused with the file's name."""
    path = tmp_path / "yolo.onnx"
    path.write_bytes(content)
    with pytest.raises(NetworkError, match=r"yolo\.onnx"):
        Network(path, 1)


def test_a_network_that_does_something_else(tmp_path: Path) -> None:
    """A classifier is refused, with what its outputs are."""
    with pytest.raises(NetworkError, match="scores"):
        Network(write_network(tmp_path / "net.onnx", "classifier"), 1)


@pytest.fixture
def white_figure(tmp_path: Path) -> Path:
    """A video in which a white figure walks."""
    return Walk(colour=(255, 255, 255)).write(tmp_path / "walk.mp4")


def test_in_the_pipeline(
    white_figure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's network finds and names what walks through the video."""
    path = write_network(tmp_path / "net.onnx", "yolov8", size=(320, 192))
    monkeypatch.setenv("YOLO_MODEL_PATH", str(path))
    run = analyse(white_figure, tmp_path / "run", detector="onnx", classes=["dog"])
    (track,) = run.analytics["tracks"]["list"]
    assert track["class"] == "dog"
    assert run.analytics["tracks"]["by_class"] == {"dog": 1}
    last = run.rows[-1]
    foot = (float(last["x1"]) + float(last["x2"])) / 2, float(last["y2"])
    assert foot == pytest.approx(Walk().foot(float(last["time_s"])), abs=4)
    none = analyse(white_figure, tmp_path / "cats", detector="onnx", classes=["cat"])
    assert none.analytics["tracks"]["count"] == 0
    sure = analyse(white_figure, tmp_path / "sure", detector="onnx", confidence=0.95)
    assert sure.analytics["tracks"]["count"] == 0


def test_without_a_network(white_figure: Path, tmp_path: Path) -> None:
    """Where the operator has none, a job that asks for it fails for good and says what to do."""
    with pytest.raises(PipelineError, match="YOLO_MODEL_PATH") as caught:
        analyse(white_figure, tmp_path / "run", detector="onnx")
    assert caught.value.code == "DETECTOR_UNAVAILABLE"
    assert caught.value.permanent


def test_with_a_broken_network(
    white_figure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that need it say what is wrong; others go on without."""
    path = tmp_path / "net.onnx"
    path.write_bytes(b"nonsense")
    monkeypatch.setenv("YOLO_MODEL_PATH", str(path))
    pipeline = load_pipeline("video-analytics")()
    pipeline.setup()
    with pytest.raises(PipelineError, match=r"net\.onnx") as caught:
        analyse(white_figure, tmp_path / "a", pipeline=pipeline, detector="onnx")
    assert caught.value.code == "DETECTOR_UNAVAILABLE"
    mock = analyse(white_figure, tmp_path / "b", pipeline=pipeline, mock_mode=True)
    assert mock.metrics["track_count"] > 0


def test_one_network_serves_many_videos(tmp_path: Path) -> None:
    """Detectors of several videos share what is loaded."""
    network = Network(write_network(tmp_path / "net.onnx", "yolov8"), 1)
    detectors = [OnnxDetector(network, 0.5) for _ in range(2)]
    shown = picture((96, 64), (10, 20, 30, 40))
    first, second = (detector.detect(shown, 0, 0.0) for detector in detectors)
    assert first.xyxy.tolist() == second.xyxy.tolist()
