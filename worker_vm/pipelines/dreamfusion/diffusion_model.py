"""A text-to-image diffusion model of the Stable Diffusion 1 and 2 family, as diffusers saves it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.dreamfusion.guidance import NoiseSchedule
from worker_vm.pipelines.dreamfusion.settings import Settings

_PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class DiffusionModel:
    """The parts that score distillation needs, on their device."""

    name: str
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    schedule: NoiseSchedule
    prediction_type: str
    device: torch.device
    dtype: torch.dtype

    @property
    def side(self) -> int:
        """Pixels on a side of the pictures that it knows."""
        halvings = len(self.vae.config.block_out_channels) - 1
        return int(self.unet.config.sample_size) << halvings

    def text_embeddings(self, tokens: Tensor) -> Tensor:
        """Embeddings (b, length, c) of token ids (b, length)."""
        with torch.no_grad():
            found: Tensor = self.text_encoder(tokens.to(self.device))[0]
        return found

    def latents(self, images: Tensor) -> Tensor:
        """Latents (b, c, h, w) of pictures (b, 3, side, side) in 0…1, differentiable, in float32.

        The encoder's mean: its spread only adds noise to the gradient.
        """
        if self.device.type == "cuda":
            # A step begins: captured graphs may write over the results of the last one.
            torch.compiler.cudagraph_mark_step_begin()
        encoded = self.vae.encode((images * 2.0 - 1.0).to(self.dtype)).latent_dist.mean
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        result: Tensor = (encoded.float() - shift) * self.vae.config.scaling_factor
        return result

    def noise(self, noisy: Tensor, timesteps: Tensor, embeddings: Tensor) -> Tensor:
        """The noise (b, c, h, w) that the network finds in latents, in float32."""
        found = self.unet(
            noisy.to(self.dtype), timesteps, encoder_hidden_states=embeddings, return_dict=False
        )[0].float()
        if self.prediction_type == "epsilon":
            return found
        # v = alpha eps - sigma x (Salimans and Ho 2022), so eps = alpha v + sigma z.
        alpha, sigma = self.schedule.alpha_sigma(timesteps)
        return alpha * found + sigma * noisy


def load(settings: Settings) -> DiffusionModel:
    """Load the model that the settings name, and see that it is of the right kind.

    Raises:
        PipelineError: DEVICE_UNAVAILABLE, WEIGHTS_UNREADABLE or WEIGHTS_UNSUITABLE. Not permanent:
            another worker may have what this one lacks.
    """
    device = _device(settings)
    dtype = torch.float32
    if device.type == "cuda":
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    source = str(settings.folder or settings.model)
    try:
        parts = _read(source, dtype)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        told = str(error).replace(source, _shown(source)).strip() or type(error).__name__
        first = told.splitlines()[0][:300]
        raise PipelineError(
            "WEIGHTS_UNREADABLE",
            f"DREAMFUSION_MODEL ({_shown(source)}) cannot be loaded: {first}",
            # The hub may only be out of reach just now.
            permanent=settings.folder is not None,
        ) from error
    _check(parts, source)
    wanted = device.type == "cuda" if settings.compile is None else settings.compile
    return assemble(parts, _shown(source), device, dtype, compiled=wanted)


def assemble(
    parts: dict[str, Any], name: str, device: torch.device, dtype: torch.dtype, *, compiled: bool
) -> DiffusionModel:
    """Bring a model's parts to their device, and compile them if wanted.

    Args:
        parts: unet, vae, text_encoder (of that dtype), tokenizer and scheduler.
        name: for the manifest.
        device: where they shall run.
        dtype: of the networks' weights.
        compiled: whether the networks are.
    """
    placed = {
        part: parts[part].to(device).eval().requires_grad_(requires_grad=False)
        for part in ("unet", "vae", "text_encoder")
    }
    if device.type == "cuda":
        for part in ("unet", "vae"):
            placed[part] = placed[part].to(memory_format=torch.channels_last)
        # One head of 512 channels is too wide for the fast kernels; the gradient of the one that
        # remains took a quarter of a step.
        for attention in filter(None, placed["vae"].encoder.mid_block.attentions):
            attention.set_processor(AttnProcessor())
    scheduler = parts["scheduler"]
    model = DiffusionModel(
        name=name,
        tokenizer=parts["tokenizer"],
        schedule=NoiseSchedule(scheduler.alphas_cumprod.to(device, torch.float32)),
        prediction_type=scheduler.config.prediction_type,
        device=device,
        dtype=dtype,
        **placed,
    )
    return _compiled(model) if compiled else model


def _device(settings: Settings) -> torch.device:
    if settings.device != "cpu" and not torch.cuda.is_available():
        raise PipelineError(
            "DEVICE_UNAVAILABLE",
            "torch finds no GPU: its driver, or a build of torch for it, is missing.",
            permanent=False,
        )
    return torch.device(settings.device)


def _read(source: str, dtype: torch.dtype) -> dict[str, Any]:
    """Read all parts; safetensors only, since reading a pickle runs its code."""
    transformers_logging.disable_progress_bar()  # the run's log is no terminal
    # Without accelerate, which has nothing to offer to one device, diffusers would warn.
    kept = {"use_safetensors": True, "low_cpu_mem_usage": False}
    return {
        "unet": UNet2DConditionModel.from_pretrained(
            source, subfolder="unet", torch_dtype=dtype, **kept
        ),
        "vae": AutoencoderKL.from_pretrained(source, subfolder="vae", torch_dtype=dtype, **kept),
        "text_encoder": CLIPTextModel.from_pretrained(
            source, subfolder="text_encoder", dtype=dtype, use_safetensors=True
        ),
        "tokenizer": CLIPTokenizer.from_pretrained(source, subfolder="tokenizer"),
        # Whatever sampler the model is saved with: only its noise schedule is used.
        "scheduler": DDPMScheduler.from_pretrained(source, subfolder="scheduler"),
    }


def _check(parts: dict[str, Any], source: str) -> None:
    unet, vae = parts["unet"].config, parts["vae"].config
    text, scheduler = parts["text_encoder"].config, parts["scheduler"].config
    problem = None
    if scheduler.prediction_type not in _PREDICTIONS:
        known = " or ".join(_PREDICTIONS)
        problem = f"it predicts '{scheduler.prediction_type}', not {known}"
    elif unet.addition_embed_type is not None:
        problem = "its network wants more than a prompt (Stable Diffusion XL?)"
    elif not unet.in_channels == unet.out_channels == vae.latent_channels:
        problem = (
            f"its network takes {unet.in_channels} channels and its latents have "
            f"{vae.latent_channels} (an inpainting or depth model?)"
        )
    elif unet.cross_attention_dim != text.hidden_size:
        problem = (
            f"its network expects text of width {unet.cross_attention_dim} and its text encoder "
            f"has {text.hidden_size}"
        )
    # transformers makes an all but empty tokenizer where there is none.
    elif not text.vocab_size // 2 < len(parts["tokenizer"]) <= text.vocab_size:
        problem = (
            f"its tokenizer knows {len(parts['tokenizer'])} tokens and its text encoder "
            f"{text.vocab_size}"
        )
    if problem:
        raise PipelineError(
            "WEIGHTS_UNSUITABLE",
            f"DREAMFUSION_MODEL ({_shown(source)}) is no text-to-image model of the Stable "
            f"Diffusion 1 or 2 family: {problem}.",
            permanent=True,
        )


def _compiled(model: DiffusionModel) -> DiffusionModel:
    """Compile the networks, which takes a minute, once; without a compiler go on as they are."""
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415

    plain = model.unet.forward, model.vae.encoder.forward
    # Thousands of small kernels a step: captured as graphs, starting them costs the CPU nothing.
    for network in (model.unet, model.vae.encoder):
        network.forward = torch.compile(network.forward, mode="reduce-overhead")
    try:
        warm_up(model)
    except (TorchDynamoException, RuntimeError, OSError) as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        print(f"Networks are not compiled: {type(error).__name__}: {str(error)[:300]}")  # noqa: T201
        model.unet.forward, model.vae.encoder.forward = plain
    return model


def warm_up(model: DiffusionModel) -> None:
    """Take each network's first step, forwards and where needed backwards."""
    # Channels last, as renderings are: for another layout the encoder would be compiled again.
    images = torch.rand(1, model.side, model.side, 3, device=model.device).permute(0, 3, 1, 2)
    images.requires_grad_(requires_grad=True)
    latents = model.latents(images)
    latents.sum().backward()
    tokens = torch.zeros(
        2, int(model.text_encoder.config.max_position_embeddings), dtype=torch.long
    )
    with torch.no_grad():
        model.noise(
            latents.detach().repeat(2, 1, 1, 1),
            torch.zeros(2, dtype=torch.long, device=model.device),
            model.text_embeddings(tokens),
        )


def _shown(source: str) -> str:
    """A hub id as it is, a folder by its name: paths of the machine are nobody's business."""
    path = Path(source)
    return path.name if path.is_absolute() or path.is_dir() else source
