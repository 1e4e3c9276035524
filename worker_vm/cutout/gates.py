"""When a cut-out is refused, and with which advice."""

import cv2
import numpy as np

from worker_vm.cutout.raster import Bools
from worker_vm.pipelines.base import PipelineError

ADVICE = "send a PNG with a transparent background, or give the subject's `box` or `points`"

# Shares of the picture, tried on synthetic scenes (tests/pipelines/test_cutout.py).
EMPTY_SHARE = 0.0008
_FULL_SHARE = 0.88
_BORDER_SHARE = 0.40
_PIECE_SHARE = 0.15
_CRUMBS_SHARE = 0.30


def failure(code: str, sentence: str) -> PipelineError:
    """Make the error of a refused cut-out."""
    return PipelineError(f"CUTOUT_{code}", f"{sentence}.", permanent=True)


def nothing_found() -> PipelineError:
    """Make the error for a picture without a subject."""
    return failure(
        "EMPTY", f"Nothing stands out from the colours along the picture's border; {ADVICE}"
    )


def unreliable() -> PipelineError:
    """Make the error for a cut-out below the quality gate."""
    return failure("UNRELIABLE", f"The subject hardly differs from the background; {ADVICE}")


def points_missed() -> PipelineError:
    """Make the error for points that lie beside every subject."""
    return failure(
        "POINTS_MISSED",
        "None of the `points` lies on a subject; give them as x and y in fractions of the picture, "
        "from its upper left corner",
    )


def check(mask: Bools, *, raw: Bools) -> float:
    """Return the subject's share of the picture, or refuse the cut-out.

    Args:
        mask: the subject.
        raw: the same before all but one piece was dropped.
    """
    share = float(mask.mean())
    if share < EMPTY_SHARE:
        raise failure("EMPTY", f"No subject was found in the picture; {ADVICE}")
    if share > _FULL_SHARE:
        raise failure("FULL", f"The subject fills the whole picture; {ADVICE}")
    down, across = (max(2, round(0.03 * side)) for side in mask.shape)
    inner = mask[down:-down, across:-across]
    edge = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    if float(edge.mean()) > _BORDER_SHARE:
        raise failure(
            "TOUCHES_BORDER",
            f"What looks like the subject runs into the picture's border on most sides; {ADVICE}",
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
        raise failure(
            "IN_PIECES",
            "The picture seems to show several things, or the subject fell into pieces; "
            f"show a single one, {ADVICE}",
        )
