"""A shape made the same on both sides of an upright axis."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from drawn_pictures import cut_free, encode, figure, scene
from inflate_runs import Outcome
from test_layers import front_at
from test_surface import blobs, joined

from worker_vm.pipelines.inflate import membrane, surface
from worker_vm.pipelines.inflate.heights import Heights
from worker_vm.pipelines.inflate.symmetry import symmetrised

Inflate = Callable[..., Outcome]
SIZE = 320
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float64)


def toy(middle: float = 160.0) -> bytes:
    """A body on two feet, its right half drawn a little wider, lit from the left and blotched."""
    beside = np.where(middle > X, middle - X, (X - middle) * 0.96)
    body = np.hypot(beside / 90.0, (Y - 140.0) / 100.0) < 1.0
    feet = np.hypot((beside - 50.0) / 30.0, (Y - 235.0) / 40.0) < 1.0
    blotches = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 1, (SIZE, SIZE)), (0, 0), 8)
    light = 0.75 - 0.2 * (X - middle) / 100.0 + 0.06 * blotches / blotches.std()
    rgb = np.clip(np.array([220, 120, 60]) * light[..., None], 0, 255).astype(np.uint8)
    return encode(cut_free(rgb, 255 * (body | feet)))


def mug_like() -> np.ndarray:
    """The alpha channel of a body with a handle on its right."""
    body = (np.abs(X - 140) < 70) & (np.abs(Y - 160) < 100)
    handle = np.abs(np.hypot(X - 210, Y - 160) - 45) < 12
    return (body | handle).astype(np.float32)


def lopsided(outcome: Outcome) -> float:
    """Mean difference of the front's heights at places that are each other's mirror image."""
    grid = np.stack(np.meshgrid(np.linspace(0.02, 0.4, 16), np.linspace(-0.4, 0.4, 24)), axis=-1)
    right = grid.reshape(-1, 2) + 0.00123
    both = np.array([front_at(outcome.welded, right * side) for side in ((1, 1), (-1, 1))])
    there = both[:, np.isfinite(both).all(axis=0)]
    assert there.shape[1] > 100
    return float(np.abs(there[0] - there[1]).mean())


@pytest.fixture(scope="module")
def as_drawn(inflate: Inflate) -> Outcome:
    return inflate(toy(), texture_resolution=512, relief=1.0)


@pytest.fixture(scope="module")
def mirrored(inflate: Inflate) -> Outcome:
    return inflate(toy(), texture_resolution=512, relief=1.0, symmetry="left_right")


@pytest.fixture(scope="module")
def one_footed(inflate: Inflate) -> Outcome:
    return inflate(encode(scene(figure)), texture_resolution=512, symmetry="left_right")


def test_both_sides_become_alike(as_drawn: Outcome, mirrored: Outcome) -> None:
    """Neither a careless outline nor light from one side is left in the shape."""
    assert lopsided(as_drawn) > 0.004
    assert lopsided(mirrored) < 0.001


def test_result_is_as_good(mirrored: Outcome, one_footed: Outcome) -> None:
    """A shape made symmetric, wholly or in part, is closed and printable."""
    for outcome in (mirrored, one_footed):
        assert outcome.welded.is_watertight
        assert outcome.welded.body_count == 1
        quality = outcome.manifest["quality"]
        assert quality["printable"] is True, quality["not_printable_because"]


def test_same_bytes(inflate: Inflate, mirrored: Outcome) -> None:
    """The same picture and parameters give the same GLB, byte by byte."""
    again = inflate(toy(), texture_resolution=512, relief=1.0, symmetry="left_right")
    assert again.glb_hash == mirrored.glb_hash


def test_auto_takes_what_is_symmetrical(inflate: Inflate, mirrored: Outcome) -> None:
    """`auto` does to a symmetrical outline what `left_right` does."""
    auto = inflate(toy(), texture_resolution=512, relief=1.0, symmetry="auto")
    assert auto.manifest["mesh"]["symmetry"]["applied"] is True
    points = [outcome.mesh.vertices for outcome in (auto, mirrored)]
    assert np.array_equal(*points)


def test_auto_leaves_the_rest(inflate: Inflate) -> None:
    """A lopsided thing comes out as without `auto`."""
    auto = inflate(encode(scene(figure)), texture_resolution=512, symmetry="auto")
    none = inflate(encode(scene(figure)), texture_resolution=512)
    assert auto.glb_hash == none.glb_hash
    told = auto.manifest["mesh"]["symmetry"]
    assert told["score"] < 0.93
    assert (told["asked"], told["applied"], told["warnings"]) == ("auto", False, [])


def test_manifest_tells_axis_and_score(inflate: Inflate, as_drawn: Outcome) -> None:
    """The axis is in fractions of the picture, wherever the subject stands in it."""
    for outcome, middle in ((as_drawn, 160.0), (inflate(toy(125.0)), 125.0)):
        told = outcome.manifest["mesh"]["symmetry"]
        assert told["axis"] * SIZE == pytest.approx(middle + 1.5, abs=1.5)
        assert 0.95 < told["score"] < 1.0
        assert (told["asked"], told["applied"]) == ("none", False)


def test_far_from_symmetrical_is_said(one_footed: Outcome, mirrored: Outcome) -> None:
    """Asked for a lopsided thing, the manifest warns; for a symmetrical one it does not."""
    told = one_footed.manifest["mesh"]["symmetry"]
    assert told["applied"] is True
    assert f"{told['score']:.2f}" in told["warnings"][0]
    assert mirrored.manifest["mesh"]["symmetry"]["warnings"] == []


def test_outline_meets_half_way() -> None:
    """Where the sides differ a little, both move half of it, and are then the same."""
    wide = np.where(X > 160, (X - 160) * 0.96, 160 - X)
    shape = membrane.silhouette((np.hypot(wide, Y - 160) < 100).astype(np.float32))
    result, mirror = symmetrised(shape, "left_right")
    row = result.level[result.level.shape[0] // 2]
    left, right = np.flatnonzero(row > 0)[[0, -1]]
    assert left + right == mirror.twice
    assert (right - left) * shape.scale[0] == pytest.approx(100 + 100 / 0.96, abs=2.0)
    inner = np.arange(left - 2, right + 3)
    assert result.level[:, inner] == pytest.approx(result.level[:, mirror.twice - inner], abs=1e-9)


def test_handle_stays_and_leaves_no_stub() -> None:
    """What has no counterpart is kept, does not draw the axis aside, and is not repeated."""
    shape = membrane.silhouette(mug_like())
    result, mirror = symmetrised(shape, "left_right")
    assert not mirror.outline_kept
    x, _ = shape.to_pixels(np.array(mirror.twice / 2), np.array(0.0))
    assert x == pytest.approx(140, abs=1.0)
    changed = cv2.erode((result.inside != shape.inside).astype(np.uint8), np.ones((2, 2)))
    assert not changed.any()


def test_thin_strokes_are_not_lost() -> None:
    """An outline that would lose a part in the mean stays as it is."""
    slanted = np.abs((X - 160) * 0.97 - (Y - 160) * 0.05) < 3
    shape = membrane.silhouette((slanted & (np.abs(Y - 160) < 130)).astype(np.float32))
    result, mirror = symmetrised(shape, "left_right")
    assert mirror.outline_kept
    assert np.array_equal(result.level, shape.level)


@pytest.mark.parametrize("seed", range(8))
def test_random_silhouettes_close(seed: int) -> None:
    """Whatever is asked to be symmetric, the mesh is one closed body with the holes it had."""
    shape, mirror = symmetrised(membrane.silhouette(blobs(seed)), "left_right")
    u = membrane.inflate(shape, membrane.laplacian(shape))
    bumps = mirror.mean(np.zeros_like(u))
    mesh = joined(surface.build(Heights(u, surface.THICKNESS, bumps), -1))
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.body_count == 1
    assert mesh.volume > 0


def test_nothing_comes_back_beyond_the_picture() -> None:
    """A subject that the picture's border cut off closes at the border."""
    shape = membrane.silhouette((np.hypot(X - 90, Y - 160) < 93).astype(np.float32))
    cut = replace(shape, level=shape.level[:, 8:])
    cut.level[:, :3] = -0.5
    result, _ = symmetrised(cut, "left_right")
    assert not result.inside[:, :2].any()
    assert result.inside.any()
