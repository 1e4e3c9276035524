"""Where an automatic cut-out starts: several guesses, of which the best score is taken."""

from collections.abc import Callable

import cv2
import numpy as np

from worker_vm.cutout.grabcut import dithered, grab_cut
from worker_vm.cutout.hints import Hints
from worker_vm.cutout.raster import Bools, Bytes, Floats, closed, disc, lab, otsu

FOREIGN = 5.0
"""CIELAB units beyond the background's own colours that count as the subject's."""
_FINE = 1.2
_COARSE = 6.0  # pixels: the grain of grass or gravel is gone
_FLAT_NOISE = 3.0  # CIELAB units: below, the background is one smooth sheet
_FLAT_LEAST = 1.6


class Scene:
    """A small picture, what may be the subject in it, and how foreign each pixel is."""

    def __init__(self, small: Bytes, hints: Hints, seed: int) -> None:
        self.small = small
        self.lab = lab(small)
        self.seed = seed
        height, width = small.shape[:2]
        strip = min(max(2, round(0.02 * max(height, width))), min(height, width) // 4)
        off_border = np.zeros((height, width), dtype=bool)
        off_border[strip:-strip, strip:-strip] = True
        self.allowed: Bools = off_border & hints.allowed(small.shape)
        self.wanted = hints.wanted(small.shape)
        self.foreign = _foreignness(small, self.allowed, _FINE)

    def labelled(self, guess: Bools) -> Bytes:
        """GrabCut's starting labels, with what the caller said made certain."""
        labels = np.where(guess, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[~self.allowed] = cv2.GC_BGD
        if self.wanted is not None:
            labels[self.wanted] = cv2.GC_FGD
        return labels


def border_colours(scene: Scene) -> Bools:
    """Begin with the colours that are not found along the border."""
    # Half of Otsu's level: the pale parts of a colourful subject count as well.
    level = min(max(0.5 * otsu(scene.foreign[scene.allowed]), 2.0), 7.0)
    labels = scene.labelled(scene.foreign > level)
    return _fill_holes(grab_cut(dithered(scene.small, scene.seed), labels), scene.foreign, FOREIGN)


def flat_backdrop(scene: Scene) -> Bools:
    """Take all that differs from a smooth sheet of colour through the border, without GrabCut.

    On plain paper even a pale part of the subject differs by more than the paper itself does.
    """
    away = np.linalg.norm(scene.lab - _sheet(scene.lab, ~scene.allowed), axis=2)
    noise = float(np.percentile(away[~scene.allowed], 90))
    if noise > _FLAT_NOISE:
        return np.zeros(away.shape, dtype=bool)
    away = np.asarray(cv2.GaussianBlur(away.astype(np.float32), (0, 0), 0.7))
    level = max(2.0 * noise, _FLAT_LEAST)
    mask = closed((away > level) & scene.allowed, 2)
    return _fill_holes(mask, np.asarray(away, np.float32), level)


def salient(scene: Scene) -> Bools:
    """Begin with what stands out once the picture is too blurred to show its textures."""
    foreign = _foreignness(scene.small, scene.allowed, _COARSE)
    guess = (foreign > max(otsu(foreign[scene.allowed]), 2.0)) & scene.allowed
    labels = scene.labelled(guess)
    reach = round(1.5 * _COARSE)
    far = cv2.dilate(guess.astype(np.uint8), disc(reach)) == 0
    core = cv2.erode(guess.astype(np.uint8), disc(reach)) > 0
    labels[far & (labels != cv2.GC_FGD)] = cv2.GC_BGD
    labels[core] = cv2.GC_FGD
    smooth = np.asarray(cv2.medianBlur(scene.small, 5), np.uint8)
    return grab_cut(dithered(smooth, scene.seed), labels)


def middle(scene: Scene) -> Bools:
    """Begin with an ellipse about the middle of what is foreign to the border."""
    weight = scene.foreign * scene.allowed
    # Hardly anything is foreign: the middle of what is allowed.
    weight = weight + scene.allowed * max(0.1 * float(weight.max()), 1.0) ** 2 * 0.02
    y, x = np.indices(weight.shape)
    total = float(weight.sum()) + 1e-9
    (mean_y, std_y), (mean_x, std_x) = (
        (middle_, np.sqrt(float((weight * (axis - middle_) ** 2).sum()) / total) + 2.0)
        for axis, middle_ in ((a, float((weight * a).sum()) / total) for a in (y, x))
    )
    # An even ellipse has radii of twice its spread.
    inside = ((x - mean_x) / (2.0 * std_x)) ** 2 + ((y - mean_y) / (2.0 * std_y)) ** 2 < 1.0
    return grab_cut(dithered(scene.small, scene.seed), scene.labelled(np.asarray(inside)))


SEEDS: dict[str, Callable[[Scene], Bools]] = {
    "border": border_colours,
    "flat": flat_backdrop,
    "salient": salient,
    "middle": middle,
}


def _foreignness(small: Bytes, inside: Bools, blur: float) -> Floats:
    """How far each colour is from all colours outside (CIELAB units over their own spread)."""
    colours = lab(np.asarray(cv2.GaussianBlur(small, (0, 0), blur), np.uint8))
    distance = _distance_from(colours, colours[~inside])
    spread = float(np.percentile(distance[~inside], 95))
    return np.asarray(np.maximum(distance - spread, 0.0))


def _distance_from(colours: Floats, samples: Floats) -> Floats:
    """Each pixel's distance to the nearest of the samples' four main colours (CIELAB units)."""
    picked = np.ascontiguousarray(samples[:: max(1, len(samples) // 4000)])
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 12, 0.5)
    count = min(4, len(picked))
    best = np.zeros((len(picked), 1), dtype=np.int32)
    cv2.setRNGSeed(1)  # see grab_cut
    _, _, centres = cv2.kmeans(picked, count, best, stop, 1, cv2.KMEANS_PP_CENTERS)
    # Shadows change lightness more than hue, so lightness counts less.
    weight = np.array([0.6, 1.0, 1.0], dtype=np.float32)
    nearest = np.full(colours.shape[:2], np.inf, dtype=np.float32)
    for centre in centres:
        np.minimum(nearest, np.linalg.norm((colours - centre) * weight, axis=2), out=nearest)
    return nearest


def _sheet(colours: Floats, known: Bools) -> Floats:
    """Fit a quadratic in x and y through the known colours, and return it everywhere."""
    height, width = known.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    solution, *_ = np.linalg.lstsq(terms[known], colours[known], rcond=None)
    return np.asarray(terms @ solution, np.float32)


def _fill_holes(mask: Bools, foreign: Floats, level: float) -> Bools:
    """Fill holes that do not show the background (an eye, a stripe), after closing thin slits."""
    filled = np.asarray(mask | (closed(mask, 2) & (foreign > level)))
    count, labels = cv2.connectedComponents((~filled).astype(np.uint8), connectivity=4)
    if count <= 1:
        return filled
    outside = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    for hole in set(range(1, count)) - set(outside.tolist()):
        where = labels == hole
        if float(np.median(foreign[where])) > level:
            filled |= where
    return filled
