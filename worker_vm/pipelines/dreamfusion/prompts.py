"""Prompts for each side of the object (Poole et al. 2022, 3.2), within the limit of the model."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker_vm.pipelines.base import PipelineError

SIDES = ("front view", "side view", "back view", "overhead view")
_OVERHEAD = (50.0, 70.0)
"""degrees of elevation between which a view becomes one from overhead"""


@dataclass(frozen=True)
class PromptTokens:
    """What the text encoder gets."""

    sides: Tensor
    """(4, length) the prompt for each of `SIDES`"""
    negative: Tensor
    """(1, length)"""
    cut: int
    """Tokens of the prompt that were left out"""


def tokenize(
    tokenizer: Any, prompt: str, negative: str, *, view_prompts: bool, truncate: bool
) -> PromptTokens:
    """Tokens of a prompt seen from each side, and of the negative prompt.

    Raises:
        PipelineError: PROMPT_EMPTY or PROMPT_TOO_LONG, permanent.
    """
    words = " ".join(prompt.split())
    if not words:
        raise PipelineError(
            "PROMPT_EMPTY", "The prompt is empty; say what should be made.", permanent=True
        )
    room = int(tokenizer.model_max_length) - 2  # the marks of beginning and end
    endings = [_ids(tokenizer, f", {side}") if view_prompts else [] for side in SIDES]
    main, against = _ids(tokenizer, words), _ids(tokenizer, " ".join(negative.split()))
    most = room - max(len(ending) for ending in endings)
    cut = max(0, len(main) - most)
    negative_cut = max(0, len(against) - room)
    if (cut or negative_cut) and not truncate:
        which, count, limit = (
            ("prompt", cut, most) if cut else ("negative_prompt", negative_cut, room)
        )
        raise PipelineError(
            "PROMPT_TOO_LONG",
            f"The {which} is {count} tokens longer than the {limit} that the model reads; shorten "
            "it, or set truncate to leave out its end.",
            permanent=True,
        )
    return PromptTokens(
        sides=torch.tensor([_framed(tokenizer, [*main[:most], *end]) for end in endings]),
        negative=torch.tensor([_framed(tokenizer, against[:room])]),
        cut=cut,
    )


def side_shares(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """How much each of `SIDES` counts in a view, (b, 4), adding up to 1; angles in radians."""
    cosine = torch.cos(azimuth)
    low, high = _OVERHEAD
    overhead = ((torch.rad2deg(elevation) - low) / (high - low)).clamp(0.0, 1.0)
    around = torch.stack(
        [
            cosine.clamp(min=0.0).square(),
            torch.sin(azimuth).square(),
            cosine.clamp(max=0.0).square(),
        ],
        dim=1,
    )
    return torch.cat([around * (1.0 - overhead)[:, None], overhead[:, None]], dim=1)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, truncation=False).input_ids)


def _framed(tokenizer: Any, ids: list[int]) -> list[int]:
    """With the marks of beginning and end, filled up to the model's length."""
    framed = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return framed + [tokenizer.pad_token_id] * (int(tokenizer.model_max_length) - len(framed))
