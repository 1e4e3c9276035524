"""The pipeline's settings, and whether this machine can run it. Standard library only."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {
    "cv2": "opencv-python-headless",
    "diffusers": "diffusers",
    "manifold3d": "manifold3d",
    "numba": "numba",
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "torch": "torch",
    "transformers": "transformers",
}
_GROUP = " (poetry install --only worker,diffusion)"
_HOW = {
    **dict.fromkeys(("diffusers", "safetensors", "transformers"), _GROUP),
    "torch": " (pip install torch, in the build for this machine's GPU)",
}
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
"""Folders of a diffusion model as diffusers saves it."""
_WEIGHTS = ("unet", "vae", "text_encoder")
_DRIVERS = ("/proc/driver/nvidia/version", "/dev/kfd", "/dev/dxg")
"""What NVIDIA's, AMD's and WSL's drivers leave."""
_NO_MODEL = (
    "DREAMFUSION_MODEL is not set: name a folder with a Stable Diffusion model as diffusers saves "
    "it, or its id on the hub."
)
_SWITCH = {"": None, "auto": None, "true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Settings:
    """What the operator chose."""

    model: str
    """A folder, or the id of a model on the hub; empty if none is set."""
    device: str
    """As torch names it"""
    compile: bool | None
    """Whether the networks are compiled; None: on a GPU."""

    @property
    def folder(self) -> Path | None:
        """The model's folder, if it is no id of the hub."""
        looks_like_path = self.model.startswith(("/", ".", "~"))
        path = Path(self.model).expanduser()
        return path if looks_like_path or path.is_dir() else None


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings; raises ValueError with a sentence if one is malformed."""
    device = environment.get("DREAMFUSION_DEVICE", "").strip() or "cuda"
    kind, _, number = device.partition(":")
    if kind not in {"cpu", "cuda"} or (number and not number.isdigit()):
        raise ValueError("DREAMFUSION_DEVICE must be cuda, cuda:0, cuda:1 … or cpu.")
    switch = environment.get("DREAMFUSION_COMPILE", "").strip().lower()
    if switch not in _SWITCH:
        raise ValueError("DREAMFUSION_COMPILE must be auto, true or false.")
    return Settings(environment.get("DREAMFUSION_MODEL", "").strip(), device, _SWITCH[switch])


def unavailable_reasons(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Why this machine cannot run the pipeline, as sentences; imports nothing heavy."""
    reasons = [
        f"The Python package '{package}' is not installed{_HOW.get(package, '')}."
        for module, package in PACKAGES.items()
        if find_spec(module) is None
    ]
    try:
        settings = read_settings(environment)
    except ValueError as error:
        return [*reasons, str(error)]
    return [*reasons, *_device_reasons(settings, environment), *_weight_reasons(settings)]


def _device_reasons(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    if settings.device == "cpu":
        return []
    reasons = []
    if not any(Path(driver).exists() for driver in _DRIVERS):
        reasons.append(
            "There is no GPU driver on this machine; DREAMFUSION_DEVICE=cpu allows the CPU, where "
            "a run takes days."
        )
    elif environment.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        reasons.append("CUDA_VISIBLE_DEVICES hides every GPU.")
    try:
        if version("torch").endswith("+cpu"):
            reasons.append("The installed torch is a build for CPUs; install one for your GPU.")
    except PackageNotFoundError:
        pass  # said above
    return reasons


def _weight_reasons(settings: Settings) -> list[str]:
    if not settings.model:
        return [_NO_MODEL]
    folder = settings.folder
    if folder is None:
        return []
    if not folder.is_dir():
        return [f"DREAMFUSION_MODEL names the folder {folder}, which does not exist."]
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        return [
            f"{folder} has no {_listed(missing)}: it is no Stable Diffusion model of diffusers."
        ]
    bare = [part for part in _WEIGHTS if not any((folder / part).glob("*.safetensors"))]
    if bare:
        return [
            f"{folder} has no safetensors weights in {_listed(bare)}; pickled ones are not read."
        ]
    return []


def _listed(names: list[str]) -> str:
    return ", ".join(names)
