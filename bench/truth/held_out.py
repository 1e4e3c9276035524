"""The set that nothing is tuned on: other families than those of `objects`.

To change a constant after looking at these figures spoils them; make new objects then.
"""

from collections.abc import Callable

import numpy as np

from bench.truth import solids
from bench.truth.shapes import Part


def _round(radius: float, x: float = 0.0, y: float = 0.0) -> list[tuple[float, float]]:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return list(zip(x + radius * np.cos(turn), y + radius * np.sin(turn), strict=True))


def _teapot() -> list[Part]:
    pot = solids.ellipsoid((0, -0.06, 0), (0.31, 0.25, 0.31))
    handle = solids.without(solids.torus((0.32, -0.02, 0), 0.15, 0.032), pot)
    spout = solids.capsule((-0.25, -0.12, 0), (-0.5, 0.14, 0), 0.085, 0.04)
    lid = solids.joined(
        [solids.ellipsoid((0, 0.18, 0), (0.15, 0.05, 0.15)),
         solids.ellipsoid((0, 0.25, 0), (0.045, 0.045, 0.045))], 0.02,
    )  # fmt: skip
    return [
        Part(solids.joined([pot, spout], 0.04), (70, 110, 170), (235, 235, 225), (0, 4, 0)),
        Part(handle, (70, 110, 170)),
        Part(lid, (215, 170, 60)),
    ]


def _biscuit() -> list[Part]:
    dough = solids.extruded(_round(0.44), 0.055, 0.035)
    for x, y in ((-0.15, 0.15), (0.15, 0.15), (-0.15, -0.15), (0.15, -0.15), (0, 0)):
        dough = solids.without(dough, solids.extruded(_round(0.055, x, y), 0.3, 0.0))
    return [Part(dough, (215, 165, 95))]


def _arrow() -> list[Part]:
    outline = [(-0.5, -0.1), (0.05, -0.1), (0.05, -0.3), (0.52, 0), (0.05, 0.3), (0.05, 0.1),
               (-0.5, 0.1)]  # fmt: skip
    return [Part(solids.extruded(outline, 0.07, 0.025), (200, 50, 60))]


def _starfish() -> list[Part]:
    turn = np.pi / 2 + np.arange(5) * 2 * np.pi / 5
    arms = [
        solids.capsule((0, 0, 0), (0.42 * np.cos(a), 0.42 * np.sin(a), 0), 0.14, 0.06)
        for a in turn
    ]  # fmt: skip
    return [Part(solids.joined(arms, 0.06), (225, 120, 90))]


def _crab() -> list[Part]:
    shell = solids.ellipsoid((0, 0.04, 0), (0.36, 0.24, 0.2))
    legs = [
        solids.capsule((s * 0.22, -0.05 - 0.04 * i, 0), (s * (0.5 - 0.1 * i), -0.2 - 0.09 * i, 0),
                       0.04, 0.025)
        for s in (-1, 1) for i in range(3)
    ]  # fmt: skip
    claws = [
        solids.joined(
            [solids.capsule((s * 0.36, 0.1, 0.06), (s * 0.22, -0.06, 0.24), 0.05),
             solids.ellipsoid((s * 0.14, -0.04, 0.26), (0.12, 0.08, 0.07))], 0.03,
        )
        for s in (-1, 1)
    ]  # fmt: skip
    return [
        Part(solids.joined([shell, *legs], 0.02), (190, 60, 45)),
        *(Part(claw, (235, 130, 80), limb=True) for claw in claws),
    ]


def _drummer() -> list[Part]:
    torso = solids.capsule((0, -0.12, 0), (0, 0.1, 0), 0.19, 0.16)
    legs = [solids.capsule((s * 0.09, -0.25, 0), (s * 0.1, -0.5, 0), 0.075) for s in (-1, 1)]
    head = solids.ellipsoid((0, 0.38, 0), (0.13, 0.14, 0.13))
    hanging = solids.capsule((0.2, 0.12, 0), (0.33, -0.15, 0.02), 0.055)
    bent = solids.joined(
        [solids.capsule((-0.19, 0.14, 0.04), (-0.22, -0.06, 0.15), 0.058),
         solids.capsule((-0.22, -0.06, 0.15), (0.06, -0.02, 0.24), 0.055)], 0.03,
    )  # fmt: skip
    return [
        Part(solids.joined([torso, *legs, hanging], 0.04), (60, 90, 150), (220, 220, 225),
             (0, 6, 0)),
        Part(head, (235, 195, 160)),
        Part(bent, (180, 60, 60), limb=True),
    ]  # fmt: skip


def _coin() -> list[Part]:
    disc = solids.extruded(_round(0.46), 0.03, 0.012)
    rim = solids.without(
        solids.extruded(_round(0.46), 0.042, 0.012), solids.extruded(_round(0.41), 0.3, 0.0)
    )
    emblem = solids.extruded([(0, 0.26), (0.22, -0.16), (-0.22, -0.16)], 0.04, 0.01)
    return [Part(solids.joined([disc, rim]), (200, 165, 80)), Part(emblem, (225, 195, 110))]


def _banana() -> list[Part]:
    turn = np.linspace(-2.4, -0.55, 9)
    x, y = 0.52 * np.cos(turn), 0.3 + 0.52 * np.sin(turn)
    radius = 0.035 + 0.075 * np.sin(np.linspace(0.25, np.pi - 0.15, 9)) ** 0.7
    pieces = [
        solids.capsule((x[i], y[i], 0), (x[i + 1], y[i + 1], 0), radius[i], radius[i + 1])
        for i in range(8)
    ]
    tips = [solids.capsule((x[i], y[i], 0), (1.08 * x[i], y[i] + 0.06, 0), 0.03) for i in (0, 8)]
    return [
        Part(solids.joined(pieces, 0.04), (240, 210, 70)),
        Part(solids.joined(tips), (110, 85, 40)),
    ]


def _lamp() -> list[Part]:
    shade = solids.revolved([(0, 0.05), (0.34, 0.05), (0.2, 0.48), (0, 0.48)])
    foot = solids.revolved([(0, -0.5), (0.24, -0.5), (0.22, -0.45), (0.05, -0.42), (0, -0.42)])
    stem = solids.capsule((0, -0.45, 0), (0, 0.1, 0), 0.035)
    return [Part(shade, (225, 205, 160), (170, 90, 70), (0, 5, 0)),
            Part(solids.joined([foot, stem], 0.02), (80, 75, 85))]  # fmt: skip


def _maple() -> list[Part]:
    half = [(0, 0.5), (0.07, 0.34), (0.14, 0.37), (0.12, 0.2), (0.26, 0.33), (0.29, 0.26),
            (0.46, 0.27), (0.4, 0.16), (0.47, 0.1), (0.25, -0.08), (0.28, -0.17), (0.03, -0.14),
            (0.02, -0.5)]  # fmt: skip
    outline = half + [(-x, y) for x, y in half[:0:-1]]
    return [Part(solids.extruded(outline, 0.028, 0.015), (205, 90, 40))]


def _crate() -> list[Part]:
    """A box seen from the front: flat to look at, and deep."""
    return [
        Part(solids.box((0, 0, 0), (0.38, 0.34, 0.36), 0.05), (170, 125, 75), (140, 100, 60),
             (4, 0, 0))
    ]  # fmt: skip


OBJECTS: dict[str, Callable[[], list[Part]]] = {
    "teapot": _teapot,
    "biscuit": _biscuit,
    "arrow": _arrow,
    "starfish": _starfish,
    "crab": _crab,
    "drummer": _drummer,
    "coin": _coin,
    "banana": _banana,
    "lamp": _lamp,
    "maple": _maple,
    "crate": _crate,
}
