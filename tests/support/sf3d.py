"""Installations of a stand-in for Stable Fast 3D (`sf3d_stand_in`), as docs/sf3d.md makes them."""

import json
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

STAND_IN = Path(__file__).parent / "sf3d_stand_in"

OURS = ("numpy", "numpy.libs", "PIL", "pillow.libs", "trimesh")
"""Taken from the tests' own packages: what upstream's environment has, and nothing else."""
UNUSED = (
    "einops", "gpytoolbox", "jaxtyping", "omegaconf", "open_clip", "pynanoinstantmeshes", "rembg",
    "safetensors", "torchvision", "transformers",
)  # fmt: skip


def make_python(folder: Path) -> Path:
    """Make the stand-in's Python: a virtual environment and a checkout, as docs/sf3d.md says.

    Returns:
        Its interpreter.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_path('platlib'))"
    told = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    site = Path(told.stdout.strip())
    here = Path(sysconfig.get_path("platlib"))
    for name in OURS:
        if (here / name).exists():
            (site / name).symlink_to(here / name)
    shutil.copytree(STAND_IN / "site", site, dirs_exist_ok=True)
    for name in UNUSED:
        (site / f"{name}.py").touch()
    for name in ("texture_baker", "uv_unwrapper"):
        (site / name / "_C.so").write_bytes(b"\x7fELF .nv_fatbin")
    shutil.copytree(STAND_IN / "checkout", folder / "checkout", dirs_exist_ok=True)
    (folder / "checkout" / "load" / "tets").mkdir(parents=True, exist_ok=True)
    (folder / "checkout" / "load" / "tets" / "160_tets.npz").touch()
    # Upstream's checkout has these folders too, which must not be taken for the built extensions.
    for name in ("texture_baker", "uv_unwrapper"):
        (folder / "checkout" / name).mkdir()
    (site / "sf3d.pth").write_text(f"{folder / 'checkout'}\n")
    return python


def site_of(python: Path) -> Path:
    """Where the packages of a stand-in's Python lie."""
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    return site


def make_weights(folder: Path, *, tensor: str = "backbone.weight", **config: Any) -> Path:
    """Make a folder with a configuration and weights that the stand-in takes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps(config))
    header = {tensor: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    return folder
