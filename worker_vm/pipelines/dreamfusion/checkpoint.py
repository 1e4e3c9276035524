"""Where a run can go on from: safetensors, which holds numbers and no code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worker_vm.pipelines.dreamfusion.distil import Distillation
from worker_vm.pipelines.dreamfusion.parameters import Parameters

FORMAT = "pipeline3d-dreamfusion-1"
MEDIA_TYPE = "application/octet-stream"
_MOMENTS = {"mean": "exp_avg", "square": "exp_avg_sq"}
_HEADER_BYTES = 65536
_FREE = {"vertex_count", "texture_resolution", "checkpoint_every", "formats"}
"""Parameters that do not change how the object grows."""


class UnusableCheckpointError(Exception):
    """A file that a run cannot go on from; the message says why."""


def fingerprint(
    parameters: Parameters, prompt: str, guidance: Mapping[str, Any], pipeline_version: str
) -> str:
    """What a checkpoint must have been made with for a run to go on from it."""
    facts = {
        "pipeline": pipeline_version,
        "prompt": prompt,
        "parameters": parameters.model_dump(mode="json", exclude=_FREE),
        "guidance": dict(guidance),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def save(path: Path, distillation: Distillation, mark: str) -> None:
    """Write the field and the optimiser's moments, whose last digits don't matter."""
    tensors = {}
    for name, level, moments in _levels(distillation):
        tensors[name] = level.detach().float().cpu().contiguous()
        for short, long in _MOMENTS.items():
            value = moments.get(long, torch.zeros_like(level))
            tensors[f"{name}.{short}"] = value.to(torch.bfloat16).cpu().contiguous()
    metadata = {"format": FORMAT, "fingerprint": mark, "step": str(distillation.step)}
    save_file(tensors, path, metadata=metadata)


def restore(path: Path, distillation: Distillation, mark: str, steps: int) -> None:
    """Bring a fresh distillation to where a checkpoint was made.

    The file is hostile until checked: size, names, shapes and kinds of numbers first, then that
    all of them are numbers. Nothing is changed before.

    Args:
        path: the file.
        distillation: at step 0.
        mark: the `fingerprint` of this run.
        steps: of the run.

    Raises:
        UnusableCheckpointError: it is no checkpoint, damaged, or of another run.
    """
    wanted = _wanted(distillation)
    room = sum(value.numel() * value.element_size() for value in wanted.values())
    try:
        if path.stat().st_size > room + _HEADER_BYTES:
            raise UnusableCheckpointError("it is too large")
        with safe_open(path, framework="pt") as file:
            step = _step(file.metadata() or {}, mark, steps)
            tensors = _tensors(file, wanted)
    except (OSError, SafetensorError) as error:
        raise UnusableCheckpointError(f"it cannot be read ({type(error).__name__})") from error
    distillation.step = step
    distillation.field.load([tensors[name] for name, _, _ in _levels(distillation)])
    for name, level, _ in _levels(distillation):
        distillation.optimiser.state[level] = {
            "step": torch.tensor(float(step)),
            **{
                long: tensors[f"{name}.{short}"].to(level.device, torch.float32)
                for short, long in _MOMENTS.items()
            },
        }


def _levels(distillation: Distillation) -> list[tuple[str, Tensor, Mapping[str, Tensor]]]:
    """Each grid of the field with a name and what the optimiser keeps of it."""
    return [
        (f"level{number}", level, distillation.optimiser.state.get(level, {}))
        for number, level in enumerate(distillation.field.levels)
    ]


def _wanted(distillation: Distillation) -> dict[str, Tensor]:
    """Empty tensors of every name, shape and kind that a checkpoint must have."""
    found = {}
    for name, level, _ in _levels(distillation):
        found[name] = torch.empty(level.shape, dtype=torch.float32, device="meta")
        for short in _MOMENTS:
            found[f"{name}.{short}"] = torch.empty(level.shape, dtype=torch.bfloat16, device="meta")
    return found


def _step(metadata: Mapping[str, str], mark: str, steps: int) -> int:
    if metadata.get("format") != FORMAT:
        raise UnusableCheckpointError("it is no checkpoint of this pipeline")
    if metadata.get("fingerprint") != mark:
        raise UnusableCheckpointError("it is of another prompt, other parameters or another model")
    step = metadata.get("step", "")
    if not (step.isascii() and step.isdigit() and len(step) < 9 and 0 < int(step) <= steps):  # noqa: PLR2004
        raise UnusableCheckpointError("its step makes no sense")
    return int(step)


def _tensors(file: Any, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if set(file.keys()) != set(wanted):
        raise UnusableCheckpointError("it holds other grids")
    found: dict[str, Tensor] = {}
    for name, like in wanted.items():
        if list(file.get_slice(name).get_shape()) != list(like.shape):
            raise UnusableCheckpointError(f"{name} has another shape")
        value = file.get_tensor(name)
        if value.dtype != like.dtype or not bool(torch.isfinite(value).all()):
            raise UnusableCheckpointError(f"{name} does not hold proper numbers")
        if name.endswith(".square") and bool((value < 0).any()):
            raise UnusableCheckpointError(f"{name} is negative")
        found[name] = value
    return found
