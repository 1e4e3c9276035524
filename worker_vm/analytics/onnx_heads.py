"""What a detection network's outputs mean, told apart by their names and shapes.

| head | outputs |
|---|---|
| YOLOv8, YOLO11 | [1, 4 + classes, boxes]: centre, size, a score for each class |
| YOLOv5 | [1, boxes, 5 + classes]: centre, size, whether it is anything, a score for each class |
| end to end (YOLO26, YOLOv10, exports with NMS) | [1, boxes, 6]: corners, score, class |
| DETR, RT-DETR, RF-DETR | [1, boxes, 4], [1, boxes, classes]: centre and size as shares, logits |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_BOX = 4
_END_TO_END = 6
_MOST_END_TO_END = 1000
"""Such heads give a few hundred boxes, others thousands."""
_SAME_THING = 0.6
"""Intersection over union from which on two boxes are of one thing (NMS)."""
_MOST_CANDIDATES = 3000
MOST_BOXES = 300


class HeadError(ValueError):
    """The outputs are none that are known; the message says what they are."""


class Kind(StrEnum):
    """Every head that is understood."""

    YOLO8 = "yolov8"
    YOLO5 = "yolov5"
    END_TO_END = "end-to-end"
    DETR = "detr"


@dataclass(frozen=True)
class Head:
    """How to read a network's outputs."""

    kind: Kind
    outputs: tuple[str, ...]
    """The names of the outputs that count; of DETR boxes, then logits."""
    classes: int | None
    """How many there are; None if the head does not tell."""
    has_background: bool = False
    """Whether the last logit of DETR says that there is nothing."""

    def read(
        self, values: Sequence[Array], size: tuple[int, int], least: float
    ) -> tuple[Array, Array, NDArray[np.int32]]:
        """Boxes [n, 4] (corners, pixels of the network's input), scores, classes; best first.

        Args:
            values: of `outputs`.
            size: width and height of the network's input.
            least: scores below it are left out.
        """
        read = _READERS[self.kind]
        boxes, scores, classes = read(self, [np.asarray(v, np.float32)[0] for v in values], size)
        good = (scores >= least) & np.isfinite(boxes).all(axis=1)
        boxes, scores, classes = boxes[good], scores[good], classes[good]
        order = np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES]
        boxes, scores, classes = boxes[order], scores[order], classes[order]
        if self.kind in {Kind.YOLO8, Kind.YOLO5}:
            kept = _suppressed(boxes, scores, classes, least)
            boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
        return boxes[:MOST_BOXES], scores[:MOST_BOXES], classes[:MOST_BOXES].astype(np.int32)


def find_head(shapes: Mapping[str, tuple[int, ...]], names: int | None) -> Head:
    """Tell which head a network has.

    Args:
        shapes: of its outputs, by name.
        names: how many class names are known.

    Raises:
        HeadError: it is none of those above.
    """
    detr = _find_detr(shapes, names)
    if detr is not None:
        return detr
    # Networks that also segment or estimate poses have more outputs behind the first.
    name, shape = next(iter(shapes.items()), ("", ()))
    if len(shape) == 3 and shape[0] == 1:  # noqa: PLR2004
        rows, columns = shape[1:]
        if columns == _END_TO_END and rows <= _MOST_END_TO_END:
            return Head(Kind.END_TO_END, (name,), None)
        if _BOX < rows < columns and names in {None, rows - _BOX}:
            return Head(Kind.YOLO8, (name,), rows - _BOX)
        if _BOX + 1 < columns < rows and names in {None, columns - _BOX - 1}:
            return Head(Kind.YOLO5, (name,), columns - _BOX - 1)
    told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    classes = "no class names" if names is None else f"{names} class names"
    raise HeadError(
        f"its outputs ({told}; {classes}) are none of YOLOv5, YOLOv8, YOLO11, an end-to-end YOLO,"
        " DETR, RT-DETR or RF-DETR for detection"
    )


def _find_detr(shapes: Mapping[str, tuple[int, ...]], names: int | None) -> Head | None:
    flat = {name: shape for name, shape in shapes.items() if len(shape) == 3 and shape[0] == 1}  # noqa: PLR2004
    boxes = next((n for n in ("dets", "pred_boxes") if flat.get(n, ())[-1:] == (_BOX,)), None)
    logits = next((n for n in ("labels", "logits", "pred_logits") if n in flat), None)
    if boxes is None or logits is None or flat[boxes][1] != flat[logits][1]:
        return None
    classes = flat[logits][2]
    # COCO's DETR has 91 classes and the background; others are trained without one.
    background = classes == names + 1 if names else classes == 92  # noqa: PLR2004
    return Head(Kind.DETR, (boxes, logits), classes - background, has_background=background)


_Read = tuple[Array, Array, NDArray[np.int64]]


def _read_yolo8(_head: Head, values: Sequence[Array], _size: tuple[int, int]) -> _Read:
    table = values[0].T
    return _best(_corners(table[:, :_BOX]), table[:, _BOX:])


def _read_yolo5(_head: Head, values: Sequence[Array], _size: tuple[int, int]) -> _Read:
    table = values[0]
    return _best(_corners(table[:, :_BOX]), table[:, _BOX + 1 :] * table[:, _BOX : _BOX + 1])


def _read_end_to_end(_head: Head, values: Sequence[Array], _size: tuple[int, int]) -> _Read:
    table = values[0]
    classes = np.nan_to_num(table[:, 5]).round().astype(np.int64)
    return table[:, :_BOX], table[:, 4], classes


def _read_detr(head: Head, values: Sequence[Array], size: tuple[int, int]) -> _Read:
    boxes, logits = values
    boxes = _corners(boxes) * np.array([*size, *size], np.float32)
    if head.has_background:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
    else:
        scores = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    return _best(boxes, scores)


_READERS = {
    Kind.YOLO8: _read_yolo8,
    Kind.YOLO5: _read_yolo5,
    Kind.END_TO_END: _read_end_to_end,
    Kind.DETR: _read_detr,
}


def _best(boxes: Array, scores: Array) -> _Read:
    """Each box with its likeliest class."""
    classes = scores.argmax(axis=1)
    return boxes, scores[np.arange(len(scores)), classes], classes


def _corners(boxes: Array) -> Array:
    """Corners of boxes that are given by centre and size."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.hstack([centre - half, centre + half])


def _suppressed(
    boxes: Array, scores: Array, classes: NDArray[np.int64], least: float
) -> NDArray[np.int64]:
    """Which boxes are left where several of one class are of one thing, best first."""
    if not len(boxes):
        return np.empty(0, np.int64)
    by_size = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    kept = cv2.dnn.NMSBoxesBatched(
        by_size.tolist(), scores.tolist(), classes.tolist(), least, _SAME_THING
    )
    return np.sort(np.asarray(kept, np.int64).ravel())
