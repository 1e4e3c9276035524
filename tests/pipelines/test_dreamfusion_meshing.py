"""From density to a closed mesh, and from the mesh to its texture."""

import math

import numpy as np
import pytest
import torch
import trimesh

from worker_vm import atlas
from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.dreamfusion.baking import bake
from worker_vm.pipelines.dreamfusion.field import Lattice
from worker_vm.pipelines.dreamfusion.meshing import Surface, extract

SIDE = 64
STEPS = torch.linspace(-1.0, 1.0, SIDE)
Z, Y, X = torch.meshgrid(STEPS, STEPS, STEPS, indexing="ij")


def ball(radius: float, x: float = 0.0) -> torch.Tensor:
    """Raw density of a ball: positive inside."""
    return 40.0 * (radius - ((X - x) ** 2 + Y**2 + Z**2).sqrt())


def lattice(raw: torch.Tensor) -> Lattice:
    values = torch.zeros(1, 4, SIDE, SIDE, SIDE)
    values[0, 0] = raw
    return Lattice(values)


def mesh_of(surface: Surface) -> trimesh.Trimesh:
    return trimesh.Trimesh(surface.points, surface.faces, process=False)


def test_ball_becomes_a_ball() -> None:
    """Closed, one body, wound outwards, with the right volume, normals and place."""
    surface = extract(lattice(ball(0.6)), 50000)
    mesh = mesh_of(surface)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert surface.bodies == 1
    radius = np.linalg.norm(surface.points, axis=1)
    assert radius.mean() == pytest.approx(0.64, abs=0.03)  # softplus reaches a little further
    assert radius.std() < 0.01
    assert mesh.volume == pytest.approx(4.0 / 3.0 * math.pi * radius.mean() ** 3, rel=0.02)
    assert ((surface.normals * surface.points).sum(axis=1) / radius).min() > 0.95


@pytest.mark.parametrize("wanted", [500, 2000])
def test_simplified_to_about_what_was_asked_for(wanted: int) -> None:
    """Fewer points, and still closed."""
    surface = extract(lattice(ball(0.6)), wanted)
    assert len(surface.points) == pytest.approx(wanted, rel=0.25)
    assert mesh_of(surface).is_watertight


def test_hollows_are_filled_and_dust_is_swept() -> None:
    """What no eye can see inside is solid, and crumbs are gone."""
    hollow = torch.minimum(ball(0.6), -ball(0.4))
    dusty = torch.maximum(hollow, ball(0.06, x=0.85))
    surface = extract(lattice(dusty), 50000)
    assert surface.bodies == 1
    assert surface.points[:, 0].max() < 0.75
    assert surface.volume > 4.0 / 3.0 * math.pi * 0.58**3


def test_two_bodies_are_kept() -> None:
    """Parts of like size both stay."""
    both = torch.maximum(ball(0.3, x=-0.5), ball(0.3, x=0.5))
    assert extract(lattice(both), 50000).bodies == 2


def test_full_box_is_cut_to_the_ball_that_was_seen() -> None:
    """Density out to the grid's corners ends closed at the unit ball."""
    surface = extract(lattice(torch.full_like(X, 9.0)), 50000)
    assert mesh_of(surface).is_watertight
    assert np.linalg.norm(surface.points, axis=1).max() < 1.01


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (torch.full_like(X, math.nan), "DENSITY_NAN"),
        (torch.where(X > 0.9, torch.inf, 0.0), "DENSITY_NAN"),
        (torch.full_like(X, -5.0), "DENSITY_EMPTY"),
        (ball(0.0), "MESH_TOO_THIN"),
        (torch.where((X - STEPS[30]).abs() < 1e-3, -1.2, -9.0), "MESH_TOO_THIN"),
    ],
)
def test_what_cannot_be_meshed_is_named(raw: torch.Tensor, code: str) -> None:
    """Each way to have no object has its permanent code and says what to do."""
    with pytest.raises(PipelineError) as caught:
        extract(lattice(raw), 5000)
    assert caught.value.code == code
    assert caught.value.permanent
    assert "Use " in caught.value.message


def test_texture_shows_the_colour_of_the_surface() -> None:
    """Colour by place comes back at that place, and not what lies deeper inside."""
    shape = lattice(ball(0.6))
    inner = (X**2 + Y**2 + Z**2).sqrt() < 0.45
    for channel, axis in enumerate((X, Y, Z), start=1):
        shape.values[0, channel] = torch.where(inner, -9.0, 6.0 * axis)
    surface = extract(shape, 8000)
    mesh, texture, charts = bake(shape, surface, 512)
    assert charts >= 6
    u, v = np.clip(mesh.uvs * 512, 0, 511).astype(int).T
    low, high = surface.points.min(axis=0), surface.points.max(axis=0)
    points = mesh.positions * (high - low).max() + (low + high) / 2.0
    expected = 1.0 / (1.0 + np.exp(-6.0 * points))
    assert np.abs(texture[v, u] / 255.0 - expected).mean() < 0.06


@pytest.mark.parametrize("shape", ["ball", "torus", "box", "folded"])
def test_charts_do_not_overlap(shape: str) -> None:
    """No texel belongs to two faces, every face has its place, and charts keep apart."""
    mesh = {
        "ball": lambda: trimesh.creation.icosphere(3),
        "torus": lambda: trimesh.creation.torus(0.6, 0.25),
        "box": lambda: trimesh.creation.box((1.0, 2.0, 0.1)),
        "folded": _folded,
    }[shape]()
    side = 512
    points, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    unfolded = atlas.unfold(points, faces, side)
    assert np.array_equal(unfolded.origins[unfolded.faces], faces)
    assert unfolded.uvs.min() >= 0.0
    assert unfolded.uvs.max() <= 1.0
    places = np.column_stack([unfolded.uvs * side, np.zeros(len(unfolded.uvs))])
    face_at, hidden = atlas._drawn(places, unfolded.faces, side)
    assert not hidden.any()
    assert (face_at >= 0).mean() > 0.25
    corners = unfolded.uvs[unfolded.faces]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    flat = np.abs(ax * by - ay * bx).sum() / 2.0
    assert (face_at >= 0).mean() == pytest.approx(flat, rel=0.05)


def _folded() -> trimesh.Trimesh:
    """A ramp that climbs around an axis for three turns: from above it covers itself."""
    angle = np.linspace(0.0, 6.0 * np.pi, 200)
    inner = np.stack([0.3 * np.cos(angle), 0.06 * angle, 0.3 * np.sin(angle)], axis=1)
    outer = np.stack([0.9 * np.cos(angle), 0.06 * angle, 0.9 * np.sin(angle)], axis=1)
    points = np.vstack([inner, outer])
    first = np.arange(len(angle) - 1)
    quads = np.stack([first, first + 1, first + len(angle) + 1, first + len(angle)], axis=1)
    faces = np.vstack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return trimesh.Trimesh(points, faces, process=False)
