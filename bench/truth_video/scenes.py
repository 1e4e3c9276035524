"""The scenes: who walks where, and what makes it hard."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bench.truth_video.figures import Kind

RATE = 25.0
SIZE = (640, 360)
"""Width and height that a scene is written down in; it can be drawn larger."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Actor:
    """Someone, or a car."""

    path: tuple[tuple[float, float, float], ...]
    """(second, x, y) of the feet; in between they move evenly. Nobody is there before or after."""
    height: float
    """In pixels, where y is the picture's lower edge; further up all things are smaller."""
    kind: Kind = "person"


@dataclass(frozen=True)
class Scene:
    """What is to be drawn, in pixels of `SIZE`."""

    name: str
    seconds: float
    actors: tuple[Actor, ...]
    zones: tuple[tuple[str, tuple[Point, ...]], ...]
    pillars: tuple[tuple[int, int], ...] = ()
    """Left and right edge of what people walk behind."""
    shake: float = 0.0
    """How far the camera trembles, as a standard deviation in pixels."""
    light: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    """(second, brightness); in between it changes evenly."""
    shadow: float = 0.0
    """How much of the light the figures' shadows take."""
    noise: float = 3.0
    seed: int = 0


_Maker = Callable[[np.random.Generator], Scene]
_MAKERS: dict[str, _Maker] = {}


def make(name: str, seed: int) -> Scene:
    """Return a scene; the seed moves its people, their clothes and the background."""
    rng = np.random.default_rng([seed, *name.encode()])
    made = _MAKERS[name](rng)
    return replace(made, name=name, seed=seed)


def names() -> tuple[str, ...]:
    """Return what can be made."""
    return tuple(_MAKERS)


def _scene(maker: _Maker) -> _Maker:
    _MAKERS[maker.__name__] = maker
    return maker


def _box(left: float, top: float, right: float, bottom: float) -> tuple[Point, ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


_MIDDLE = ("middle", _box(230, 150, 410, 345))
_SLANTED = ("slanted", ((60.0, 190.0), (250.0, 170.0), (300.0, 340.0), (20.0, 350.0)))


def _walk(
    rng: np.random.Generator,
    start: float,
    y: float,
    speed: float,
    *,
    to_right: bool,
    drift: float = 0,
) -> Actor:
    """Cross the whole picture."""
    seconds = (SIZE[0] + 120) / speed
    ends = (-60.0, SIZE[0] + 60.0) if to_right else (SIZE[0] + 60.0, -60.0)
    path = ((start, ends[0], y), (start + seconds, ends[1], y + drift))
    return Actor(path, height=rng.uniform(105, 135))


@_scene
def crossing(rng: np.random.Generator) -> Scene:
    """Pairs that meet in the middle, at nearly the same distance from the camera."""
    actors = []
    for start in (0.5, 6.5):
        y = rng.uniform(250, 320)
        for to_right in (True, False):
            begin, speed = start + rng.uniform(0, 0.6), rng.uniform(110, 150)
            nearby = y + rng.uniform(-8, 8)
            actors.append(_walk(rng, begin, nearby, speed, to_right=to_right))
    return Scene("", 14, tuple(actors), (_MIDDLE, _SLANTED))


@_scene
def crowd(rng: np.random.Generator) -> Scene:
    """Seven people, each with a way and a speed of their own."""
    actors = [
        _walk(
            rng, 0.5 + 1.3 * number, rng.uniform(220, 335), rng.uniform(80, 150),
            to_right=bool(rng.random() < 0.5), drift=rng.uniform(-40, 15),
        )
        for number in range(7)
    ]  # fmt: skip
    return Scene("", 18, tuple(actors), (_MIDDLE, _SLANTED))


@_scene
def overtaking(rng: np.random.Generator) -> Scene:
    """A quick walker passes a slow one in the same direction: they are merged for long."""
    actors = []
    for start, to_right in ((0.5, True), (4.0, False)):
        y = rng.uniform(250, 315)
        actors.append(_walk(rng, start, y, rng.uniform(65, 75), to_right=to_right))
        actors.append(
            _walk(rng, start + 3, y + rng.uniform(8, 18), rng.uniform(135, 155), to_right=to_right)
        )
    return Scene("", 16, tuple(actors), (_MIDDLE,))


@_scene
def loitering(rng: np.random.Generator) -> Scene:
    """Someone stands in a zone for long while others pass; a second one waits elsewhere."""
    x, y = rng.uniform(280, 360), rng.uniform(270, 310)
    sway = [(5 + t, x + rng.uniform(-12, 12), y + rng.uniform(-5, 5)) for t in range(0, 17, 2)]
    waiting = Actor(((0.5, -60, y), *sway, (26, SIZE[0] + 60, y)), 120)
    x2 = rng.uniform(100, 160)
    sway2 = [(9 + t, x2 + rng.uniform(-8, 8), 280 + rng.uniform(-4, 4)) for t in range(0, 13, 2)]
    second = Actor(((4, -60, 300), *sway2, (25, -60, 300)), 125)
    passing = _walk(rng, 9, y + 25, rng.uniform(100, 130), to_right=False)
    return Scene("", 27, (waiting, second, passing), (_MIDDLE, _SLANTED))


@_scene
def pillar(rng: np.random.Generator) -> Scene:
    """All pass behind a pillar, where nothing is seen of them for half a second and more."""
    left = int(rng.uniform(290, 310))
    actors = [
        _walk(rng, 0.5, rng.uniform(240, 320), rng.uniform(120, 140), to_right=True),
        _walk(rng, 4.5, rng.uniform(240, 320), rng.uniform(110, 130), to_right=False),
        _walk(rng, 9.0, rng.uniform(240, 320), rng.uniform(110, 130), to_right=True),
    ]
    return Scene("", 17, tuple(actors), (_MIDDLE, _SLANTED), pillars=((left, left + 70),))


@_scene
def shaking(rng: np.random.Generator) -> Scene:
    """A camera on a mast in the wind."""
    actors = [
        _walk(rng, 0.5, rng.uniform(240, 280), rng.uniform(100, 130), to_right=True),
        _walk(rng, 1.5, rng.uniform(285, 325), rng.uniform(100, 130), to_right=False),
        _walk(rng, 7.0, rng.uniform(240, 320), rng.uniform(100, 130), to_right=True),
    ]
    return Scene("", 14, tuple(actors), (_MIDDLE, _SLANTED), shake=3.0)


@_scene
def lighting(rng: np.random.Generator) -> Scene:
    """A cloud comes and goes, then a lamp is switched on."""
    actors = [
        _walk(rng, 0.5, rng.uniform(240, 320), rng.uniform(100, 130), to_right=True),
        _walk(rng, 3.0, rng.uniform(240, 320), rng.uniform(100, 130), to_right=False),
        _walk(rng, 9.0, rng.uniform(240, 320), rng.uniform(100, 130), to_right=True),
    ]
    light = ((0, 1.0), (2, 1.0), (4, 0.65), (7, 0.65), (8.5, 1.0), (12, 1.0), (12.04, 1.25))
    return Scene("", 16, tuple(actors), (_MIDDLE, _SLANTED), light=light)


@_scene
def shadows(rng: np.random.Generator) -> Scene:
    """Low sun: everyone has a long shadow."""
    actors = [
        _walk(rng, 0.5, rng.uniform(230, 260), rng.uniform(100, 130), to_right=True),
        _walk(rng, 2.0, rng.uniform(300, 325), rng.uniform(100, 130), to_right=False),
        _walk(rng, 8.0, rng.uniform(240, 320), rng.uniform(100, 130), to_right=True),
    ]
    return Scene("", 15, tuple(actors), (_MIDDLE, _SLANTED), shadow=0.45)


@_scene
def traffic(rng: np.random.Generator) -> Scene:
    """Cars behind and people before them."""
    actors = [
        _walk(rng, 1 + 4 * i, rng.uniform(300, 335), 110, to_right=i % 2 == 0) for i in range(3)
    ]
    for start, to_right in ((0.5, True), (5.0, False), (8.5, True)):
        speed, y = rng.uniform(140, 220), rng.uniform(215, 235)
        ends = (-180.0, SIZE[0] + 180.0) if to_right else (SIZE[0] + 180.0, -180.0)
        path = ((start, ends[0], y), (start + (SIZE[0] + 360) / speed, ends[1], y))
        actors.append(Actor(path, height=85, kind="car"))
    return Scene("", 17, tuple(actors), (_MIDDLE, _SLANTED), shadow=0.3)


@_scene
def company(rng: np.random.Generator) -> Scene:
    """Two come in together, part in the middle, and one of them meets a third."""
    y, speed = rng.uniform(260, 300), rng.uniform(85, 100)
    part = 0.5 + 380 / speed
    first = Actor(((0.5, -60, y), (part, 320, y), (part + 4.5, 700, y - 40)), 120)
    second = Actor(
        ((0.5, -105, y + 6), (part, 275, y + 6), (part + 4, 230, 400), (part + 5, 230, 520)), 125
    )
    third = _walk(rng, part - 1.5, y - 20, 120, to_right=False)
    return Scene("", 13, (first, second, third), (_MIDDLE, _SLANTED))


@_scene
def emptiness(rng: np.random.Generator) -> Scene:
    """Nobody, but clouds, wind and grain: nothing may be seen."""
    del rng
    light = ((0, 1.0), (3, 0.7), (6, 1.1), (8, 0.9))
    return Scene("", 10, (), (_MIDDLE,), light=light, shake=2.0, noise=5.0)
