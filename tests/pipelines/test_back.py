"""What the back of a model shows."""

import cv2
import numpy as np

from worker_vm.pipelines.inflate.back import back_colours, symmetry

SIZE = 300


def round_face() -> tuple[np.ndarray, np.ndarray]:
    """A yellow disc with two black eyes and a red belt that runs over its rim, and its alpha."""
    rgb = np.full((SIZE, SIZE, 3), (240, 200, 60), np.uint8)
    for x in (110, 190):
        cv2.circle(rgb, (x, 110), 14, (20, 20, 20), -1)
    cv2.rectangle(rgb, (0, 180), (SIZE, 215), (200, 40, 40), -1)
    y, x = np.mgrid[:SIZE, :SIZE]
    return rgb, np.clip(130.5 - np.hypot(x - 150, y - 150), 0, 1).astype(np.float32)


def test_a_face_stays_in_front() -> None:
    """Of a symmetrical subject the eyes are not repeated behind, and the belt is."""
    rgb, alpha = round_face()
    back = back_colours(rgb, alpha, "auto").astype(int)
    assert np.abs(back[110, 110] - (240, 200, 60)).max() < 12
    assert np.abs(back[197, 150] - (200, 40, 40)).max() < 12


def test_a_side_view_has_two_sides() -> None:
    """Of a lopsided subject, and wherever asked, the back shows all of the front."""
    rgb, alpha = round_face()
    assert np.array_equal(back_colours(rgb, alpha, "mirror"), rgb)
    alpha[60:150, 150:] = 0.0
    alpha[200:, :150] = 0.0
    assert symmetry(alpha) < 0.8
    assert np.array_equal(back_colours(rgb, alpha, "auto"), rgb)


def test_symmetry_is_found_off_the_middle() -> None:
    """A symmetrical outline is one wherever it stands in the cut-out."""
    _, alpha = round_face()
    assert symmetry(np.roll(alpha, 17, axis=1)) > 0.99
