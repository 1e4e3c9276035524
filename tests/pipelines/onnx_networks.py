"""Small networks that find the white rectangle in a picture, with every kind of head."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS = 100
SCORES = (0.1, 0.9)
"""Of the classes cat and dog."""
NAMES = "{0: 'cat', 1: 'dog'}"
_TO_CENTRE = np.array(
    [[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32
)


class _Graph:
    """Nodes and constants, put together one after the other."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        """A node; the name of its output."""
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        """A constant; its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def edge(self, cover: str, *, last: bool) -> str:
        """Where a row of covered pixels begins, or ends, as [1, 1]."""
        place = self.add("ArgMax", cover, axis=1, keepdims=1, select_last_index=int(last))
        place = self.add("Cast", place, to=TensorProto.FLOAT)
        return self.add("Add", place, self.constant(np.array([[float(last)]], np.float32)))

    def rows(self, row: str, length: int, *, again: str | None = None) -> str:
        """One row, perhaps another one, and empty ones: [1, ROWS, length]."""
        shape = self.constant(np.array([1, 1, length]))
        real = [self.add("Reshape", part, shape) for part in (row, again) if part]
        empty = self.constant(np.zeros((1, ROWS - len(real), length), np.float32))
        return self.add("Concat", *real, empty, axis=1)


class _Finder(_Graph):
    """A graph that finds the rectangle of bright pixels in `images`.

    Args:
        size: width and height of the input.
        brightest: from which mean of a pixel's channels on it is bright.
    """

    def __init__(self, size: tuple[int, int], brightest: float) -> None:
        super().__init__()
        picture = self.add("Cast", "images", to=TensorProto.FLOAT)
        grey = self.add("ReduceMean", picture, axes=[1], keepdims=0)
        bright = self.add("Greater", grey, self.constant(np.array(brightest, np.float32)))
        cover = self.add("Cast", bright, to=TensorProto.FLOAT)
        columns = self.add("ReduceMax", cover, axes=[1], keepdims=0)
        lines = self.add("ReduceMax", cover, axes=[2], keepdims=0)
        edges = [
            self.edge(cover, last=last) for last in (False, True) for cover in (columns, lines)
        ]
        self.corners = self.add("Concat", *edges, axis=1)
        self.centred = self.add("MatMul", self.corners, self.constant(_TO_CENTRE))
        self.shares = self.add(
            "Div", self.centred, self.constant(np.array([[*size] * 2], np.float32))
        )
        self.nearby = self.add(
            "Add", self.centred, self.constant(np.array([[1, 0, 1, 0]], np.float32))
        )

    def scored(self, box: str, *scores: float) -> str:
        """A box with its scores."""
        return self.add("Concat", box, self.constant(np.array([scores], np.float32)), axis=1)


def _yolo8(graph: _Finder) -> dict[str, str]:
    again = graph.scored(graph.nearby, 0.0, 0.8)
    rows = graph.rows(graph.scored(graph.centred, *SCORES), 6, again=again)
    return {"output0": graph.add("Transpose", rows, perm=[0, 2, 1])}


def _yolo5(graph: _Finder) -> dict[str, str]:
    again = graph.scored(graph.nearby, 0.9, 0.0, 0.8)
    return {"output0": graph.rows(graph.scored(graph.centred, 1.0, *SCORES), 7, again=again)}


def _end_to_end(graph: _Finder) -> dict[str, str]:
    return {"output0": graph.rows(graph.scored(graph.corners, 0.9, 1.0), 6)}


def _rf_detr(graph: _Finder) -> dict[str, str]:
    logits = np.full((1, ROWS, 2), -20, np.float32)
    logits[0, 0] = [np.log(score / (1 - score)) for score in SCORES]
    return {"dets": graph.rows(graph.shares, 4), "labels": graph.constant(logits)}


def _detr(graph: _Finder) -> dict[str, str]:
    logits = np.zeros((1, ROWS, 3), np.float32)
    logits[0, :, 2] = 9  # nothing
    logits[0, 0] = [0, 4, 0]
    return {"pred_boxes": graph.rows(graph.shares, 4), "logits": graph.constant(logits)}


def _classifier(graph: _Finder) -> dict[str, str]:
    return {"scores": graph.add("Flatten", graph.corners)}


_HEADS = {
    "yolov8": _yolo8,
    "yolov5": _yolo5,
    "end-to-end": _end_to_end,
    "rf-detr": _rf_detr,
    "detr": _detr,
    "classifier": _classifier,
}


def write_network(
    path: Path,
    head: str,
    *,
    size: tuple[int, int] = (96, 64),
    names: str | None = NAMES,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Write a network; `head` is yolov8, yolov5, end-to-end, rf-detr, detr or classifier."""
    # DETRs are shown pictures by mean and deviation.
    graph = _Finder(size, 2.0 if "detr" in head else 0.9)
    outputs = _HEADS[head](graph)
    for name, made in outputs.items():
        graph.nodes.append(helper.make_node("Identity", [made], [name]))
    described = helper.make_graph(
        graph.nodes,
        head,
        [helper.make_tensor_value_info("images", kind, [1, 3, size[1], size[0]])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        graph.constants,
    )
    opset = helper.make_opsetid("", 13)
    model = helper.make_model(described, opset_imports=[opset], ir_version=8)
    if names is not None:
        helper.set_model_props(model, {"names": names})
    onnx.save(model, str(path))
    return path
