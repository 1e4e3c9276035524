"""The set that `inflate` was tuned on."""

from collections.abc import Callable

import numpy as np

from bench.truth import solids
from bench.truth.shapes import Part


def _sphere() -> list[Part]:
    return [Part(solids.ellipsoid((0, 0, 0), (0.5, 0.5, 0.5)), (200, 60, 50))]


def _creature() -> list[Part]:
    limbs = [solids.capsule((s * 0.16, 0.06, 0), (s * 0.38, 0.2, 0), 0.065) for s in (-1, 1)] + [
        solids.capsule((s * 0.1, -0.2, 0), (s * 0.16, -0.43, 0), 0.07) for s in (-1, 1)
    ]
    body = solids.joined([solids.capsule((0, -0.12, 0), (0, 0.05, 0), 0.2), *limbs], 0.05)
    ears = [solids.ellipsoid((s * 0.13, 0.42, 0), (0.06, 0.07, 0.04)) for s in (-1, 1)]
    head = solids.joined([solids.ellipsoid((0, 0.28, 0), (0.19, 0.17, 0.17)), *ears], 0.03)
    return [Part(body, (70, 130, 190)), Part(head, (240, 190, 90))]


def _mug() -> list[Part]:
    wall = solids.revolved([(0, -0.45), (0.33, -0.45), (0.33, 0.45), (0.29, 0.45), (0.29, -0.4),
                            (0, -0.4)])  # fmt: skip
    handle = solids.torus((0.34, 0.0, 0), 0.19, 0.045)
    room = solids.revolved([(0, -0.4), (0.3, -0.4), (0.3, 0.7), (0, 0.7)])
    return [
        Part(wall, (235, 235, 225), (50, 110, 170), (0, 3.0, 0)),
        Part(solids.without(handle, room), (50, 110, 170)),
    ]


def _chair() -> list[Part]:
    wood, dark = (165, 105, 60), (140, 85, 45)
    legs = [
        solids.box((x * 0.24, -0.28, z * 0.22), (0.032, 0.22, 0.032), 0.015)
        for x in (-1, 1) for z in (-1, 1)
    ]  # fmt: skip
    posts = [solids.box((x * 0.24, 0.22, -0.22), (0.032, 0.28, 0.032), 0.015) for x in (-1, 1)]
    rails = [solids.box((0, y, -0.22), (0.25, 0.05, 0.02), 0.015) for y in (0.2, 0.42)]
    seat = solids.box((0, -0.05, 0), (0.3, 0.035, 0.27), 0.02)
    return [Part(solids.joined(legs + posts), dark), Part(solids.joined(rails), wood),
            Part(seat, (190, 60, 60))]  # fmt: skip


def _star() -> list[Part]:
    angles = np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 0.52, 0.23)
    outline = list(zip(radii * np.cos(angles), radii * np.sin(angles), strict=True))
    return [Part(solids.extruded(outline, 0.11, 0.08), (245, 200, 50))]


def _leaf() -> list[Part]:
    t = np.linspace(0, 1, 24)
    half = 0.24 * np.sin(np.pi * t) ** 0.8
    outline = [*zip(half, t * 0.85 - 0.35, strict=True)]
    outline += [(-x, y) for x, y in outline[-2:0:-1]]
    blade = solids.extruded(outline, 0.035, 0.03)
    stem = solids.capsule((0, -0.5, 0), (0, -0.3, 0), 0.022)
    return [Part(blade, (60, 150, 60), (120, 190, 80), (7.0, 0, 0)), Part(stem, (90, 120, 50))]


def _ring() -> list[Part]:
    return [Part(solids.torus((0, 0, 0), 0.35, 0.14), (230, 130, 160), (250, 240, 235), (4, 4, 0))]


def _pear() -> list[Part]:
    body = solids.joined(
        [
            solids.ellipsoid((0, -0.18, 0), (0.31, 0.31, 0.31)),
            solids.ellipsoid((0, 0.2, 0), (0.17, 0.22, 0.17)),
        ],
        0.2,
    )
    return [Part(body, (170, 190, 60)), Part(solids.capsule((0, 0.38, 0), (0.05, 0.52, 0), 0.022),
            (100, 70, 40))]  # fmt: skip


def _mushroom() -> list[Part]:
    cap = solids.without(
        solids.ellipsoid((0, 0.05, 0), (0.46, 0.38, 0.46)),
        solids.box((0, -0.62, 0), (1, 0.6, 1), 0.0),
    )
    stem = solids.capsule((0, -0.35, 0), (0, 0.1, 0), 0.15, 0.11)
    return [Part(cap, (200, 40, 40), (245, 235, 225), (5.0, 0, 0)), Part(stem, (240, 225, 200))]


def _hugger() -> list[Part]:
    body = solids.ellipsoid((0, 0, 0), (0.36, 0.48, 0.3))
    arm = solids.capsule((-0.3, 0.12, 0.16), (0.12, -0.12, 0.34), 0.085)
    foot = solids.ellipsoid((0.15, -0.42, 0.22), (0.14, 0.1, 0.16))
    return [Part(body, (120, 85, 60)), Part(arm, (225, 180, 120), limb=True),
            Part(foot, (60, 90, 150), limb=True)]  # fmt: skip


def _bone() -> list[Part]:
    ends = [
        solids.ellipsoid((x * 0.38, y * 0.09, 0), (0.12, 0.12, 0.12))
        for x in (-1, 1) for y in (-1, 1)
    ]  # fmt: skip
    rod = solids.capsule((-0.35, 0, 0), (0.35, 0, 0), 0.09)
    return [Part(solids.joined([rod, *ends], 0.06), (90, 150, 160))]


def _cushion() -> list[Part]:
    return [
        Part(solids.box((0, 0, 0), (0.45, 0.4, 0.16), 0.14), (60, 70, 140), (230, 200, 80),
             (6, 0, 0))
    ]  # fmt: skip


def _vase() -> list[Part]:
    y = np.linspace(-0.5, 0.5, 40)
    radius = 0.17 + 0.12 * np.sin((y + 0.45) * 5.2) * np.exp(-((y - 0.05) ** 2)) + 0.02
    outline = [(0.0, -0.5), *zip(radius, y, strict=True), (0.0, 0.5)]
    return [Part(solids.revolved(outline), (40, 120, 120), (215, 230, 220), (0, 5, 0))]


def _fish() -> list[Part]:
    body = solids.ellipsoid((0.05, 0, 0), (0.4, 0.22, 0.15))
    tail = solids.extruded([(-0.25, 0), (-0.52, 0.2), (-0.46, 0), (-0.52, -0.2)], 0.035, 0.03)
    fin = solids.extruded([(-0.1, 0.12), (0.18, 0.16), (0.02, 0.34)], 0.03, 0.025)
    return [
        Part(body, (240, 130, 40), (250, 245, 235), (4.5, 0, 0)),
        Part(solids.joined([tail, fin]), (210, 90, 30)),
    ]


OBJECTS: dict[str, Callable[[], list[Part]]] = {
    "sphere": _sphere,
    "creature": _creature,
    "mug": _mug,
    "chair": _chair,
    "star": _star,
    "leaf": _leaf,
    "ring": _ring,
    "pear": _pear,
    "mushroom": _mushroom,
    "hugger": _hugger,
    "bone": _bone,
    "cushion": _cushion,
    "vase": _vase,
    "fish": _fish,
}
