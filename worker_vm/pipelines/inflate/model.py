"""From a cut-out to a textured mesh: the steps between decoding and files."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worker_vm.cutout import Subject
from worker_vm.gltf import Mesh
from worker_vm.pipelines.inflate import flatness, membrane, surface, texture
from worker_vm.pipelines.inflate.back import back_colours
from worker_vm.pipelines.inflate.balloon import Balloon
from worker_vm.pipelines.inflate.base import flattened
from worker_vm.pipelines.inflate.heights import Heights
from worker_vm.pipelines.inflate.layers import Body, layered
from worker_vm.pipelines.inflate.parameters import Parameters
from worker_vm.pipelines.inflate.relief import relief
from worker_vm.pipelines.inflate.symmetry import Mirror, symmetrised

ROUGHNESS = 0.68


@dataclass(frozen=True)
class Shape:
    """The geometry of a run, and what the texture needs of it."""

    balloon: Balloon
    mesh: Mesh
    layout: texture.Layout
    front: NDArray[np.uint8]
    alpha: NDArray[np.float32]
    profile: Literal["round", "flat"]
    mirror: Mirror
    axis: float
    """where the mirror stands, in fractions of the picture's width"""


def make_shape(subject: Subject, parameters: Parameters) -> Shape:
    """Inflate a cut-out.

    Raises:
        PipelineError: SUBJECT_TOO_THIN, LAYER_MISSED, MESH_FAILED or BASE_TOO_THIN.
    """
    outline = membrane.silhouette(subject.alpha)
    front = texture.front_colours(subject)
    edge = flatness.edge_width(front, outline, parameters.profile)
    outline, mirror = symmetrised(outline, parameters.symmetry)
    operator = membrane.laplacian(outline)

    def film(shape: membrane.Silhouette, operator: membrane.Operator) -> membrane.Array:
        return membrane.plate(shape, edge) if edge else membrane.inflate(shape, operator)

    heights = Heights(
        u=film(outline, operator),
        stretch=(flatness.DEPTH if edge else surface.THICKNESS) * parameters.thickness,
        bumps=relief(front, outline, operator, parameters.relief, mirror),
    )
    body = Body(outline, heights, front, subject.window, film)
    balloon = surface.build(heights, parameters.vertex_count, layered(body, parameters.layers))
    balloon = flattened(balloon, parameters.flat_base)
    layout = texture.lay_out(
        subject.alpha, parameters.texture_resolution, parameters.foreground_ratio
    )
    mesh = _with_seam(balloon, outline, layout)
    profile: Literal["round", "flat"] = "flat" if edge else "round"
    axis = _in_picture(mirror.twice / 2.0, outline, subject)
    return Shape(balloon, mesh, layout, front, subject.alpha, profile, mirror, axis)


def _in_picture(column: float, outline: membrane.Silhouette, subject: Subject) -> float:
    """Map a column of the grid to a fraction of the picture's width."""
    x, _ = outline.to_pixels(np.array(column), np.array(0.0))
    left, _, right, _ = subject.window
    return float(left + (x + 0.5) / subject.alpha.shape[1] * (right - left))


def make_texture(shape: Shape, parameters: Parameters) -> NDArray[np.uint8]:
    """Paint the texture (side, side, 3)."""
    back = back_colours(shape.front, shape.alpha, parameters.back)
    return texture.paint(shape.layout, shape.front, back)


def _with_seam(balloon: Balloon, outline: membrane.Silhouette, layout: texture.Layout) -> Mesh:
    """Scale to unit size with +Y up, and give each half its own points along the rim."""
    x, y = outline.to_pixels(balloon.points[:, 0], balloon.points[:, 1])
    z = balloon.points[:, 2] * (outline.scale[0] + outline.scale[1]) / 2.0
    points = np.stack([x, -y, z], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2.0) / (high - low).max()
    normals = balloon.normals * (1.0, -1.0, 1.0)
    parts, faces, start = [], [], 0
    for side, chart, flat in (
        (balloon.front, layout.front, False),
        (balloon.back, layout.back, False),
        (balloon.base, layout.back, True),
        (balloon.layers, layout.front, False),
    ):
        used, renamed = np.unique(side, return_inverse=True)
        uvs = chart.uvs(x[used], y[used], layout.side)
        down = np.tile((0.0, -1.0, 0.0), (len(used), 1))
        parts.append((points[used], down if flat else normals[used], uvs))
        faces.append(renamed.reshape(side.shape) + start)
        start += len(used)
    joined = [np.vstack(columns).astype(np.float32) for columns in zip(*parts, strict=True)]
    return Mesh(joined[0], joined[1], joined[2], np.vstack(faces).astype(np.uint32))
