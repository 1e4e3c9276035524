"""Detection by a network of the operator's, an ONNX file."""

import ast
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from worker_vm.analytics.boxes import Detections, Frame
from worker_vm.analytics.onnx_heads import Head, HeadError, Kind, find_head

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_USUAL_SIDE = 640
_LARGEST_SIDE = 4096
_GREY = (114, 114, 114)
"""What YOLO networks are trained to see around a picture."""
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255
_MOST_NAMES = 10_000
_LONGEST_NAMES = 1 << 20
_LONGEST_NAME = 80


class NetworkError(Exception):
    """A file is no network that can detect; the message says why and what to do."""


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a network's input, in whole pixels."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def of(
        cls, picture: tuple[int, int], room: tuple[int, int], *, keep_shape: bool
    ) -> "Placement":
        """Fit a picture (width, height) into the input: in its middle, or over all of it."""
        if not keep_shape:
            return cls(0, 0, *room)
        scale = min(room[0] / picture[0], room[1] / picture[1])
        width = min(max(round(picture[0] * scale), 1), room[0])
        height = min(max(round(picture[1] * scale), 1), room[1])
        return cls((room[0] - width) // 2, (room[1] - height) // 2, width, height)

    def undo(self, boxes: NDArray[np.float32], picture: tuple[int, int]) -> NDArray[np.float32]:
        """Boxes of the input as boxes of the picture, cut off at its rim."""
        corner = np.array([self.left, self.top] * 2, np.float32)
        scale = np.array([picture[0] / self.width, picture[1] / self.height] * 2, np.float32)
        rim = np.array([*picture, *picture], np.float32)
        placed: NDArray[np.float32] = np.clip((boxes - corner) * scale, 0, rim)
        return placed


class Network:
    """A network that is loaded, for the detectors of many videos.

    Args:
        path: the ONNX file.
        threads: that it may use on the CPU.

    Raises:
        NetworkError: it cannot be used.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._session = _open(path, threads)
        self.provider: str = self._session.get_providers()[0]
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:  # noqa: PLR2004
            raise NetworkError(
                f"{path.name} is no network for pictures: it must have one input [1, 3, height,"
                " width] of floats."
            )
        self._input = inputs[0].name
        self._type = _TYPES[inputs[0].type]
        self.size = _input_size(inputs[0].shape)
        """Width and height of its input."""
        names = _names(self._session, path)
        try:
            self.head: Head = find_head(self._output_shapes(path), len(names) if names else None)
        except HeadError as error:
            raise NetworkError(f"{path.name} cannot be used: {error}.") from error
        count = self.head.classes or len(names or ()) or _MOST_NAMES
        self.names: Sequence[str] = names or [f"class {number}" for number in range(count)]

    def detect(self, picture: Frame, least: float) -> Detections:
        """Everything that the network sees in a picture with at least that score."""
        is_detr = self.head.kind is Kind.DETR
        size = picture.shape[1], picture.shape[0]
        place = Placement.of(size, self.size, keep_shape=not is_detr)
        fed = self._prepared(picture, place, normalise=is_detr)
        values = self._session.run(list(self.head.outputs), {self._input: fed})
        boxes, scores, classes = self.head.read(values, self.size, least)
        boxes = place.undo(boxes, size)
        good = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
        good &= (classes >= 0) & (classes < len(self.names))
        return Detections(boxes[good], scores[good], classes[good])

    def _prepared(self, picture: Frame, place: Placement, *, normalise: bool) -> NDArray[Any]:
        canvas = np.full((self.size[1], self.size[0], 3), _GREY, np.uint8)
        inner = canvas[place.top : place.top + place.height, place.left : place.left + place.width]
        inner[:] = cv2.resize(picture, (place.width, place.height), interpolation=cv2.INTER_LINEAR)
        rgb: NDArray[Any] = canvas[..., ::-1].astype(np.float32)
        rgb = (rgb - _IMAGENET_MEAN) / _IMAGENET_DEVIATION if normalise else rgb / np.float32(255)
        return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None]).astype(self._type)

    def _output_shapes(self, path: Path) -> dict[str, tuple[int, ...]]:
        """By trying: files seldom tell them."""
        nothing = np.zeros((1, 3, self.size[1], self.size[0]), self._type)
        try:
            values = self._session.run(None, {self._input: nothing})
        except Exception as error:
            raise NetworkError(
                f"{path.name} cannot be run on pictures of {self.size[0]} x {self.size[1]}:"
                f" {_first_line(error)}."
            ) from error
        names = [output.name for output in self._session.get_outputs()]
        return {name: np.shape(value) for name, value in zip(names, values, strict=True)}


class OnnxDetector:
    """A network on one video.

    Args:
        network: that is loaded.
        least: scores below it are left out.
    """

    warm_up_frames = 0

    def __init__(self, network: Network, least: float) -> None:
        self._network = network
        self._least = least
        self.names: Sequence[str] = network.names

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """It has learnt before."""

    def detect(self, frame: Frame, index: int, time_s: float) -> Detections:  # noqa: ARG002
        """What the network sees."""
        return self._network.detect(frame, self._least)


def _open(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    there = onnxruntime.get_available_providers()
    providers = [name for name in _PROVIDERS if name in there]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise NetworkError(
            f"{path.name} is no ONNX network that can be loaded here: {_first_line(error)}."
        ) from error


def _input_size(shape: Sequence[Any]) -> tuple[int, int]:
    height, width = (
        side if isinstance(side, int) and 0 < side <= _LARGEST_SIDE else _USUAL_SIDE
        for side in shape[2:]
    )
    return width, height


def _names(session: Any, path: Path) -> list[str] | None:
    """Class names: from the file's metadata, or from a file `.names` or `.txt` beside it."""
    text = session.get_modelmeta().custom_metadata_map.get("names", "")
    names = _parsed_names(text)
    for suffix in (".names", ".txt"):
        beside = path.with_suffix(suffix)
        if names is None and beside.is_file() and beside.stat().st_size <= _LONGEST_NAMES:
            lines = beside.read_text(encoding="utf-8", errors="replace").splitlines()
            names = [line.strip() for line in lines if line.strip()] or None
    return None if names is None else [name[:_LONGEST_NAME] for name in names[:_MOST_NAMES]]


def _parsed_names(text: str) -> list[str] | None:
    """Names that are written as a dictionary or list, of Python (Ultralytics) or JSON."""
    found: Any = None
    if len(text) <= _LONGEST_NAMES:
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = json.loads(text)
        if found is None:
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                found = ast.literal_eval(text)
    if isinstance(found, list):
        return [str(name) for name in found] or None
    if not isinstance(found, dict):
        return None
    try:
        by_number = {int(number): str(name) for number, name in found.items()}
    except (TypeError, ValueError):
        return None
    if not by_number or not 0 <= min(by_number) <= max(by_number) < _MOST_NAMES:
        return None
    return [by_number.get(number, f"class {number}") for number in range(max(by_number) + 1)]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
