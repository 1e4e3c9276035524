"""Pictures of the truth set, taken from the front by the worker's own renderer."""

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.truth.shapes import Truth
from worker_vm.rendering import kernels, studio
from worker_vm.rendering.camera import FIELD_OF_VIEW, Camera

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Background = Literal["alpha", "plain", "painted", "noisy"]
BACKGROUNDS: tuple[Background, ...] = get_args(Background)

_DISTANCE = 40.0  # a long lens: nearly orthographic, as the measures are
_SPAN = 1.6  # what the picture shows, in the object's units
_TEXELS = 256
_CARE = 0.006  # of the picture's side: how far a polygon drawn by hand is off
_OFF_CENTRE = 0.11  # of the picture's side: few photographers centre exactly


def take(truth: Truth, background: Background, size: int = 640) -> Bytes:
    """Return a picture (size, size, 4), sRGB; opaque unless the background is `alpha`.

    On the painted and the noisy background the subject stands off the middle.
    """
    corners, target = _seen(truth, background, size)
    scene = kernels.Scene(
        texture=_palette(truth),
        roughness=0.6,
        backdrop=studio.srgb_to_linear(_backdrop(background, size)),
        up=np.array([0, 1, 0], np.float32),
        distance=_DISTANCE,
        floor=-0.55,
    )
    rgb = np.empty((size, size, 3), np.uint8)
    kernels.shade(corners, target, scene, studio._TO_SRGB, rgb)  # noqa: SLF001
    if background == "noisy":
        grain = np.random.default_rng(2).normal(0, 9, rgb.shape)
        rgb = np.clip(rgb + grain, 0, 255).astype(np.uint8)
    alpha = np.full((size, size), 255.0)
    if background == "alpha":
        covered = (target.face_at != kernels.EMPTY).astype(np.float32)
        alpha = 255 * cv2.resize(covered, (size, size), interpolation=cv2.INTER_AREA)
    return np.dstack([rgb, np.rint(alpha).astype(np.uint8)])


def outlines(truth: Truth, background: Background, size: int = 640) -> list[list[list[float]]]:
    """Return what a careful person would draw about each limb of a picture, those in front last.

    Polygons of few corners, in fractions of the picture.
    """
    _, target = _seen(truth, background, size)
    seen = target.face_at != kernels.EMPTY
    part = np.full(seen.shape, -1)
    part[seen] = truth.part[target.face_at[seen]]
    limbs = [number for number, one in enumerate(truth.paint) if one.limb]
    nearest = {number: float(target.depth_at[part == number].max()) for number in limbs}
    drawn = []
    for number in sorted(limbs, key=lambda limb: nearest[limb]):
        lines, _ = cv2.findContours(
            (part == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        line = max(lines, key=cv2.contourArea)
        corners = cv2.approxPolyDP(line, _CARE * len(seen), closed=True)[:, 0]
        drawn.append(((corners + 0.5) / len(seen)).tolist())
    return drawn


def _seen(
    truth: Truth, background: Background, size: int
) -> tuple[kernels.Corners, kernels.Target]:
    """Rasterise the object, `kernels.SAMPLES` times finer than the picture."""
    aside = {"painted": (-1, 0.0), "noisy": (1.0, 0.7)}.get(background, (0.0, 0.0))
    shift = np.array([*aside, 0.0]) * _OFF_CENTRE * _SPAN
    camera = Camera(np.zeros(3), 0.0, 0.0, _DISTANCE)
    fine = size * kernels.SAMPLES
    # The renderer's field of view is fixed: take the middle of a very large picture.
    wide = fine * 2.0 * _DISTANCE * np.tan(FIELD_OF_VIEW / 2.0) / _SPAN
    corners = _corners(truth, camera, wide, fine, shift)
    target = kernels.Target(
        np.full((fine, fine), kernels.EMPTY, np.int32), np.zeros((fine, fine), np.float32)
    )
    kernels.rasterise(corners.points, corners.faces, target)
    return corners, target


def _corners(
    truth: Truth, camera: Camera, wide: float, fine: int, shift: NDArray[np.float64]
) -> kernels.Corners:
    """Every face gets corners of its own, so that parts keep their colours apart."""
    flat = truth.faces.ravel()
    points = truth.points[flat]
    part = np.repeat(truth.part, 3)
    along = np.array([one.along for one in truth.paint])[part]
    stripes = (points * along).sum(axis=1) + 100.0
    # A face's corners must not wrap around the texture on their own.
    start = np.repeat(np.floor(stripes.reshape(-1, 3).min(axis=1)), 3)
    uvs = np.stack([(part + 0.5) / len(truth.paint), (stripes - start) / 2.0], axis=1)
    seen = camera.project(points + shift, 1)
    x = (seen[:, 0] - 0.5) * wide + fine / 2
    y = (seen[:, 1] - 0.5) * wide + fine / 2
    return kernels.Corners(
        points=np.stack([x, y, seen[:, 2]], axis=1).astype(np.float32),
        seen=camera.to_view(points + shift).astype(np.float32),
        normals=(truth.normals[flat] @ camera.basis.T).astype(np.float32),
        uvs=uvs.astype(np.float32),
        faces=np.arange(len(flat), dtype=np.uint32).reshape(-1, 3),
    )


def _palette(truth: Truth) -> Floats:
    """A column per part; down it, two periods of its stripes."""
    phase = (np.arange(2 * _TEXELS) + 0.5) / _TEXELS % 1.0
    columns = []
    for part in truth.paint:
        second = part.stripe or part.colour
        column = np.where((phase < 0.5)[:, None], part.colour, second)
        columns.append(np.repeat(column[:, None], 8, axis=1))
    return studio.srgb_to_linear(np.concatenate(columns, axis=1).astype(np.uint8))


def _backdrop(kind: Background, size: int) -> Bytes:
    y, x = np.mgrid[:size, :size] / size
    if kind == "painted":
        return _room(x, y)
    if kind == "noisy":
        random = np.random.default_rng(7)
        blotches = cv2.GaussianBlur(random.normal(0, 1, (size, size, 3)), (0, 0), size / 40)
        colours = np.array([128, 134, 120]) + 16 * blotches / blotches.std()
        return np.clip(colours, 0, 255).astype(np.uint8)
    return np.full((size, size, 3), (226, 224, 218), np.uint8)


def _room(x: NDArray[np.float64], y: NDArray[np.float64]) -> Bytes:
    """A papered wall, a wooden floor and a soft shadow under the subject."""
    paper = 1.0 + 0.035 * np.sign(np.sin(x * 2 * np.pi * 9))
    wall = np.array([188, 204, 210]) * (paper * (1.05 - 0.15 * x))[..., None]
    floor = np.array([176, 160, 140]) * (0.9 + 0.3 * (y - 0.8))[..., None]
    room = np.where((y > 0.76)[..., None], floor, wall)
    shadow = np.exp(-(((x - 0.4) / 0.25) ** 2) - ((y - 0.85) / 0.03) ** 2)
    return np.clip(room * (1.0 - 0.35 * shadow)[..., None], 0, 255).astype(np.uint8)
