"""Draws a scene, frame by frame, and writes down what is where."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.truth_video import figures
from bench.truth_video.scenes import RATE, SIZE, Actor, Scene

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
_BORDER = 16
"""Pixels around the picture that a shaking camera may show."""
_STEP_S = 0.9
"""A double step."""


@dataclass(frozen=True)
class Drawn:
    """One frame, and the truth about it."""

    picture: Bytes
    """[height, width, 3], blue, green, red."""
    ids: NDArray[np.int32]
    """[n]: number of the actor, from 1 on."""
    boxes: Floats
    """[n, 4]: the whole figure as far as it is in the picture, hidden parts included."""
    visible: Floats
    """[n]: which share of the whole figure shows, 0 to 1."""


def draw(scene: Scene, scale: float = 1.0) -> Iterator[Drawn]:
    """Draw all frames; `scale` 2 makes 1280 x 720 of them. The same scene gives the same frames."""
    rng = np.random.default_rng([scene.seed, 7, *scene.name.encode()])
    width, height = (round(side * scale) for side in SIZE)
    border = round(_BORDER * scale)
    ground = background(rng, width + 2 * border, height + 2 * border, scale)
    pillars = _pillars(scene, ground, scale, border)
    sprites = [getattr(figures, actor.kind)(rng) for actor in scene.actors]
    away = np.zeros(2)
    for number in range(round(scene.seconds * RATE)):
        time_s = number / RATE
        away = 0.8 * away + rng.normal(0, scene.shake * 0.6, 2)
        shift = np.clip(away * scale, -border + 2, border - 2)
        stage = _Stage(ground, scale, border, scene.shadow)
        for who, actor, pictures in _by_depth(scene, sprites, time_s):
            stage.place(who, actor, pictures, time_s)
        stage.cover(pillars)
        yield stage.shoot(shift, _at(scene.light, time_s), scene.noise, rng)


def background(rng: np.random.Generator, width: int, height: int, scale: float) -> Bytes:
    """Draw a wall with posters over a floor of slabs, all of them a little blotchy."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / scale
    horizon = 150 + _BORDER
    wall = rng.uniform(110, 180, 3) + 12 * np.sign(np.sin(x / 26))[..., None]
    floor = rng.uniform(90, 170, 3) + (y[..., None] - horizon) * 0.1
    depth = np.maximum(y - horizon, 1)
    joints = (np.abs(np.sin(60 * np.log(depth + 40))) < 0.12) | (
        np.abs(np.sin((x - 330) * 25 / (depth + 60))) < 0.06
    )
    floor = floor * np.where(joints, 0.75, 1.0)[..., None]
    picture = np.where((y > horizon)[..., None], floor, wall).astype(np.float32)
    for _ in range(5):
        left, top = rng.integers(0, width - 60), rng.integers(10, round(100 * scale))
        size = (rng.uniform(30, 70, 2) * scale).astype(int)
        picture[top : top + size[1], left : left + size[0]] = rng.uniform(40, 230, 3)
    blotches = cv2.resize(rng.normal(0, 1, (height // 6, width // 6)), (width, height))
    grain = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 1.2 * scale)
    picture += (5 * blotches + 14 * grain)[..., None].astype(np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


class _Stage:
    """One frame in the making."""

    def __init__(self, ground: Bytes, scale: float, border: int, shadow: float) -> None:
        self._picture = ground.astype(np.float32)
        self._owner = np.zeros(ground.shape[:2], np.int32)
        self._scale, self._border, self._shadow = scale, border, shadow
        self._full: dict[int, tuple[int, Floats]] = {}

    def place(
        self, number: int, actor: Actor, pictures: list[figures.Sprite], time_s: float
    ) -> None:
        """Draw an actor over all that is there."""
        x, y = _foot(actor, time_s)
        phase = int(time_s / _STEP_S * figures.PHASES + number * 3) % len(pictures)
        sprite = pictures[phase if _moves(actor, time_s) else 0]
        tall = actor.height * (0.55 + 0.45 * y / SIZE[1]) * self._scale
        ratio = tall / (sprite.cover.shape[0] - 16)
        flip = -1 if actor.kind == "car" and _moves(actor, time_s) < 0 else 1
        at = np.array([x, y]) * self._scale + self._border
        middle = sprite.cover.shape[1] / 2
        across = ratio * flip
        place = np.array([[across, 0, at[0] - across * middle],
                          [0, ratio, at[1] - ratio * (sprite.cover.shape[0] - 8)]])  # fmt: skip
        size = self._owner.shape[::-1]
        if self._shadow:
            self._cast(sprite, place, at, size)
        alpha = cv2.warpAffine(sprite.cover, place, size, flags=cv2.INTER_AREA)
        colour = cv2.warpAffine(sprite.colour, place, size, flags=cv2.INTER_AREA)
        rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
        whole = float((sprite.cover > 0.5).sum()) * ratio * ratio
        if not len(rows):
            return
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        opacity = alpha[part][..., None]
        self._picture[part] += opacity * (colour[part] - self._picture[part])
        solid = alpha[part] > 0.5
        self._owner[part][solid] = number
        self._full[number] = (round(whole), _bounds(solid, rows[0], columns[0]))

    def _cast(
        self, sprite: figures.Sprite, place: NDArray[np.float64], at: NDArray[np.float64],
        size: tuple[int, ...],
    ) -> None:  # fmt: skip
        """Lay the figure flat upon the ground, to the right and away from the camera."""
        flat = np.array([[1, -0.9, 0.9 * at[1]], [0, 0.3, 0.7 * at[1]]])
        turned = flat @ np.vstack([place, [0, 0, 1]])
        dark = cv2.warpAffine(sprite.cover, turned, size, flags=cv2.INTER_AREA)
        dark = cv2.GaussianBlur(dark, (0, 0), 1.5 * self._scale)
        self._picture *= 1 - self._shadow * dark[..., None]

    def cover(self, pillars: list[tuple[slice, Bytes]]) -> None:
        """Draw the pillars over all."""
        for columns, colours in pillars:
            self._picture[:, columns] = colours
            self._owner[:, columns] = -1

    def shoot(
        self, shift: NDArray[np.float64], light: float, noise: float, rng: np.random.Generator
    ) -> Drawn:
        """Return what the camera sees, which is off its place by `shift` pixels."""
        height, width = (side - 2 * self._border for side in self._owner.shape)
        away = shift - self._border
        view = np.array([[1, 0, away[0]], [0, 1, away[1]]])
        picture = cv2.warpAffine(self._picture, view, (width, height))
        owner = cv2.warpAffine(
            self._owner.astype(np.int16), view, (width, height), flags=cv2.INTER_NEAREST
        )
        rows = [self._seen(number, owner, away) for number in sorted(self._full)]
        rows = [row for row in rows if row[3] > row[1] and row[4] > row[2]]
        table = np.array(rows, np.float32).reshape(-1, 6)
        grain = rng.integers(-32768, 32767, picture.shape, np.int16)
        picture = np.clip(picture * light + grain * np.float32(noise / 18918), 0, 255)
        return Drawn(
            picture.astype(np.uint8), table[:, 0].astype(np.int32), table[:, 1:5], table[:, 5]
        )

    def _seen(
        self, number: int, owner: NDArray[np.int16], away: NDArray[np.float64]
    ) -> tuple[float, ...]:
        whole, box = self._full[number]
        height, width = owner.shape
        limits = np.array([width, height, width, height], np.float32)
        box = np.clip(box + np.tile(away, 2), 0, limits)
        share = np.count_nonzero(owner == number) / max(whole, 1)
        return (number, *box, min(share, 1.0))


def _by_depth(
    scene: Scene, sprites: list[list[figures.Sprite]], time_s: float
) -> list[tuple[int, Actor, list[figures.Sprite]]]:
    present = [
        (number, actor, pictures)
        for number, (actor, pictures) in enumerate(zip(scene.actors, sprites, strict=True), 1)
        if actor.path[0][0] <= time_s <= actor.path[-1][0]
    ]
    return sorted(present, key=lambda one: _foot(one[1], time_s)[1])


def _foot(actor: Actor, time_s: float) -> tuple[float, float]:
    times, xs, ys = zip(*actor.path, strict=True)
    return float(np.interp(time_s, times, xs)), float(np.interp(time_s, times, ys))


def _moves(actor: Actor, time_s: float) -> float:
    """Return how fast, in pixels a second, to the right; 0 for someone who only sways."""
    speed = (_foot(actor, time_s + 0.1)[0] - _foot(actor, time_s - 0.1)[0]) / 0.2
    return speed if abs(speed) > 20 else 0.0


def _at(points: tuple[tuple[float, float], ...], time_s: float) -> float:
    times, values = zip(*points, strict=True)
    return float(np.interp(time_s, times, values))


def _bounds(solid: NDArray[np.bool_], top: int, left: int) -> Floats:
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    edges = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    return np.array(edges, np.float32)


def _pillars(scene: Scene, ground: Bytes, scale: float, border: int) -> list[tuple[slice, Bytes]]:
    made = []
    for left, right in scene.pillars:
        columns = slice(round(left * scale) + border, round(right * scale) + border)
        round_off = np.sin(np.linspace(0.3, np.pi - 0.3, columns.stop - columns.start))
        shade = np.broadcast_to(round_off[None, :, None], ground[:, columns].shape)
        made.append((columns, (150 * shade + 0.2 * ground[:, columns]).astype(np.uint8)))
    return made
