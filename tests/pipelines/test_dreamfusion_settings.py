"""Parameters and settings of `dreamfusion`, and why a machine cannot run it."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from app.catalog.parameters import default_parameters
from app.initial_data import SEEDS
from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.dreamfusion import settings
from worker_vm.pipelines.dreamfusion.parameters import Parameters, read_parameters, smaller
from worker_vm.pipelines.dreamfusion.pipeline import DreamFusionPipeline

SCHEMA: dict[str, Any] = next(
    model["parameters"]
    for model in json.loads(SEEDS.read_text())
    if model["id"] == "dreamfusion-sd"
)


def test_catalog_and_pipeline_agree() -> None:
    """The same names and defaults, and every limit of the catalog is one of the pipeline."""
    assert default_parameters(SCHEMA) == Parameters().model_dump(mode="json")
    for name, rules in SCHEMA["properties"].items():
        for end, beyond in (("minimum", -1), ("maximum", 1)):
            if end not in rules:
                continue
            assert read_parameters(_with(name, rules[end]))
            with pytest.raises(PipelineError):
                read_parameters({name: rules[end] + beyond})
        for value in rules.get("enum", []):
            assert read_parameters({name: value})


def _with(name: str, value: Any) -> dict[str, Any]:
    """A parameter at its limit, with the others so that they fit."""
    ends = {"min_timestep": 0.0, "last_max_timestep": 0.5, "max_timestep": 1.0}
    if name == "max_timestep" and value == 0.0:
        ends |= {"last_max_timestep": 0.0}
    if name == "min_timestep" and value == 1.0:
        ends |= {"last_max_timestep": 1.0}
    return {**ends, name: value} if name in ends else {name: value}


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 99},
        {"steps": "many"},
        {"guidance_scale": float("nan")},
        {"resolution": 100},
        {"min_timestep": 0.9},
        {"unknown": 1},
        {"seed": -1},
        {"negative_prompt": "x" * 2001},
    ],
)
def test_wrong_parameters_are_named(given: dict[str, Any]) -> None:
    """Each is refused for good, by name."""
    with pytest.raises(PipelineError) as caught:
        read_parameters(given)
    assert caught.value.code == "INVALID_PARAMETERS"
    assert caught.value.permanent
    assert next(iter(given)) in caught.value.message


def test_less_memory() -> None:
    """Out of memory, renderings and grid become smaller, until there is nothing to save."""
    asked = {"resolution": 256, "views_per_step": 4, "steps": 300}
    less = smaller(asked)
    assert less == {"resolution": 64, "views_per_step": 1, "steps": 300, "grid_resolution": 96}
    least = smaller(less)
    assert least is not None
    assert least["grid_resolution"] == 64
    assert smaller(least) is None
    assert DreamFusionPipeline().smaller_params(asked) == less


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "DREAMFUSION_MODEL is not set"),
        ({"DREAMFUSION_MODEL": "/nowhere"}, "does not exist"),
        ({"DREAMFUSION_DEVICE": "tpu"}, "DREAMFUSION_DEVICE must be"),
        ({"DREAMFUSION_DEVICE": "cuda:x"}, "DREAMFUSION_DEVICE must be"),
        ({"DREAMFUSION_COMPILE": "perhaps"}, "DREAMFUSION_COMPILE must be"),
    ],
)
def test_what_is_missing_is_said(environment: dict[str, str], words: str) -> None:
    """Each missing or malformed setting is a sentence."""
    reasons = settings.unavailable_reasons({"DREAMFUSION_DEVICE": "cpu", **environment})
    assert [reason for reason in reasons if words in reason]


def test_wrong_folder_is_told_from_a_model(tmp_path: Path) -> None:
    """A folder that is no model of diffusers says what it lacks."""
    (tmp_path / "unet").mkdir()
    (reason,) = settings.unavailable_reasons(
        {"DREAMFUSION_DEVICE": "cpu", "DREAMFUSION_MODEL": str(tmp_path)}
    )
    assert "has no vae, text_encoder, tokenizer, scheduler" in reason


def test_gpu_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a driver, with all GPUs hidden or with torch for CPUs, that is the reason."""
    environment = {"DREAMFUSION_MODEL": "someone/some-model"}
    monkeypatch.setattr(settings, "_DRIVERS", (str(tmp_path / "none"),))
    monkeypatch.setattr(settings, "version", lambda _: "2.13.0+cpu")
    none, build = settings.unavailable_reasons(environment)
    assert "no GPU driver" in none
    assert "build for CPUs" in build
    monkeypatch.setattr(settings, "_DRIVERS", (str(tmp_path),))
    monkeypatch.setattr(settings, "version", lambda _: "2.13.0+cu130")
    assert settings.unavailable_reasons(environment) == []
    (hidden,) = settings.unavailable_reasons({**environment, "CUDA_VISIBLE_DEVICES": "-1"})
    assert "hides every GPU" in hidden


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how to install them."""
    monkeypatch.setattr(settings, "find_spec", lambda _: None)
    reasons = " ".join(settings.unavailable_reasons({"DREAMFUSION_DEVICE": "cpu"}))
    assert "'diffusers' is not installed (poetry install --only worker,diffusion)" in reasons
    assert "'torch' is not installed (pip install torch" in reasons
    assert "'manifold3d' is not installed." in reasons


def test_the_tests_have_what_they_need() -> None:
    """Without torch and diffusers nothing of this is proven."""
    assert version("torch")
    assert version("diffusers")
