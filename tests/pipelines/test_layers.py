"""What lies in front of the body: outlined, and blown up by itself."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import trimesh
from drawn_pictures import ball, encode, scene
from inflate_runs import Outcome
from test_surface import blobs, joined

from bench.bench_truth import made_from
from bench.truth import measures, pictures, sets
from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.inflate import base, membrane, surface
from worker_vm.pipelines.inflate.balloon import Balloon
from worker_vm.pipelines.inflate.heights import Heights
from worker_vm.pipelines.inflate.layers import Body, layered

Inflate = Callable[..., Outcome]
Outlines = Sequence[Sequence[tuple[float, float]]]
ARM = [[0.1, 0.42], [0.62, 0.42], [0.62, 0.56], [0.1, 0.56]]
HAND = [[0.5, 0.36], [0.66, 0.36], [0.66, 0.62], [0.5, 0.62]]


def body_of(alpha: np.ndarray, seed: int = 0) -> Body:
    """A balloon without relief, in colours that hold no edges a layer could keep to."""
    shape = membrane.silhouette(alpha)
    u = membrane.inflate(shape, membrane.laplacian(shape))
    front = np.random.default_rng(seed).integers(0, 255, (*alpha.shape, 3)).astype(np.uint8)
    heights = Heights(u, surface.THICKNESS, np.zeros_like(u))
    return Body(shape, heights, front, (0.0, 0.0, 1.0, 1.0), membrane.inflate)


def disc() -> np.ndarray:
    """The alpha channel of a disc."""
    y, x = np.mgrid[:200, :200]
    return np.clip(80.5 - np.hypot(x - 99.5, y - 99.5), 0, 1).astype(np.float32)


def blown(body: Body, outlines: Outlines, vertex_count: int = -1) -> Balloon:
    """A balloon with layers."""
    return surface.build(body.heights, vertex_count, layered(body, outlines))


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Twice the area between vectors, seen from the front."""
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def front_at(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """How high the surface is above points of the plane, -inf beside it."""
    a, b, c = mesh.triangles.transpose(1, 0, 2)
    seen = np.abs(cross(b - a, c - a)) > 1e-9
    a, b, c = a[seen], b[seen], c[seen]
    area = cross(b - a, c - a)
    highest = np.full(len(points), -np.inf)
    for number, (x, y) in enumerate(points):
        away = np.array([x, y, 0.0]) - a
        v, w = cross(away, c - a) / area, cross(b - a, away) / area
        over = (v >= 0) & (w >= 0) & (v + w <= 1)
        z = a[:, 2] + v * (b[:, 2] - a[:, 2]) + w * (c[:, 2] - a[:, 2])
        highest[number] = z[over].max(initial=-np.inf)
    return highest


def random_outlines(seed: int) -> list[list[tuple[float, float]]]:
    """One to four jagged polygons, most of them over each other."""
    random = np.random.default_rng(seed)
    outlines = []
    for _ in range(random.integers(1, 5)):
        turn = np.sort(random.uniform(0, 2 * np.pi, random.integers(4, 12)))
        reach = random.uniform(0.1, 0.35, len(turn))
        x, y = 0.5 + reach * np.cos(turn), 0.5 + reach * np.sin(turn)
        outlines.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return outlines


@cache
def picture_of(name: str) -> tuple[np.ndarray, measures.Surface, list[list[list[float]]]]:
    truth = sets.make(name)
    whole = measures.Surface(truth.points, truth.normals, truth.faces, truth.colours)
    return pictures.take(truth, "alpha"), whole, pictures.outlines(truth, "alpha")


@pytest.mark.parametrize(("name", "less"), [("hugger", 0.8), ("crab", 0.9), ("drummer", 0.97)])
def test_limbs_come_nearer_to_the_truth(name: str, less: float) -> None:
    """With its limbs outlined, an object's normals, front and thickness are less wrong."""
    picture, truth, outlines = picture_of(name)
    without = measures.compare(made_from(picture), truth)
    with_them = measures.compare(made_from(picture, layers=outlines), truth)
    assert with_them.normal < less * without.normal
    assert with_them.front < less * without.front
    assert with_them.thickness < without.thickness
    assert with_them.iou == pytest.approx(without.iou, abs=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("vertex_count", [-1, 150, 1500])
def test_random_layers_close(seed: int, vertex_count: int) -> None:
    """Whatever the silhouette, the layers and the number of points, it is one closed body."""
    body = body_of(blobs(seed), seed)
    balloon = blown(body, random_outlines(seed), vertex_count)
    mesh = joined(balloon)
    assert len(balloon.layers)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.body_count == 1
    assert mesh.volume > 0
    assert np.linalg.norm(balloon.normals, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_layer_rises_half_its_width() -> None:
    """An arm lies half sunk in the body, as high above it as a limb of its width is deep."""
    body = body_of(disc())
    bare, armed = joined(blown(body, [])), joined(blown(body, [ARM]))
    cell = body.shape.from_pixels(np.array([70.0]), np.array([98.0]))
    place = np.column_stack([cell[0], -cell[1]])
    rise = front_at(armed, place) - front_at(bare, place)
    half_width = 0.07 * 200 / body.shape.scale[1]
    assert rise[0] == pytest.approx(surface.THICKNESS * half_width, rel=0.25)


def test_layers_only_add_in_front() -> None:
    """The back and the outline stay, and nothing in front gets lower."""
    body = body_of(disc())
    bare, armed = joined(blown(body, [])), joined(blown(body, [ARM]))
    assert armed.bounds[:, :2] == pytest.approx(bare.bounds[:, :2], abs=1e-3)
    assert armed.bounds[0, 2] == pytest.approx(bare.bounds[0, 2], abs=1e-3)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 20)] * 2), axis=-1).reshape(-1, 2) + 0.0123
    points = bare.bounds[0, :2] + grid * np.ptp(bare.bounds[:, :2], axis=0)
    before, after = front_at(bare, points), front_at(armed, points)
    there = np.isfinite(before)
    assert (after[there] > before[there] - 0.3).all()
    assert not np.isfinite(after[~there]).any()


def test_last_layer_is_in_front() -> None:
    """A hand drawn after the arm lies on the arm."""
    body = body_of(disc())
    cell = body.shape.from_pixels(np.array([116.0]), np.array([98.0]))
    place = np.column_stack([cell[0], -cell[1]])
    arm, both = (
        front_at(joined(blown(body, list(drawn))), place)[0] for drawn in ([ARM], [ARM, HAND])
    )
    assert both > arm + 5.0


@pytest.mark.parametrize("off", [-1.2, 1.2])
def test_outline_is_drawn_to_the_edge(off: float) -> None:
    """An outline drawn some pixels beside the arm's edges in the picture ends up nearer to them."""
    body = body_of(disc())
    colours = np.full((200, 200, 3), (120, 80, 60), np.uint8)
    colours[84:112] = (225, 180, 120)
    careless = [(x, y + off / 200) for x, y in ARM]
    (layer,) = layered(replace(body, front=colours), [careless])
    u = layer.u[:, layer.u.shape[1] // 2]
    first, last = np.flatnonzero(u > 0)[[0, -1]]
    ends = [first - u[first] / (u[first] - u[first - 1]), last + u[last] / (u[last] - u[last + 1])]
    _, y = body.shape.to_pixels(np.zeros(2), np.array(ends) + layer.corner[1])
    assert np.abs(y - (83.5, 111.5)).mean() < 0.7


def test_layer_beside_the_subject() -> None:
    """An outline off the subject is refused by number, with the way out."""
    with pytest.raises(PipelineError) as caught:
        layered(body_of(disc()), [ARM, [[0.0, 0.0], [0.1, 0.0], [0.05, 0.08]]])
    assert caught.value.code == "LAYER_MISSED"
    assert caught.value.permanent
    assert "layers.1" in caught.value.message


def test_flat_base_under_layers() -> None:
    """A base is cut through body and layers alike."""
    body = body_of(disc())
    upright = [[0.42, 0.5], [0.58, 0.5], [0.58, 0.95], [0.42, 0.95]]
    balloon = base.flattened(blown(body, [upright]), 0.1)
    assert joined(balloon).is_watertight
    assert len(balloon.layers)
    floor = balloon.points[balloon.faces][..., 1].max()  # y points down
    assert balloon.points[balloon.base][..., 1] == pytest.approx(floor, abs=1e-2)


@pytest.fixture(scope="module")
def armed(inflate: Inflate) -> Outcome:
    return inflate(encode(scene(ball)), **parameters())


def parameters() -> dict[str, Any]:
    return {"texture_resolution": 512, "layers": [ARM, HAND]}


def test_same_bytes(inflate: Inflate, armed: Outcome) -> None:
    """The same picture, layers and seed give the same GLB, byte by byte."""
    assert inflate(encode(scene(ball)), **parameters()).glb_hash == armed.glb_hash


def test_result_is_as_good(armed: Outcome, inflate: Inflate) -> None:
    """With layers the file is watertight and printable, and no texel is shown twice."""
    quality = json.loads(armed.path("quality.json").read_text())
    assert quality["printable"] is True, quality["not_printable_because"]
    assert quality["uv"]["overlap"] < 0.01
    assert quality["degenerate_triangles"] == 0
    assert armed.welded.is_watertight
    assert armed.manifest["parameters"]["layers"] == [ARM, HAND]
    assert armed.manifest["mesh"]["vertices"] == len(armed.welded.vertices)
    few = inflate(encode(scene(ball)), **parameters(), vertex_count=1000)
    assert few.manifest["mesh"]["vertices"] == pytest.approx(1000, rel=0.4)


def test_crease_is_sharp(armed: Outcome) -> None:
    """Where a layer meets the body, each has normals of its own."""
    mesh = armed.mesh
    order = np.lexsort(mesh.vertices.T)
    points, normals = mesh.vertices[order], mesh.vertex_normals[order]
    twins = (points[1:] == points[:-1]).all(axis=1) & (points[1:, 2] > 0.05)
    assert twins.sum() > 50
    across = (normals[1:] * normals[:-1]).sum(axis=1)[twins]
    assert np.median(across) < 0.8
