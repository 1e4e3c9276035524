"""The adapter to Stable Fast 3D itself. Nothing of it is copied here; it is called as published.

Upstream: https://github.com/Stability-AI/stable-fast-3d, written against commit
ff21fc491b4dc5314bf6734c7c0dabd86b5f5bb2 (sf3d/system.py, run.py). It runs in the Python that
`SF3D_PYTHON` names, so it imports numpy and what upstream needs, and that only when it is called.
"""

import contextlib
import random
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from worker_vm.pipelines.base import PipelineError
from worker_vm.pipelines.sf3d.settings import CONFIG_NAME, MODEL_SETTING, WEIGHT_NAME, Settings

_LIBRARIES = ("huggingface-hub", "numpy", "open_clip_torch", "torch", "transformers", "trimesh")
_PROBE_SIDE = 8
_FOLDERS = re.compile(r"/(?:[^\s'\"/]+/)+")
_UNREACHABLE = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "Timeout"}
_REFUSED = {"GatedRepoError", "RepositoryNotFoundError"}
_NOT_THERE = {"EntryNotFoundError", "RevisionNotFoundError"}


class Upstream:
    """A loaded model on its device.

    Args:
        settings: the operator's.

    Raises:
        PipelineError: SF3D_NOT_USABLE, the installation does not work;
            WEIGHTS_MISSING or WEIGHTS_MISMATCH, permanent; WEIGHTS_UNREACHABLE.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            import torch  # noqa: PLC0415
            from sf3d.system import SF3D  # noqa: PLC0415
            from sf3d.utils import get_device  # noqa: PLC0415
        except Exception as error:
            # Packages that do not belong together fail in all sorts of ways.
            raise PipelineError(
                "SF3D_NOT_USABLE",
                f"Stable Fast 3D cannot be imported (see docs/sf3d.md): "
                f"{type(error).__name__}: {_beginning(error)}",
                permanent=False,
            ) from error
        self._torch = torch
        self.device: str = get_device()
        _probe_extension(torch, self.device)
        try:
            model = SF3D.from_pretrained(
                settings.model, config_name=CONFIG_NAME, weight_name=WEIGHT_NAME
            )
        except Exception as error:
            explained = explain(error)
            if explained is None:
                raise
            raise explained from error
        model.to(self.device)
        model.eval()
        self._model = model

    def reconstruct(
        self, image: Path, *, texture_resolution: int, remesh: str, vertex_count: int, seed: int
    ) -> Any:
        """Make a mesh (`trimesh.Trimesh`) of a cut-out.

        Args:
            image: RGBA, square, the subject in the middle.
            texture_resolution: pixels a side.
            remesh: none, triangle or quad.
            vertex_count: wanted after remeshing; -1 leaves it.
            seed: of all random numbers.

        Raises:
            PipelineError: EMPTY_MESH, permanent.
        """
        from PIL import Image  # noqa: PLC0415

        with Image.open(image) as opened:
            picture = opened.convert("RGBA")
        self._seed(seed)
        with self._torch.no_grad(), self._precision():
            mesh, _ = self._model.run_image(
                picture,
                bake_resolution=texture_resolution,
                remesh=remesh,
                vertex_count=vertex_count,
            )
        # Upstream returns a mesh without vertices where nothing is denser than its threshold.
        if len(mesh.vertices) == 0 or len(mesh.faces) == 0:
            raise PipelineError(
                "EMPTY_MESH",
                "The model found no shape in the picture; send one of a single object, seen whole.",
                permanent=True,
            )
        return mesh

    def facts(self) -> dict[str, Any]:
        """What it runs on, for the manifest."""
        cuda = self._torch.cuda if self.device == "cuda" else None
        return {
            "device": self.device,
            "gpu": str(cuda.get_device_name()) if cuda else None,
            "precision": "bf16 autocast" if cuda else "fp32",
            "python": sys.version.split()[0],
            "libraries": dict(_versions()),
        }

    def reset_peak(self) -> None:
        """Measure the device's memory anew."""
        if self.device == "cuda":
            self._torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        """The peak of the device's memory; 0 without one."""
        return int(self._torch.cuda.max_memory_allocated()) if self.device == "cuda" else 0

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.device != "cuda":
            return contextlib.nullcontext()
        autocast: contextlib.AbstractContextManager[Any] = self._torch.autocast(
            device_type="cuda", dtype=self._torch.bfloat16
        )
        return autocast

    def _seed(self, seed: int) -> None:
        import numpy as np  # noqa: PLC0415

        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (upstream's libraries draw from it)
        self._torch.manual_seed(seed)


def save_mesh(mesh: Any, folder: Path) -> dict[str, Any]:
    """Write a mesh for the worker's own Python: arrays and pictures, nothing to be unpickled.

    Returns:
        Its files and its material's numbers.

    Raises:
        PipelineError: MESH_INVALID, it has no texture.
    """
    import numpy as np  # noqa: PLC0415

    uvs = getattr(mesh.visual, "uv", None)
    material = getattr(mesh.visual, "material", None)
    picture = getattr(material, "baseColorTexture", None)
    if uvs is None or material is None or picture is None:
        raise PipelineError(
            "MESH_INVALID", "The model's mesh came without a texture.", permanent=True
        )
    folder.mkdir(parents=True, exist_ok=True)
    arrays = folder / "mesh.npz"
    np.savez(
        arrays,
        positions=np.asarray(mesh.vertices, np.float32),
        uvs=np.asarray(uvs, np.float32),
        faces=np.asarray(mesh.faces, np.int64),
    )
    saved: dict[str, Any] = {
        "arrays": str(arrays),
        "base_color": str(_save_picture(picture, folder / "base_color.png")),
        "normal_map": None,
        "roughness": _factor(material.roughnessFactor, 1.0),
        "metallic": _factor(material.metallicFactor, 0.0),
    }
    if material.normalTexture is not None:
        saved["normal_map"] = str(_save_picture(material.normalTexture, folder / "normal.png"))
    return saved


def explain(error: Exception) -> PipelineError | None:
    """What went wrong while the weights were loaded, for a person; None if that is unknown."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "OutOfMemoryError" in names or isinstance(error, MemoryError) or "CUDA" in str(error):
        return None
    if names & _UNREACHABLE or _is_about_connecting(error):
        return PipelineError(
            "WEIGHTS_UNREACHABLE",
            "The weights, or parts that they build on (DINOv2, OpenCLIP), are not on this machine "
            "and could not be downloaded. See docs/sf3d.md.",
            permanent=False,
        )
    if names & _REFUSED:
        return PipelineError(
            "WEIGHTS_MISSING",
            f"The hub does not give out the weights that {MODEL_SETTING} names: ask for access "
            "there, and set HF_TOKEN to a token of that account.",
            permanent=True,
        )
    if names & _NOT_THERE or _is_without(error):
        return PipelineError(
            "WEIGHTS_MISSING",
            f"What {MODEL_SETTING} names has no '{CONFIG_NAME}' or no '{WEIGHT_NAME}'.",
            permanent=True,
        )
    return PipelineError(
        "WEIGHTS_MISMATCH",
        f"What {MODEL_SETTING} names is not a model that the installed Stable Fast 3D can load "
        f"({type(error).__name__}: {_beginning(error)}).",
        permanent=True,
    )


def _beginning(error: Exception) -> str:
    """What an error says first, without the operator's folders: a client reads it."""
    return _FOLDERS.sub("", " ".join(str(error).split()))[:200]


def _is_without(error: Exception) -> bool:
    """Whether the folder lacks one of the two files; others are upstream's own."""
    return isinstance(error, FileNotFoundError) and any(
        str(error.filename).endswith(name) for name in (CONFIG_NAME, WEIGHT_NAME)
    )


def _is_about_connecting(error: Exception) -> bool:
    # transformers tells of a failed download by a bare OSError.
    return type(error) is OSError and "connect" in str(error)


def _probe_extension(torch: Any, device: str) -> None:
    """Bake one triangle where the model will: an extension without CUDA fails only when used."""
    try:
        from texture_baker import TextureBaker  # noqa: PLC0415

        corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], device=device)
        faces = torch.tensor([[0, 1, 2]], device=device)
        TextureBaker().rasterize(corners, faces, _PROBE_SIDE)
    except (ImportError, NotImplementedError) as error:
        raise PipelineError(
            "SF3D_NOT_USABLE",
            f"Upstream's extension 'texture_baker' does not work on {device!r}: build it again "
            "with nvcc at hand and USE_CUDA=1 (see docs/sf3d.md).",
            permanent=False,
        ) from error


def _save_picture(picture: Any, path: Path) -> Path:
    picture.convert("RGB").save(path, format="PNG", compress_level=1)
    return path


def _factor(value: Any, default: float) -> float:
    return default if value is None else float(value)


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)
