"""What moves is found before a background that trembles, brightens and was learnt wrongly."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker_vm.analytics.background import SAMPLES, Background
from worker_vm.analytics.boxes import Detections
from worker_vm.analytics.camera import CameraShake
from worker_vm.analytics.motion import MotionDetector

Picture = NDArray[np.uint8]
WIDTH, HEIGHT = 320, 180
RATE = 25.0


def wall(height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """A wall with a pattern that is coarse enough to survive being reduced."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(60, 190, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(12, 0).repeat(12, 1)[:height, :width])


def with_box(
    ground: Picture, x: int, y: int = 60, colour: tuple[int, ...] = (10, 240, 250)
) -> Picture:
    picture = ground.copy()
    picture[y : y + 60, x : x + 24] = colour
    return picture


def warm(ground: Picture) -> MotionDetector:
    detector = MotionDetector()
    detector.warm_up([ground] * SAMPLES)
    return detector


def walk(detector: MotionDetector, ground: Picture, frames: int = 12) -> list[Detections]:
    return [detector.detect(with_box(ground, 40 + 4 * n), n, n / RATE) for n in range(frames)]


def box_of(detections: Detections) -> list[float]:
    (box,) = detections.xyxy.tolist()
    return list(box)


def test_moving_box_is_found() -> None:
    """From its third frame on, a thing is found where it is."""
    found = walk(warm(wall()), wall())
    assert [len(one) for one in found] == [0, 0] + [1] * 10
    assert box_of(found[-1]) == pytest.approx([84, 60, 108, 120], abs=3)
    assert (found[-1].confidence[0], found[-1].class_id[0]) == (pytest.approx(0.9), 0)
    assert MotionDetector.names[0] == "moving"


def test_still_scene() -> None:
    """Nothing is found in noise."""
    rng = np.random.default_rng(1)
    detector = warm(wall())
    for number in range(20):
        noisy = np.clip(wall() + rng.normal(0, 5, wall().shape), 0, 255).astype(np.uint8)
        assert len(detector.detect(noisy, number, number / RATE)) == 0


def test_without_warming_up() -> None:
    """The first frame serves as the background, if that is all there is."""
    detector = MotionDetector()
    detector.detect(wall(), 0, 0.0)
    found = [detector.detect(with_box(wall(), 40 + 4 * n), n, n / RATE) for n in range(1, 12)]
    assert box_of(found[-1]) == pytest.approx([84, 60, 108, 120], abs=3)


def test_same_frames_same_answers() -> None:
    """There is no chance in it."""
    once, again = (walk(warm(wall()), wall()) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        assert np.array_equal(one.xyxy, other.xyxy)


def test_boxes_in_pixels_of_the_frame() -> None:
    """Large frames are reduced; the boxes are not."""
    large = wall(720, 1280)
    detector = warm(large)
    for number in range(6):
        picture = large.copy()
        left = 200 + 8 * number
        picture[200:440, left : left + 90] = (10, 240, 250)
        found = detector.detect(picture, number, number / RATE)
    assert box_of(found) == pytest.approx([240, 200, 330, 440], abs=6)


def shifted(picture: Picture, x: int, y: int) -> Picture:
    return np.roll(picture, (y, x), (0, 1))


def test_trembling_camera() -> None:
    """A camera that trembles sees no motion but that of the box."""
    rng = np.random.default_rng(2)
    detector = warm(wall())
    for number in range(12):
        x, y = rng.integers(-4, 5, 2).tolist()
        found = detector.detect(
            shifted(with_box(wall(), 40 + 4 * number), x, y), number, number / RATE
        )
    assert box_of(found) == pytest.approx([84 + x, 60 + y, 108 + x, 120 + y], abs=4)


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-7, 5)])
def test_shift_is_measured(shift: tuple[int, int]) -> None:
    """The shift is found within a third of a pixel, in less light too."""
    darker = (shifted(wall(), *shift) * 0.7).astype(np.uint8)
    assert CameraShake(wall()).shift(darker, None) == pytest.approx(shift, abs=0.34)


def test_light_changes() -> None:
    """Less light on everything is no motion."""
    detector = warm(wall())
    for number in range(12):
        dark = (with_box(wall(), 40 + 4 * number) * 0.6).astype(np.uint8)
        found = detector.detect(dark, number, number / RATE)
    assert box_of(found) == pytest.approx([84, 60, 108, 120], abs=3)


def test_shadow_is_no_part_of_the_thing() -> None:
    """What is only darker, beside the thing, does not widen its box."""
    detector = warm(wall())
    for number in range(12):
        picture = with_box(wall(), 40 + 4 * number)
        left = 64 + 4 * number
        picture[100:120, left : left + 40] = picture[100:120, left : left + 40] * 0.6
        found = detector.detect(picture, number, number / RATE)
    assert box_of(found) == pytest.approx([84, 60, 108, 120], abs=6)


def test_two_that_cross_stay_two() -> None:
    """While two pass each other, both are found."""
    detector, colours = warm(wall()), ((10, 240, 250), (240, 20, 20))
    counts = []
    for number in range(50):
        picture = with_box(wall(), 40 + 4 * number, 60, colours[0])
        picture = with_box(picture, 240 - 4 * number, 66, colours[1])
        counts.append(len(detector.detect(picture, number, number / RATE)))
    assert counts[2:20] == [2] * 18
    assert counts[30:] == [2] * 20
    assert counts[20:30].count(2) >= 6


def test_ghost_is_seen_through() -> None:
    """Where the background was learnt with someone in it, his absence is no thing for long."""
    detector = warm(with_box(wall(), 150))
    found = [len(detector.detect(wall(), number, number / RATE)) for number in range(25)]
    assert found[-1] == 0


def test_another_scene_is_learnt_anew() -> None:
    """After a cut to something else, motion is found there."""
    detector = warm(wall())
    other = np.ascontiguousarray(255 - wall()[::-1, ::-1])
    for number in range(20):
        detector.detect(other, number, number / RATE)
    found = [
        detector.detect(with_box(other, 40 + 4 * n, colour=(0, 0, 255)), 20 + n, (20 + n) / RATE)
        for n in range(12)
    ]
    assert box_of(found[-1]) == pytest.approx([84, 60, 108, 120], abs=3)


def test_what_stays_belongs_to_the_scene() -> None:
    """What has stood still for minutes is background."""
    detector = warm(wall())
    found = [len(detector.detect(with_box(wall(), 150), n, 2.0 * n)) for n in range(90)]
    assert found[20] == 1
    assert found[-1] == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (16, 9), (33, 47), (2000, 3)])
def test_any_size(size: tuple[int, int]) -> None:
    """Pictures of odd sizes are taken."""
    detector = MotionDetector()
    for number in range(4):
        picture = np.full((*size, 3), 60 * number, np.uint8)
        detections = detector.detect(picture, number, number / RATE)
    assert detections.xyxy.shape == (len(detections), 4)


def test_background_is_bounded() -> None:
    """However long a video, so many samples are kept and no more."""
    background = Background([wall()])
    nothing = np.zeros((HEIGHT, WIDTH), np.uint8)
    gain = np.ones(3, np.float32)
    taken = sum(background.learn(wall(), nothing, gain, number / 5) for number in range(200))
    assert taken < 60
    assert background._samples.shape[0] == SAMPLES
