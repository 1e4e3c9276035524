"""Why this Python cannot run Stable Fast 3D, found out without importing anything heavy.

It runs in the Python that `SF3D_PYTHON` names. Standard library only.
"""

import json
import mmap
import re
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from worker_vm.pipelines.sf3d.settings import (
    CONFIG_NAME,
    CPU_SETTING,
    LICENCE_SETTING,
    MODEL_SETTING,
    PYTHON_SETTING,
    WEIGHT_NAME,
    Settings,
)

GUIDE = "see docs/sf3d.md"

_PACKAGES = {
    "PIL": "pillow",
    "einops": "einops",
    "gpytoolbox": "gpytoolbox",
    "huggingface_hub": "huggingface-hub",
    "jaxtyping": "jaxtyping",
    "numpy": "numpy",
    "omegaconf": "omegaconf",
    "open_clip": "open_clip_torch",
    "pynanoinstantmeshes": "pynanoinstantmeshes",
    "rembg": "rembg",
    "safetensors": "safetensors",
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "trimesh": "trimesh",
}
"""Upstream's requirements.txt by the names they are imported by."""

_EXTENSIONS = ("texture_baker", "uv_unwrapper")
_GPU_CODE = (b".nv_fatbin", b".hip_fatbin")
"""The section of a library that holds code for a GPU, as NVIDIA's and AMD's compilers name it."""
_GPU_DEVICES = ("nvidia[0-9]*", "dxg", "kfd")
_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 100_000_000  # the format's own limit
_TORCH_CUDA = re.compile(rb"^(?:cuda|hip)\b[^=]*= *['\"]", re.MULTILINE)


def missing(settings: Settings) -> list[str]:
    """A sentence for each thing that is missing; empty if it can run."""
    reasons = list(_licence(settings))
    if not settings.python_is_set:
        reasons.append(
            f"{PYTHON_SETTING} is not set: name the Python in which Stable Fast 3D is installed "
            f"({GUIDE})."
        )
    else:
        reasons += [*_packages(), *_upstream(), *_device(settings)]
    return [*reasons, *_weights(settings)]


def _licence(settings: Settings) -> Iterator[str]:
    if not settings.licence_accepted:
        yield (
            "The licence of the weights (Stability AI Community License) has not been accepted: "
            f"read it and set {LICENCE_SETTING}=true."
        )


def _packages() -> Iterator[str]:
    for module, package in _PACKAGES.items():
        if find_spec(module) is None:
            yield f"The Python package '{package}' is not installed in {PYTHON_SETTING}."


def _folders(module: str) -> list[Path]:
    """The folders of a package; none if it is not there. Nothing is imported."""
    spec = find_spec(module)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def _upstream() -> Iterator[str]:
    # Upstream is a checkout, not a package: its folder has no __init__.py.
    folder = next((at for at in _folders("sf3d") if (at / "system.py").is_file()), None)
    if folder is None:
        yield f"Upstream's module 'sf3d' cannot be imported in {PYTHON_SETTING} ({GUIDE})."
    elif not any(folder.parent.glob("load/tets/*_tets.npz")):
        yield "Upstream's folder 'load/tets' is missing beside its folder 'sf3d'."
    for name in _EXTENSIONS:
        # The checkout has a folder of each one's name, so that finding it means nothing.
        if not _libraries(name):
            yield (
                f"Upstream's extension '{name}' is not built in {PYTHON_SETTING}: run pip install "
                f"in its folder of the checkout ({GUIDE})."
            )


def _libraries(extension: str) -> list[Path]:
    return [found for folder in _folders(extension) for found in folder.glob("_C*.so")]


def _device(settings: Settings) -> Iterator[str]:
    if settings.on_cpu:
        return
    if not any(found for name in _GPU_DEVICES for found in Path("/dev").glob(name)):
        yield f"There is no GPU; {CPU_SETTING}=1 makes do without one, slowly."
    if (version := _torch_version()) is not None and not _TORCH_CUDA.search(version):
        yield f"The torch of {PYTHON_SETTING} is built without CUDA."
    built = _libraries("texture_baker")
    if built and not any(_has_gpu_code(path) for path in built):
        yield (
            "Upstream's extension 'texture_baker' is built without CUDA: build it again with nvcc "
            f"at hand and USE_CUDA=1 ({GUIDE})."
        )


def _torch_version() -> bytes | None:
    """The file in which torch says what it is built with."""
    for folder in _folders("torch"):
        try:
            return (folder / "version.py").read_bytes()
        except OSError:
            continue
    return None


def _has_gpu_code(library: Path) -> bool:
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            return any(data.find(name) >= 0 for name in _GPU_CODE)
    except (OSError, ValueError):
        return False


def _weights(settings: Settings) -> Iterator[str]:
    if Path(settings.model).is_dir():
        yield from _folder_problems(Path(settings.model), MODEL_SETTING)
    elif not settings.is_hub_id:
        yield (
            f"{MODEL_SETTING} names neither a folder of this machine nor a repository of the hub "
            "(owner/name)."
        )
    elif not _is_cached(settings):
        if settings.offline:
            yield "The weights have not been downloaded, and HF_HUB_OFFLINE forbids it."
        elif not settings.has_hub_token:
            yield (
                "The weights have not been downloaded, and there is no hub token: ask for access "
                f"at https://huggingface.co/{settings.model} and set HF_TOKEN."
            )


def _folder_problems(folder: Path, name: str) -> Iterator[str]:
    for file in (CONFIG_NAME, WEIGHT_NAME):
        if not (folder / file).is_file():
            yield f"The folder of {name} has no file '{file}'."
    if (folder / WEIGHT_NAME).is_file():
        problem = weights_problem(folder / WEIGHT_NAME)
        if problem:
            yield f"The file '{WEIGHT_NAME}' of {name} {problem}."


def weights_problem(path: Path) -> str | None:
    """What is wrong with a safetensors file, from its header alone; None if nothing is.

    Format: https://huggingface.co/docs/safetensors (length, JSON header, tensors).
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LENGTH.size)
            if start.startswith(b"version "):
                return "is only a Git LFS pointer: fetch the file itself"
            size = path.stat().st_size
            promised = _promised_size(file, start, size)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return "is no safetensors file"
    return None if promised == size else "is not whole: download it again"


def _promised_size(file: BinaryIO, start: bytes, most: int) -> int:
    """How long a safetensors file says that it is.

    Raises:
        ValueError, KeyError, TypeError, IndexError, RecursionError, struct.error: it is none.
    """
    (length,) = _LENGTH.unpack(start)
    if length > min(_LARGEST_HEADER, most):
        raise ValueError("a header longer than the file")
    header: dict[str, Any] = dict(json.loads(file.read(length)))
    header.pop("__metadata__", None)
    return _LENGTH.size + int(length) + max(int(t["data_offsets"][1]) for t in header.values())


def _is_cached(settings: Settings) -> bool:
    repository = settings.hub_cache / f"models--{settings.model.replace('/', '--')}"
    return any(
        (snapshot / CONFIG_NAME).is_file() and (snapshot / WEIGHT_NAME).is_file()
        for snapshot in repository.glob("snapshots/*")
    )
