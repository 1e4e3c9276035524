"""From a coarse mask to a fine alpha channel."""

import cv2
import numpy as np

from worker_vm.cutout.raster import Bools, Bytes, Floats, box_of, clean, disc
from worker_vm.guided_filter import guided_filter


def refined(crop: Bytes, hint: Bools) -> Floats:
    """Bring a coarse mask to the crop's resolution, following the picture's own edges."""
    height, width = crop.shape[:2]
    cell = max(height / hint.shape[0], width / hint.shape[1])
    wide = cv2.resize(hint.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    soft = np.asarray(cv2.GaussianBlur(wide, (0, 0), max(0.5, 0.7 * cell)), np.float32)
    matte = guided_filter(crop, soft, radius=max(4, round(2.5 * cell)))
    alpha = np.clip((matte - 0.5) * 2.2 + 0.5, 0.0, 1.0)
    reach = max(2, round(2.0 * cell))  # the outline may move by two coarse pixels, no more
    solid = (soft > 0.5).astype(np.uint8)  # noqa: PLR2004
    alpha[cv2.erode(solid, disc(reach)) > 0] = 1.0
    alpha[cv2.dilate(solid, disc(reach)) == 0] = 0.0
    return framed(keep(alpha.astype(np.float32), clean(alpha > 0.5)))  # noqa: PLR2004


def keep(alpha: Floats, mask: Bools) -> Floats:
    """Drop alpha that belongs to no kept piece, and make filled holes opaque."""
    solid = mask.astype(np.uint8)
    alpha = np.where(cv2.dilate(solid, disc(2)) > 0, alpha, 0.0)
    inside = np.where(alpha > 0.5, alpha, 1.0)  # noqa: PLR2004
    return np.asarray(np.where(mask, inside, np.minimum(alpha, 0.49)), np.float32)


def framed(alpha: Floats) -> Floats:
    """Clear the outermost pixels: a subject cut by the picture's border closes there."""
    alpha[:2] = alpha[-2:] = 0.0
    alpha[:, :2] = alpha[:, -2:] = 0.0
    return alpha


def crop_about(mask: Bools, margin: float) -> tuple[slice, slice]:
    """Return the rows and columns of the mask's box, widened by a share of its longer side."""
    longer = max(part.stop - part.start - 1 for part in box_of(mask, 0))
    return box_of(mask, round(margin * longer + 3))
