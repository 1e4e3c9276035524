"""The steps of a cut-out, from a picture to a cropped subject."""

from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

from worker_vm.cutout import gates
from worker_vm.cutout.grabcut import second_look
from worker_vm.cutout.hints import Box, Hints
from worker_vm.cutout.outline import crop_about, framed, keep, refined
from worker_vm.cutout.raster import (
    WORK_SIDE,
    Bools,
    Bytes,
    Floats,
    clean,
    resized,
    shrunk,
    without_spurs,
)
from worker_vm.cutout.score import Score, score
from worker_vm.cutout.seeds import FOREIGN, SEEDS, Scene
from worker_vm.pipelines.base import PipelineError

_MARGIN = 0.08  # of the subject's longer side, kept about it
_MIN_CONTRAST = 4.0  # CIELAB units across the outline
_MIN_FOUNDED = 0.25  # share of the subject whose colours the background lacks
_MIN_SCORE = 0.2
_SURE_SCORE = 0.5  # of a subject whose colours the background has as well
_DISCOUNT = {"salient": 0.95}  # blurred, it sees no thin parts: it has to be clearly better
_GOOD_ENOUGH = 0.9  # other seeds could hardly do better
_HALF = 128
_MEANINGFUL_ALPHA = 0.02


@dataclass(frozen=True)
class Quality:
    """How the subject was found, for the manifest."""

    source: Literal["alpha", "hints", "automatic"]
    share: float
    """The subject's share of the picture's area."""
    score: float = 1.0
    """0…1; 1 where the alpha channel decided."""
    seed: str | None = None
    """The guess that won."""
    marks: dict[str, float] = field(default_factory=dict)
    """What the score is made of."""
    tried: dict[str, float] = field(default_factory=dict)
    """The score of every guess; 0 where it was refused."""


@dataclass(frozen=True)
class Subject:
    """The subject of a picture, cropped."""

    rgb: Bytes
    """(h, w, 3), sRGB."""
    alpha: Floats
    """(h, w) in 0…1; 0 on the outermost pixels."""
    window: Box
    """What is shown of the picture: left, top, right, bottom in its fractions."""
    quality: Quality


@dataclass(frozen=True)
class _Candidate:
    seed: str
    mask: Bools
    share: float
    score: Score

    @property
    def total(self) -> float:
        return self.score.total * _DISCOUNT.get(self.seed, 1.0)


def cut_out(rgba: Bytes, *, hints: Hints, seed: int, max_side: int) -> Subject:
    """Find the subject and crop to it.

    Args:
        rgba: (height, width, 4), sRGB, straight alpha.
        hints: where the caller says that the subject is.
        seed: of the colour clustering.
        max_side: the longer side of the returned crop at most, in pixels.

    Raises:
        PipelineError: CUTOUT_EMPTY, CUTOUT_FULL, CUTOUT_TOUCHES_BORDER, CUTOUT_IN_PIECES,
            CUTOUT_POINTS_MISSED or CUTOUT_UNRELIABLE; all permanent.
    """
    alpha = rgba[..., 3]
    clear = float((alpha < _HALF).mean())
    if clear > 1.0 - gates.EMPTY_SHARE:
        raise gates.failure(
            "EMPTY", "The picture is fully transparent; send one with a visible subject"
        )
    if clear >= _MEANINGFUL_ALPHA:
        return _from_alpha(rgba, hints, max_side)
    return _from_colours(rgba[..., :3], hints, seed, max_side)


def _from_alpha(rgba: Bytes, hints: Hints, max_side: int) -> Subject:
    alpha = np.where(hints.allowed(rgba.shape), rgba[..., 3], 0).astype(np.uint8)
    wanted = hints.wanted(rgba.shape)
    raw = alpha >= _HALF
    if wanted is not None and not (raw & wanted).any():
        raise gates.points_missed()
    mask = clean(raw, wanted)
    share = gates.check(mask, raw=raw if wanted is None else mask)
    rows, cols = crop_about(mask, _MARGIN)
    soft = keep(alpha[rows, cols].astype(np.float32) / 255.0, mask[rows, cols])
    rgb = resized(np.ascontiguousarray(rgba[rows, cols, :3]), max_side)
    window = _fractions(rows, cols, mask.shape)
    return Subject(rgb, framed(resized(soft, max_side)), window, Quality("alpha", share))


def _fractions(rows: slice, cols: slice, shape: tuple[int, ...]) -> Box:
    height, width = shape[:2]
    return cols.start / width, rows.start / height, cols.stop / width, rows.stop / height


def _from_colours(rgb: Bytes, hints: Hints, seed: int, max_side: int) -> Subject:
    small = shrunk(rgb, WORK_SIDE)
    best, tried = _best(Scene(small, hints, seed))
    rows, cols = crop_about(best.mask, _MARGIN + 2.0 / WORK_SIDE)
    scale_y, scale_x = rgb.shape[0] / small.shape[0], rgb.shape[1] / small.shape[1]
    down = slice(int(rows.start * scale_y), int(rows.stop * scale_y))
    across = slice(int(cols.start * scale_x), int(cols.stop * scale_x))
    window = rgb[down, across]
    mask = best.mask[rows, cols]
    if max(mask.shape) < WORK_SIDE // 2:
        mask = second_look(window, mask)
    crop = resized(np.ascontiguousarray(window), max_side)
    quality = Quality(
        source="automatic" if hints == Hints() else "hints",
        share=best.share,
        score=best.total,
        seed=best.seed,
        marks=asdict(best.score),
        tried=tried,
    )
    return Subject(crop, refined(crop, mask), _fractions(down, across, rgb.shape), quality)


def _best(scene: Scene) -> tuple[_Candidate, dict[str, float]]:
    """Return the guess with the best score, and all scores.

    Raises:
        PipelineError: none can be trusted; the first one's reason.
    """
    best: _Candidate | None = None
    tried: dict[str, float] = {}
    refusal: PipelineError | None = None
    for name in SEEDS:
        tried[name] = 0.0
        try:
            found = _candidate(scene, name)
        except PipelineError as error:
            refusal = refusal or error
            continue
        tried[name] = found.total
        if best is None or found.total > best.total:
            best = found
        if best.total > _GOOD_ENOUGH:
            break
    if best is not None:
        return best, tried
    raise refusal or gates.nothing_found()


def _candidate(scene: Scene, name: str) -> _Candidate:
    """Try one seed.

    Raises:
        PipelineError: its cut-out can't be trusted.
    """
    raw = SEEDS[name](scene)
    if float(raw.mean()) < gates.EMPTY_SHARE:
        raise gates.nothing_found()
    mask = clean(without_spurs(raw), scene.wanted)
    if scene.wanted is not None:
        if not (mask & scene.wanted).any():
            raise gates.points_missed()
        raw = mask  # the caller has chosen among the pieces
    share = gates.check(mask, raw=raw)
    marks = score(scene, mask, raw)
    founded = float((scene.foreign[mask] > FOREIGN / 2).mean())
    least = _MIN_SCORE if scene.wanted is not None or founded >= _MIN_FOUNDED else _SURE_SCORE
    if marks.contrast < _MIN_CONTRAST or marks.total < least:
        raise gates.unreliable()
    return _Candidate(name, mask, share, marks)
