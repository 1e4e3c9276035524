"""Cut the subject out of a picture, or say why the cut-out can't be trusted.

A meaningful alpha channel is taken as it is. Otherwise GrabCut (Rother et al. 2004) runs at about
320 pixels, once on the whole picture and, for a small subject, once more about it; a guided filter
brings the outline to full resolution.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worker_vm.guided_filter import guided_filter
from worker_vm.pipelines.base import PipelineError

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Array = NDArray[Any]
Box = tuple[float, float, float, float]

_WORK_SIDE = 320
_MIN_SIDE = 256
_SHORT_SIDE = 64
_MARGIN = 0.08  # of the subject's longer side, kept about it
_HINT = "send a PNG with a transparent background, or give the subject's `box`"

# Gates on the share of the picture, tried on synthetic scenes (tests/pipelines/test_cutout.py).
_EMPTY_SHARE = 0.0008
_FULL_SHARE = 0.88
_BORDER_SHARE = 0.40
_PIECE_SHARE = 0.15
_CRUMBS_SHARE = 0.30
_HOLE_SHARE = 0.01
_FOREIGN = 5.0  # CIELAB units beyond the background's own colours
_MIN_CONTRAST = 4.0  # CIELAB units across the outline
_MIN_FOUNDED = 0.25  # share of the subject whose colours the background lacks
_HALF = 128
_MEANINGFUL_ALPHA = 0.02


@dataclass(frozen=True)
class Subject:
    """The subject of a picture, cropped."""

    rgb: Bytes
    """(h, w, 3), sRGB."""
    alpha: Floats
    """(h, w) in 0…1; 0 on the outermost pixels."""
    source: Literal["alpha", "grabcut"]
    share: float
    """The subject's share of the picture's area."""
    contrast: float
    """Median colour difference across the outline (CIELAB); 0 when taken from alpha."""


def cut_out(rgba: Bytes, *, box: Box | None, seed: int, max_side: int) -> Subject:
    """Find the subject and crop to it.

    Args:
        rgba: (height, width, 4), sRGB, straight alpha.
        box: where the subject is, as x0, y0, x1, y1 in fractions of the picture.
        seed: of GrabCut's colour clustering.
        max_side: the longer side of the returned crop at most, in pixels.

    Raises:
        PipelineError: CUTOUT_EMPTY, CUTOUT_FULL, CUTOUT_TOUCHES_BORDER, CUTOUT_IN_PIECES or
            CUTOUT_UNRELIABLE; all permanent.
    """
    alpha = rgba[..., 3]
    clear = float((alpha < _HALF).mean())
    if clear > 1.0 - _EMPTY_SHARE:
        raise _failure("EMPTY", "The picture is fully transparent; send one with a visible subject")
    if clear >= _MEANINGFUL_ALPHA:
        return _from_alpha(rgba, box, max_side)
    return _from_colours(rgba[..., :3], box, seed, max_side)


def _failure(code: str, sentence: str) -> PipelineError:
    return PipelineError(f"CUTOUT_{code}", f"{sentence}.", permanent=True)


def _from_alpha(rgba: Bytes, box: Box | None, max_side: int) -> Subject:
    alpha = rgba[..., 3]
    if box is not None:
        alpha = np.where(_box_mask(alpha.shape, box), alpha, 0).astype(np.uint8)
    raw = alpha >= _HALF
    mask = _clean(raw)
    share = _check(mask, raw=raw)
    rows, cols = _crop_about(mask, _MARGIN)
    soft = _keep(alpha[rows, cols].astype(np.float32) / 255.0, mask[rows, cols])
    rgb = _resized(np.ascontiguousarray(rgba[rows, cols, :3]), max_side)
    return Subject(rgb, _framed(_resized(soft, max_side)), "alpha", share, 0.0)


def _from_colours(rgb: Bytes, box: Box | None, seed: int, max_side: int) -> Subject:
    small = _shrunk(rgb, _WORK_SIDE)
    cv2.setRNGSeed(seed & 0x7FFFFFFF)
    inside = _inside(small.shape, box)
    foreign = _foreignness(small, inside)
    guess = _first_guess(foreign, inside)
    if float((guess == cv2.GC_PR_FGD).mean()) < _EMPTY_SHARE:
        raise _failure(
            "EMPTY", f"Nothing stands out from the colours along the picture's border; {_HINT}"
        )
    raw = _grab_cut(_dithered(small, seed), guess)
    raw = _fill_foreign_holes(raw, foreign)
    coarse = _clean(raw)
    share = _check(coarse, raw=raw)
    contrast = _contrast(small, coarse)
    founded = float((foreign[coarse] > _FOREIGN / 2).mean())
    if contrast < _MIN_CONTRAST or founded < _MIN_FOUNDED:
        raise _failure("UNRELIABLE", f"The subject hardly differs from the background; {_HINT}")
    rows, cols = _crop_about(coarse, _MARGIN + 2.0 / _WORK_SIDE)
    scale_y, scale_x = rgb.shape[0] / small.shape[0], rgb.shape[1] / small.shape[1]
    window = rgb[
        int(rows.start * scale_y) : int(rows.stop * scale_y),
        int(cols.start * scale_x) : int(cols.stop * scale_x),
    ]
    hint = coarse[rows, cols]
    if max(hint.shape) < _WORK_SIDE // 2:
        hint = _second_look(window, hint)
    crop = _resized(np.ascontiguousarray(window), max_side)
    alpha = _refined(crop, hint)
    return Subject(crop, alpha, "grabcut", share, contrast)


def _box_mask(shape: tuple[int, ...], box: Box) -> Bools:
    """Pixels inside a box given in fractions."""
    height, width = shape[:2]
    mask = np.zeros((height, width), dtype=bool)
    x0, x1 = round(box[0] * width), round(box[2] * width)
    y0, y1 = round(box[1] * height), round(box[3] * height)
    mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    return mask


def _inside(shape: tuple[int, ...], box: Box | None) -> Bools:
    """Where the subject may be: off the border and in the box."""
    height, width = shape[:2]
    strip = min(max(2, round(0.02 * max(height, width))), min(height, width) // 4)
    inside = np.zeros((height, width), dtype=bool)
    inside[strip:-strip, strip:-strip] = True
    return inside if box is None else inside & _box_mask(shape, box)


def _foreignness(small: Bytes, inside: Bools) -> Floats:
    """How far each colour is from all colours outside (CIELAB units over their own spread)."""
    lab = _lab(np.asarray(cv2.GaussianBlur(small, (0, 0), 1.2), np.uint8))
    distance = _distance_from(lab, lab[~inside])
    spread = float(np.percentile(distance[~inside], 95))
    return np.asarray(np.maximum(distance - spread, 0.0))


def _first_guess(foreign: Floats, inside: Bools) -> Bytes:
    """GrabCut's starting labels."""
    # Half of Otsu's level: the pale parts of a colourful subject count as well.
    level = min(max(0.5 * _otsu(foreign[inside]), 2.0), 7.0)
    labels = np.full(foreign.shape, cv2.GC_PR_BGD, dtype=np.uint8)
    labels[foreign > level] = cv2.GC_PR_FGD
    labels[~inside] = cv2.GC_BGD
    return labels


def _fill_foreign_holes(mask: Bools, foreign: Floats) -> Bools:
    """Fill holes that do not show the background (an eye, a stripe), after closing thin slits."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _disc(2))
    filled = np.asarray(mask | ((closed > 0) & (foreign > _FOREIGN)))
    count, labels = cv2.connectedComponents((~filled).astype(np.uint8), connectivity=4)
    if count <= 1:
        return filled
    outside = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    for hole in set(range(1, count)) - set(outside.tolist()):
        where = labels == hole
        if float(np.median(foreign[where])) > _FOREIGN:
            filled |= where
    return filled


def _distance_from(lab: Floats, samples: Floats) -> Floats:
    """Each pixel's distance to the nearest of the samples' four main colours (CIELAB units)."""
    picked = np.ascontiguousarray(samples[:: max(1, len(samples) // 4000)])
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 12, 0.5)
    count = min(4, len(picked))
    best = np.zeros((len(picked), 1), dtype=np.int32)
    _, _, centres = cv2.kmeans(picked, count, best, stop, 1, cv2.KMEANS_PP_CENTERS)
    # Shadows change lightness more than hue, so lightness counts less.
    weight = np.array([0.6, 1.0, 1.0], dtype=np.float32)
    nearest = np.full(lab.shape[:2], np.inf, dtype=np.float32)
    for centre in centres:
        np.minimum(nearest, np.linalg.norm((lab - centre) * weight, axis=2), out=nearest)
    return nearest


def _otsu(values: Floats) -> float:
    """Threshold that splits values into two groups best (Otsu 1979)."""
    scaled = np.clip(values * 2.0, 0, 255).astype(np.uint8).reshape(-1, 1)
    level, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(level) / 2.0


def _dithered(small: Bytes, seed: int) -> Bytes:
    """Add faint noise: on perfectly flat colours GrabCut's graph cut takes minutes."""
    noise = np.random.default_rng(seed & 0x7FFFFFFF).integers(-2, 3, small.shape)
    return np.asarray(np.clip(small.astype(np.int16) + noise, 0, 255), np.uint8)


def _grab_cut(small: Bytes, labels: Bytes, rounds: int = 3) -> Bools:
    """Return GrabCut's foreground, or an empty mask where the labels hold only one kind."""
    foreground = (labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD)
    if foreground.sum() < 16 or (~foreground).sum() < 16:  # noqa: PLR2004
        return np.asarray(foreground)
    background, subject = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, small.shape[1], small.shape[0])  # not looked at in this mode
    cv2.grabCut(small, labels, whole, background, subject, rounds, cv2.GC_INIT_WITH_MASK)
    return np.asarray((labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD))


def _second_look(window: Bytes, hint: Bools) -> Bools:
    """Run GrabCut again on the surroundings of a small subject."""
    small = _shrunk(window, _WORK_SIDE)
    size = (small.shape[1], small.shape[0])
    near = cv2.resize(hint.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    labels = np.where(near > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)  # noqa: PLR2004
    reach = max(3, round(0.08 * max(size)))
    far = cv2.dilate((near > 0.05).astype(np.uint8), _disc(reach)) == 0  # noqa: PLR2004
    labels[far] = cv2.GC_BGD
    mask = _clean(_grab_cut(small, labels))
    # A second look that lost or gained too much is worse than none.
    ratio = mask.sum() / max(1, int((near > 0.5).sum()))  # noqa: PLR2004
    return mask if 0.6 < ratio < 1.6 else np.asarray(near > 0.5)  # noqa: PLR2004


def _clean(mask: Bools) -> Bools:
    """Keep the largest piece and fill small holes; real holes (a ring's) stay."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.asarray(labels == 1 + int(np.argmax(areas)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (~kept).astype(np.uint8), connectivity=4
    )
    small = stats[:, cv2.CC_STAT_AREA] < _HOLE_SHARE * kept.sum()
    small[0] = False
    return np.asarray(kept | small[labels])


def _check(mask: Bools, *, raw: Bools) -> float:
    """Return the subject's share of the picture, or refuse the cut-out."""
    share = float(mask.mean())
    if share < _EMPTY_SHARE:
        raise _failure("EMPTY", f"No subject was found in the picture; {_HINT}")
    if share > _FULL_SHARE:
        raise _failure("FULL", f"The subject fills the whole picture; {_HINT}")
    down, across = (max(2, round(0.03 * side)) for side in mask.shape)
    inner = mask[down:-down, across:-across]
    edge = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    if float(edge.mean()) > _BORDER_SHARE:
        raise _failure(
            "TOUCHES_BORDER",
            f"What looks like the subject runs into the picture's border on most sides; {_HINT}",
        )
    _check_pieces(raw)
    return share


def _check_pieces(raw: Bools) -> None:
    """Refuse a mask of several big pieces or of many crumbs."""
    areas = np.sort(
        cv2.connectedComponentsWithStats(raw.astype(np.uint8), connectivity=8)[2][
            1:, cv2.CC_STAT_AREA
        ]
    )[::-1]
    if len(areas) < 2:  # noqa: PLR2004
        return
    rest = float(areas[1:].sum()) / float(areas[0])
    if areas[1] > _PIECE_SHARE * areas[0] or rest > _CRUMBS_SHARE:
        raise _failure(
            "IN_PIECES",
            "The picture seems to show several things, or the subject fell into pieces; "
            f"show a single one, {_HINT}",
        )


def _contrast(small: Bytes, mask: Bools) -> float:
    """Median difference of colour between both sides of the outline (CIELAB units)."""
    lab = _lab(small)
    solid = mask.astype(np.uint8)
    inner = (solid > 0) & (cv2.erode(solid, _disc(4)) == 0)
    outer = (solid == 0) & (cv2.dilate(solid, _disc(4)) > 0)
    inside, outside = (_average(lab, side) for side in (inner, outer))
    line = inner & (cv2.erode(solid, _disc(1)) == 0)
    difference = np.linalg.norm(inside[line] - outside[line], axis=1)
    return float(np.median(difference)) if len(difference) else 0.0


def _average(lab: Floats, where: Bools) -> Floats:
    """Mean of the pixels of `where` about each pixel."""
    weight = where.astype(np.float32)
    total = cv2.GaussianBlur(lab * weight[..., None], (0, 0), 4.0)
    return np.asarray(total / (cv2.GaussianBlur(weight, (0, 0), 4.0)[..., None] + 1e-4))


def _refined(crop: Bytes, hint: Bools) -> Floats:
    """Bring a coarse mask to the crop's resolution, following the picture's own edges."""
    height, width = crop.shape[:2]
    cell = max(height / hint.shape[0], width / hint.shape[1])
    wide = cv2.resize(hint.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    soft = np.asarray(cv2.GaussianBlur(wide, (0, 0), max(0.5, 0.7 * cell)), np.float32)
    matte = guided_filter(crop, soft, radius=max(4, round(2.5 * cell)))
    alpha = np.clip((matte - 0.5) * 2.2 + 0.5, 0.0, 1.0)
    reach = max(2, round(2.0 * cell))  # the outline may move by two coarse pixels, no more
    solid = (soft > 0.5).astype(np.uint8)  # noqa: PLR2004
    alpha[cv2.erode(solid, _disc(reach)) > 0] = 1.0
    alpha[cv2.dilate(solid, _disc(reach)) == 0] = 0.0
    return _framed(_keep(alpha.astype(np.float32), _clean(alpha > 0.5)))  # noqa: PLR2004


def _keep(alpha: Floats, mask: Bools) -> Floats:
    """Drop alpha that belongs to no kept piece, and make filled holes opaque."""
    solid = mask.astype(np.uint8)
    alpha = np.where(cv2.dilate(solid, _disc(2)) > 0, alpha, 0.0)
    inside = np.where(alpha > 0.5, alpha, 1.0)  # noqa: PLR2004
    return np.asarray(np.where(mask, inside, np.minimum(alpha, 0.49)), np.float32)


def _framed(alpha: Floats) -> Floats:
    """Clear the outermost pixels: a subject cut by the picture's border closes there."""
    alpha[:2] = alpha[-2:] = 0.0
    alpha[:, :2] = alpha[:, -2:] = 0.0
    return alpha


def _crop_about(mask: Bools, margin: float) -> tuple[slice, slice]:
    """Return the rows and columns of the mask's box, widened."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    pad = round(margin * max(rows[-1] - rows[0], cols[-1] - cols[0]) + 3)
    return (
        slice(max(0, int(rows[0]) - pad), min(mask.shape[0], int(rows[-1]) + pad + 1)),
        slice(max(0, int(cols[0]) - pad), min(mask.shape[1], int(cols[-1]) + pad + 1)),
    )


def _shrunk(rgb: Bytes, side: int) -> Bytes:
    """Scale so that the longer side has `side` pixels, or up to four times that in a panorama."""
    factor = side / max(rgb.shape[:2])
    factor = max(factor, min(_SHORT_SIDE / min(rgb.shape[:2]), 4.0 * factor))
    size = (max(8, round(rgb.shape[1] * factor)), max(8, round(rgb.shape[0] * factor)))
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, size, interpolation=mode), np.uint8)


def _resized(image: Array, max_side: int) -> Array:
    """Scale so that the longer side lies between 256 and `max_side` pixels."""
    longer = max(image.shape[:2])
    side = min(max(longer, _MIN_SIDE), max_side)
    if side == longer:
        return image
    factor = side / longer
    size = (max(8, round(image.shape[1] * factor)), max(8, round(image.shape[0] * factor)))
    mode = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image, size, interpolation=mode)
    return np.asarray(scaled if scaled.dtype == np.uint8 else np.clip(scaled, 0.0, 1.0))


def _lab(rgb: Bytes) -> Floats:
    """CIELAB with lightness 0…100."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB), np.float32)


def _disc(radius: int) -> Bytes:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2), np.uint8)
