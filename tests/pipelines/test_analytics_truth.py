"""How near to the truth tracks and events come, in scenes that are drawn."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bench.truth_video import drawing, measures, runs, scenes
from bench.truth_video.drawing import Drawn
from worker_vm.analytics.motion import MotionDetector
from worker_vm.analytics.tracking import TRACKER_NAMES

FRAME_S = 1 / scenes.RATE
SEED = 21
"""Nothing was tuned on it."""


@pytest.fixture(scope="module", params=scenes.names())
def drawn(request: pytest.FixtureRequest) -> tuple[scenes.Scene, Sequence[Drawn]]:
    """A scene, and its frames with what is known about them."""
    scene = scenes.make(request.param, SEED)
    return scene, list(drawing.draw(scene))


@pytest.mark.parametrize("tracker", TRACKER_NAMES)
def test_true_boxes(drawn: tuple[scenes.Scene, Sequence[Drawn]], tracker: str) -> None:
    """With true boxes nearly all ids are right, and all events, within one frame."""
    scene, frames = drawn
    zones = runs.zones_of(scene)
    figures, _ = runs.analyse(frames, zones, runs.Oracle(frames), tracker, FRAME_S)
    assert figures.idf1 >= 0.95
    assert (figures.events_found, figures.events_wrong) == (figures.events, 0)


@pytest.mark.parametrize("tracker", TRACKER_NAMES)
def test_rough_boxes(drawn: tuple[scenes.Scene, Sequence[Drawn]], tracker: str) -> None:
    """So it is with boxes that tremble and are missing at times; events within three frames."""
    scene, frames = drawn
    rough = runs.Oracle(frames, missing=0.05, tremble=1.0, seed=4)
    figures, _ = runs.analyse(frames, runs.zones_of(scene), rough, tracker, 3 * FRAME_S)
    assert figures.idf1 >= 0.9
    assert (figures.events_found, figures.events_wrong) == (figures.events, 0)


@pytest.mark.parametrize("name", ["crossing", "shaking", "shadows", "lighting"])
def test_motion_detector(name: str) -> None:
    """What moves is found, told apart and followed, without anything learnt beforehand."""
    scene = scenes.make(name, 11)
    frames = list(drawing.draw(scene))
    detector = MotionDetector()
    runs.warm_up(detector, frames)
    figures, _ = runs.analyse(frames, runs.zones_of(scene), detector, "bytetrack", 0.4)
    assert figures.mota > 0.85
    assert figures.idf1 > 0.9
    assert figures.events_found >= figures.events - 1
    assert figures.events_wrong <= 2


def test_measures_can_fail() -> None:
    """The measures see what is missed: without detections nothing is right."""
    scene = scenes.make("crossing", SEED)
    blank = np.zeros((1, 1, 3), np.uint8)
    frames = [replace(one, picture=blank) for one in drawing.draw(scene)]
    blind = runs.Oracle(frames, missing=3.0)
    figures, _ = runs.analyse(frames, runs.zones_of(scene), blind, "bytetrack", FRAME_S)
    assert figures.mota < 0.7
    truth = measures.true_crossings(frames, runs.zones_of(scene))
    assert len(truth) == figures.events > 0
