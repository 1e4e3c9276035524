"""Small networks that find the white rectangle in a picture, with every kind of head."""

from collections.abc import Sequence
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


def write_network(
    path: Path,
    head: str,
    *,
    size: tuple[int, int] = (96, 64),
    names: str | None = NAMES,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Write a network; `head` is yolov8, yolov5, end-to-end, rf-detr, detr or classifier."""
    width, height = size
    graph = _Graph()
    picture = graph.add("Cast", "images", to=TensorProto.FLOAT)
    grey = graph.add("ReduceMean", picture, axes=[1], keepdims=0)
    brightest = 2.0 if "detr" in head else 0.9  # DETRs see pictures by mean and deviation
    bright = graph.add("Greater", grey, graph.constant(np.array(brightest, np.float32)))
    cover = graph.add("Cast", bright, to=TensorProto.FLOAT)
    columns = graph.add("ReduceMax", cover, axes=[1], keepdims=0)
    lines = graph.add("ReduceMax", cover, axes=[2], keepdims=0)
    corners = graph.add(
        "Concat",
        graph.edge(columns, last=False),
        graph.edge(lines, last=False),
        graph.edge(columns, last=True),
        graph.edge(lines, last=True),
        axis=1,
    )
    centred = graph.add("MatMul", corners, graph.constant(_TO_CENTRE))
    shares = graph.add("Div", centred, graph.constant(np.array([[width, height] * 2], np.float32)))

    def with_scores(box: str, scores: Sequence[float]) -> str:
        return graph.add("Concat", box, graph.constant(np.array([scores], np.float32)), axis=1)

    logits = [float(np.log(score / (1 - score))) for score in SCORES]
    nearby = graph.add("Add", centred, graph.constant(np.array([[1, 0, 1, 0]], np.float32)))
    if head == "yolov8":
        again = with_scores(nearby, (0.0, 0.8))
        rows = graph.rows(with_scores(centred, SCORES), 6, again=again)
        outputs = {"output0": graph.add("Transpose", rows, perm=[0, 2, 1])}
    elif head == "yolov5":
        again = with_scores(nearby, (0.9, 0.0, 0.8))
        outputs = {"output0": graph.rows(with_scores(centred, (1.0, *SCORES)), 7, again=again)}
    elif head == "end-to-end":
        outputs = {"output0": graph.rows(with_scores(corners, (0.9, 1.0)), 6)}
    elif head == "rf-detr":
        low = graph.constant(np.full((1, ROWS, 2), -20, np.float32))
        row = graph.rows(graph.constant(np.array([logits], np.float32) + 20), 2)
        outputs = {"dets": graph.rows(shares, 4), "labels": graph.add("Add", row, low)}
    elif head == "detr":
        scores = graph.constant(np.array([[0.0, 4.0, 0.0]], np.float32))
        nothing = graph.constant(
            np.tile(np.array([0, 0, 9], np.float32), (1, ROWS, 1))
            * np.concatenate([np.zeros(1), np.ones(ROWS - 1)]).astype(np.float32)[None, :, None]
        )
        outputs = {
            "pred_boxes": graph.rows(shares, 4),
            "logits": graph.add("Add", graph.rows(scores, 3), nothing),
        }
    else:
        outputs = {"scores": graph.add("Flatten", corners)}
    for name, made in outputs.items():
        graph.nodes.append(helper.make_node("Identity", [made], [name]))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            head,
            [helper.make_tensor_value_info("images", kind, [1, 3, height, width])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    if names is not None:
        helper.set_model_props(model, {"names": names})
    onnx.save(model, str(path))
    return path
