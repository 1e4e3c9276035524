"""The real loading code and the real guidance, on a Stable Diffusion that the test makes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from dreamfusion_runs import job, run
from tiny_diffusion import LENGTH, save_tiny_diffusion

from tests.support.gltf_validator import gltf_errors
from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.dreamfusion import cameras, diffusion_model, settings
from worker_vm.pipelines.dreamfusion.cameras import Shading
from worker_vm.pipelines.dreamfusion.diffusion_model import DiffusionModel
from worker_vm.pipelines.dreamfusion.guidance import TimestepRange
from worker_vm.pipelines.dreamfusion.guidance_sd import StableDiffusionGuidance
from worker_vm.pipelines.dreamfusion.pipeline import DreamFusionPipeline
from worker_vm.pipelines.dreamfusion.prompts import tokenize

LONG = "a red cat of a red cat of a red cat of a red cat"
PREDICTIONS = ("epsilon", "v_prediction")


def environment(folder: Path) -> dict[str, str]:
    return {"DREAMFUSION_MODEL": str(folder), "DREAMFUSION_DEVICE": "cpu"}


def load(folder: Path) -> DiffusionModel:
    return diffusion_model.load(settings.read_settings(environment(folder)))


def refusal(folder: Path) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        load(folder)
    assert caught.value.permanent  # a folder that lies on this machine
    assert str(folder) not in caught.value.message
    return caught.value


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        kind: save_tiny_diffusion(
            tmp_path_factory.mktemp(kind) / "tiny", scheduler={"prediction_type": kind}
        )
        for kind in PREDICTIONS
    }


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, DiffusionModel]:
    return {kind: load(folder) for kind, folder in folders.items()}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["epsilon"], tmp_path / "copy"))


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_model_is_read_as_it_was_saved(models: dict[str, DiffusionModel], kind: str) -> None:
    """Prediction type, picture size and noise schedule come from the model's own files."""
    model = models[kind]
    assert model.prediction_type == kind
    assert model.side == 16
    assert model.name == "tiny"
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    torch.testing.assert_close(model.schedule.alphas_cumprod, scheduler.alphas_cumprod)
    assert not any(part.requires_grad for part in model.unet.parameters())


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_noise_is_what_the_library_makes_of_the_output(
    models: dict[str, DiffusionModel], kind: str
) -> None:
    """The picture that follows from our noise is the one that diffusers' own step arrives at."""
    model = models[kind]
    torch.manual_seed(0)
    noisy, embeddings = torch.randn(1, 4, 8, 8), torch.randn(1, LENGTH, 16)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        prediction_type=kind, clip_sample=False,
    )  # fmt: skip
    timestep = torch.tensor([400])
    with torch.no_grad():
        noise = model.noise(noisy, timestep, embeddings)
        output = model.unet(noisy, timestep, encoder_hidden_states=embeddings).sample
    scheduler.set_timesteps(1000)
    expected = scheduler.step(output, 400, noisy).pred_original_sample
    alpha, sigma = model.schedule.alpha_sigma(timestep)
    torch.testing.assert_close((noisy - sigma * noise) / alpha, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_guidance_leads_away_from_the_negative_prompt(
    models: dict[str, DiffusionModel], kind: str
) -> None:
    """At scale s the noise is u + s (c - u), with the prompt of the view's side."""
    model = models[kind]
    prompt = tokenize(model.tokenizer, "a cat", "red", view_prompts=True, truncate=False)
    angles = torch.deg2rad(torch.tensor([180.0, 0.0, 40.0]))
    views = cameras.look_from(angles[0:1], angles[1:2], torch.tensor([3.0]), angles[2:3], size=16)
    torch.manual_seed(0)
    noisy, timestep = torch.randn(1, 4, 8, 8), torch.tensor([500])
    guidance = StableDiffusionGuidance(model, prompt, 7.5, TimestepRange())
    with torch.no_grad():
        found = guidance.predict_noise(noisy, timestep, views)
        back, _, _ = (model.text_embeddings(prompt.sides[i : i + 1]) for i in (2, 0, 1))
        towards = model.noise(noisy, timestep, back)
        away = model.noise(noisy, timestep, model.text_embeddings(prompt.negative))
    torch.testing.assert_close(found, away + 7.5 * (towards - away), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_gradient_reaches_the_picture(models: dict[str, DiffusionModel], kind: str) -> None:
    """Through the encoder, from latents to pixels, and it is the one that the loss states."""
    model = models[kind]
    prompt = tokenize(model.tokenizer, "a cat", "", view_prompts=True, truncate=False)
    guidance = StableDiffusionGuidance(model, prompt, 20.0, TimestepRange())
    views = cameras.sample_views(
        2, size=24, shading=Shading.ALBEDO, generator=torch.Generator().manual_seed(0)
    )
    images = torch.rand(2, 3, 24, 24, requires_grad=True)
    guidance.loss(images, views, done=0.5, generator=torch.Generator().manual_seed(1)).backward()
    assert images.grad is not None
    assert bool(torch.isfinite(images.grad).all())
    assert float(images.grad.abs().max()) > 0.0
    # The same gradient, by the chain rule from the latents.
    again = images.detach().requires_grad_(requires_grad=True)
    latents = guidance.encode(again)
    draws = torch.Generator().manual_seed(1)
    first, last = guidance.timesteps.at(0.5, 1000)
    timesteps = torch.randint(first, last + 1, (2,), generator=draws)
    noise = torch.randn(latents.shape, generator=draws)
    alpha, sigma = guidance.schedule.alpha_sigma(timesteps)
    with torch.no_grad():
        found = guidance.predict_noise(alpha * latents + sigma * noise, timesteps, views)
    (expected,) = torch.autograd.grad(latents, again, sigma**2 * (found - noise) / 2.0)
    torch.testing.assert_close(images.grad, expected, atol=1e-6, rtol=1e-3)


def test_pipeline_runs_to_a_valid_file(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `setup()` to a GLB with the model's facts in the manifest; what it shows is noise."""
    for name, value in environment(folders["v_prediction"]).items():
        monkeypatch.setenv(name, value)
    assert DreamFusionPipeline.unavailable_reasons() == []
    pipeline = DreamFusionPipeline()
    pipeline.setup()
    outcome = run(
        pipeline,
        job(tmp_path, prompt=LONG, truncate=True, steps=100, learning_rate=0.01),
    )
    assert outcome.manifest["guidance"] == {
        "kind": "stable-diffusion",
        "model": "tiny",
        "prediction_type": "v_prediction",
        "dtype": "float32",
        "tokens_cut": 4,
    }
    assert outcome.welded.is_watertight
    assert gltf_errors(outcome.path("model.glb")) == []


@pytest.mark.parametrize("prompt", ["", "   \n\t "])
def test_empty_prompt(models: dict[str, DiffusionModel], prompt: str) -> None:
    """A prompt without words is refused for good."""
    with pytest.raises(PipelineError) as caught:
        tokenize(models["epsilon"].tokenizer, prompt, "", view_prompts=True, truncate=True)
    assert caught.value.code == "PROMPT_EMPTY"
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("prompt", "negative", "which", "cut"),
    [(LONG, "", "The prompt", 4), ("a cat", LONG + " a red", "The negative_prompt", 3)],
)
def test_long_prompt(
    models: dict[str, DiffusionModel], prompt: str, negative: str, which: str, cut: int
) -> None:
    """The error says how many tokens are too many; `truncate` leaves them out instead."""
    tokenizer = models["epsilon"].tokenizer
    with pytest.raises(PipelineError) as caught:
        tokenize(tokenizer, prompt, negative, view_prompts=True, truncate=False)
    assert caught.value.code == "PROMPT_TOO_LONG"
    assert caught.value.permanent
    assert f"{which} is {cut} tokens longer" in caught.value.message
    tokens = tokenize(tokenizer, prompt, negative, view_prompts=True, truncate=True)
    assert tokens.sides.shape == (4, LENGTH)
    assert tokens.negative.shape == (1, LENGTH)
    assert tokens.cut == (cut if which == "The prompt" else 0)
    # The side is what stays, whatever is cut.
    assert len({tuple(side.tolist()) for side in tokens.sides}) == 4


def test_without_view_prompts_all_sides_are_alike(models: dict[str, DiffusionModel]) -> None:
    """Then the whole length is the prompt's."""
    tokens = tokenize(
        models["epsilon"].tokenizer, "a red cat", "", view_prompts=False, truncate=False
    )
    assert len({tuple(side.tolist()) for side in tokens.sides}) == 1


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_part(copy: Path, part: str) -> None:
    """A model without one of its parts is refused, and named as the reason beforehand."""
    shutil.rmtree(copy / part)
    assert part in " ".join(settings.unavailable_reasons(environment(copy)))
    assert refusal(copy).code in {"WEIGHTS_UNREADABLE", "WEIGHTS_UNSUITABLE"}


def test_pickled_weights(copy: Path) -> None:
    """Only safetensors are read."""
    file = next((copy / "unet").glob("*.safetensors"))
    file.rename(file.with_suffix(".bin"))
    assert "safetensors" in " ".join(settings.unavailable_reasons(environment(copy)))
    assert refusal(copy).code == "WEIGHTS_UNREADABLE"


def test_damaged_weights(copy: Path) -> None:
    """A file that was cut off is refused."""
    file = next((copy / "vae").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    assert refusal(copy).code == "WEIGHTS_UNREADABLE"


def change_config(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_unknown_prediction(copy: Path) -> None:
    """A model that predicts something else is refused by name."""
    change_config(copy / "scheduler/scheduler_config.json", prediction_type="sample")
    error = refusal(copy)
    assert error.code == "WEIGHTS_UNSUITABLE"
    assert "'sample'" in error.message


@pytest.mark.parametrize(
    ("unet", "words"),
    [
        ({"in_channels": 9}, "inpainting"),
        ({"cross_attention_dim": 24}, "width 24"),
        (
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 64,
            },
            "XL",
        ),
    ],
)
def test_other_architecture(tmp_path: Path, unet: dict[str, object], words: str) -> None:
    """Models of other families are refused with what gave them away."""
    error = refusal(save_tiny_diffusion(tmp_path / "other", unet=unet))
    assert error.code == "WEIGHTS_UNSUITABLE"
    assert words in error.message
