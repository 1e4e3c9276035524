"""Telling flat things from round ones by where a picture is shaded."""

import cv2
import numpy as np
import pytest
from drawn_pictures import encode
from inflate_runs import Outcome

from worker_vm.pipelines.inflate import flatness, membrane

SIZE = 300
KEY = np.array([-0.45, -0.5, 0.74])
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float64)
MIDDLE = (SIZE - 1) / 2


def lit(depth: np.ndarray, edge: float, paint: np.ndarray | None = None) -> np.ndarray:
    """A thing whose rim is rounded within `edge` pixels, under one light and an even sky."""
    slope = np.clip(1.0 - np.maximum(depth, 0.0) / edge, 0.0, 1.0)
    down, across = np.gradient(cv2.GaussianBlur(depth, (0, 0), 1.0))
    length = np.hypot(across, down) + 1e-9
    normal = np.stack([-across / length * slope, -down / length * slope, np.sqrt(1 - slope**2)], 2)
    light = 0.3 + 0.6 * np.clip(normal @ KEY, 0.0, 1.0)
    albedo = np.full((SIZE, SIZE, 3), (0.7, 0.45, 0.25)) if paint is None else paint
    rgb = 255.0 * (albedo * light[..., None]) ** (1 / 2.2)
    rgb += np.random.default_rng(1).normal(0, 2, rgb.shape)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def disc() -> np.ndarray:
    """Pixels to the outline of a disc."""
    return 110.0 - np.hypot(X - MIDDLE, Y - MIDDLE)


def tile() -> np.ndarray:
    """Pixels to the outline of a square with round corners."""
    out = np.maximum(np.stack([abs(X - MIDDLE), abs(Y - MIDDLE)]) - 70.0, 0.0)
    return (
        30.0 - np.hypot(*out) + np.maximum(70.0 - np.maximum(abs(X - MIDDLE), abs(Y - MIDDLE)), 0)
    )


def edge_of(depth: np.ndarray, rgb: np.ndarray, profile: flatness.Profile) -> float | None:
    """The edge found, in pixels."""
    shape = membrane.silhouette(np.clip(depth + 0.5, 0, 1).astype(np.float32))
    edge = flatness.edge_width(rgb, shape, profile)
    return None if edge is None else edge * shape.scale[0]


def stripes() -> np.ndarray:
    """Two colours, by turns."""
    odd = (X // 22 % 2 == 0)[..., None]
    return np.where(odd, (0.15, 0.2, 0.5), (0.75, 0.6, 0.15))


def test_ball_is_round() -> None:
    """A ball is shaded all over."""
    assert edge_of(disc(), lit(disc(), 110.0), "auto") is None


@pytest.mark.parametrize("edge", [14.0, 24.0, 34.0])
def test_coin_is_flat(edge: float) -> None:
    """A coin is shaded only along its rim, and the band's width is found."""
    assert edge_of(disc(), lit(disc(), edge), "auto") == pytest.approx(edge, rel=0.25)


def test_stripes_do_not_hide_it() -> None:
    """Painted edges, along the rim too, tell nothing."""
    depth = tile()
    assert edge_of(depth, lit(depth, 24.0, stripes()), "auto") == pytest.approx(24.0, rel=0.3)
    assert edge_of(disc(), lit(disc(), 110.0, stripes()), "auto") is None


@pytest.mark.parametrize("ink", [0, 8])
def test_drawing_tells_nothing(ink: int) -> None:
    """What is drawn in even colours is blown up, with a black outline or without."""
    rgb = np.full((SIZE, SIZE, 3), (230, 120, 60), np.uint8)
    rgb[disc() < ink] = (20, 20, 20)
    assert edge_of(disc(), rgb, "auto") is None


def test_caller_decides() -> None:
    """The caller may say what it is."""
    coin = lit(disc(), 24.0)
    assert edge_of(disc(), coin, "round") is None
    assert edge_of(disc(), coin, "flat") == edge_of(disc(), coin, "auto")
    assert edge_of(disc(), lit(disc(), 110.0), "flat") == pytest.approx(0.15 * 110, rel=0.05)


def test_plate_levels_out() -> None:
    """A plate rises as a circle does along the rim, and is even in the middle."""
    shape = membrane.silhouette(np.clip(disc() + 0.5, 0, 1).astype(np.float32))
    height = np.sqrt(np.maximum(membrane.plate(shape, 10.0), 0.0))
    row = height[height.shape[0] // 2]
    assert row.max() == pytest.approx(10.0, rel=0.01)
    assert np.ptp(row[len(row) // 2 - 25 : len(row) // 2 + 25]) < 0.1
    first = np.flatnonzero(row > 0)[0]
    assert row[first + 5] == pytest.approx(np.sqrt(10.0**2 - 5.0**2), rel=0.15)


def test_flat_things_come_out_flat(inflate) -> None:
    """The whole pipeline makes a plate of a coin, closed, and says so."""
    alpha = np.clip(255 * (disc() + 0.5), 0, 255).astype(np.uint8)
    picture = encode(np.dstack([lit(disc(), 24.0), alpha]))
    outcome: Outcome = inflate(picture, texture_resolution=512)
    assert outcome.manifest["mesh"]["profile"] == "flat"
    assert outcome.welded.is_watertight
    assert 0.15 < outcome.welded.extents[2] < 0.4
    blown = inflate(picture, texture_resolution=512, profile="round")
    assert blown.manifest["mesh"]["profile"] == "round"
    assert blown.welded.extents[2] == pytest.approx(0.85, abs=0.03)
