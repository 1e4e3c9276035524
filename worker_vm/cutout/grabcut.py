"""GrabCut (Rother et al. 2004) with the settings that all seeds share."""

import cv2
import numpy as np

from worker_vm.cutout.raster import WORK_SIDE, Bools, Bytes, clean, disc, shrunk


def dithered(small: Bytes, seed: int) -> Bytes:
    """Add faint noise: on perfectly flat colours GrabCut's graph cut takes minutes."""
    noise = np.random.default_rng(seed & 0x7FFFFFFF).integers(-2, 3, small.shape)
    return np.asarray(np.clip(small.astype(np.int16) + noise, 0, 255), np.uint8)


def grab_cut(small: Bytes, labels: Bytes, rounds: int = 3) -> Bools:
    """Return GrabCut's foreground, or an empty mask where the labels hold only one kind."""
    foreground = (labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD)
    if foreground.sum() < 16 or (~foreground).sum() < 16:  # noqa: PLR2004
        return np.asarray(foreground)
    background, subject = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, small.shape[1], small.shape[0])  # not looked at in this mode
    # OpenCV's generator is the whole process's: who draws from it begins it, or the same picture
    # gets another result in the second run of a process.
    cv2.setRNGSeed(1)
    cv2.grabCut(small, labels, whole, background, subject, rounds, cv2.GC_INIT_WITH_MASK)
    return np.asarray((labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD))


def second_look(window: Bytes, hint: Bools) -> Bools:
    """Run GrabCut again on the surroundings of a small subject."""
    small = shrunk(window, WORK_SIDE)
    size = (small.shape[1], small.shape[0])
    near = cv2.resize(hint.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    labels = np.where(near > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)  # noqa: PLR2004
    reach = max(3, round(0.08 * max(size)))
    far = cv2.dilate((near > 0.05).astype(np.uint8), disc(reach)) == 0  # noqa: PLR2004
    labels[far] = cv2.GC_BGD
    mask = clean(grab_cut(small, labels))
    # A second look that lost or gained too much is worse than none.
    ratio = mask.sum() / max(1, int((near > 0.5).sum()))  # noqa: PLR2004
    return mask if 0.6 < ratio < 1.6 else np.asarray(near > 0.5)  # noqa: PLR2004
