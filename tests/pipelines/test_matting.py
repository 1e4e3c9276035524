"""A cut-out that the operator plugs in."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from worker_vm.cutout import Hints, cut_out
from worker_vm.matting import SETTING, with_alpha
from worker_vm.pipelines.base import PipelineError

HALF = np.zeros((64, 64), np.uint8)
HALF[16:48, 20:40] = 255
OPAQUE = np.full((64, 64, 4), 255, np.uint8)


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A module of functions that cut out, well and badly; the environment names none of them."""

    def fail(rgb: np.ndarray) -> np.ndarray:
        raise RuntimeError("no model")

    functions: dict[str, Any] = {
        "bytes_": lambda _: HALF,
        "numbers": lambda _: HALF / 255.0,
        "shapeless": lambda _: HALF[:-1],
        "nothing": lambda _: np.full(HALF.shape, np.nan),
        "text": lambda _: "alpha",
        "fail": fail,
    }
    module = ModuleType("plugged_matting")
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return {}


@pytest.mark.parametrize("name", ["bytes_", "numbers"])
def test_alpha_is_taken(plug: dict[str, str], name: str) -> None:
    """Bytes or fractions become the picture's transparency, and the cut-out is made of it."""
    rgba = with_alpha(OPAQUE, {SETTING: f"plugged_matting:{name}"})
    assert np.array_equal(rgba[..., 3], HALF)
    assert np.array_equal(rgba[..., :3], OPAQUE[..., :3])
    assert cut_out(rgba, hints=Hints(), seed=0, max_side=256).quality.source == "alpha"


def test_a_picture_s_own_transparency_wins(plug: dict[str, str]) -> None:
    """Whoever sends a cut-out gets that one."""
    own = np.dstack([OPAQUE[..., :3], HALF.T])
    assert with_alpha(own, {SETTING: "plugged_matting:bytes_"}) is own


def test_without_the_setting_nothing_happens() -> None:
    """Ours cuts out."""
    assert with_alpha(OPAQUE, {}) is OPAQUE


@pytest.mark.parametrize(
    "where",
    [
        "plugged_matting:shapeless", "plugged_matting:nothing", "plugged_matting:text",
        "plugged_matting:fail", "plugged_matting:absent", "no_such_module:f", "malformed",
    ],
)  # fmt: skip
def test_a_plug_in_that_fails_is_told(plug: dict[str, str], where: str) -> None:
    """It is the operator's to repair, so that the job may be tried again."""
    with pytest.raises(PipelineError) as caught:
        with_alpha(OPAQUE, {SETTING: where})
    assert caught.value.code == "CUTOUT_PLUGIN_FAILED"
    assert not caught.value.permanent
