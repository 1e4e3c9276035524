"""sf3d/system.py: class SF3D with upstream's signatures."""

import json
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import trimesh
from huggingface_hub import hf_hub_download
from PIL import Image
from texture_baker import TextureBaker

_CELLS = 24
_FRONT, _BACK = -0.25, 0.10


class SF3D:
    """Upstream's `torch.nn.Module`, as far as it is seen from outside."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        self.cfg = cfg
        self.baker = TextureBaker()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, config_name: str, weight_name: str
    ) -> "SF3D":
        """Load a folder, or a repository of the hub."""
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            config, weights = folder / config_name, folder / weight_name
        else:
            config, weights = (
                Path(hf_hub_download(repo_id=pretrained_model_name_or_path, filename=name))
                for name in (config_name, weight_name)
            )
        model = cls(json.loads(config.read_text()))
        model.note("from_pretrained", config_name=config_name, weight_name=weight_name)
        length = int.from_bytes(weights.read_bytes()[:8], "little")
        header = json.loads(weights.read_bytes()[8 : 8 + length])
        if "backbone.weight" not in header:
            raise RuntimeError(
                "Error(s) in loading state_dict for SF3D:\n\tMissing key(s): 'backbone.weight'"
            )
        return model

    def note(self, call: str, **what: Any) -> None:
        """Write down what was asked."""
        if "diary" in self.cfg:
            with Path(self.cfg["diary"]).open("a") as diary:
                diary.write(json.dumps({"call": call, **what}) + "\n")

    def to(self, device: str) -> "SF3D":
        """Move to a device."""
        self.note("to", device=device)
        return self

    def eval(self) -> "SF3D":
        """Stop training."""
        self.note("eval")
        return self

    def run_image(
        self,
        image: Image.Image | list[Image.Image],
        bake_resolution: int,
        remesh: Literal["none", "triangle", "quad"] = "none",
        vertex_count: int = -1,
        estimate_illumination: bool = False,  # noqa: FBT001, FBT002
    ) -> tuple[trimesh.Trimesh | list[trimesh.Trimesh], dict[str, Any]]:
        """Reconstruct one picture."""
        self.note(
            "run_image",
            size=image.size,
            box=image.getchannel("A").getbbox(),
            bake_resolution=bake_resolution,
            remesh=remesh,
            vertex_count=vertex_count,
            estimate_illumination=estimate_illumination,
            autocast=torch.state["autocast"],
            grad=torch.state["grad"],
            seed=torch.state["seed"],
            drawn=[random.random(), float(np.random.random())],  # noqa: NPY002, S311
        )
        if image.mode != "RGBA":
            raise ValueError("Image must be in RGBA mode")
        behaviour = self.cfg.get("behaviour")
        if behaviour == "empty":
            return trimesh.Trimesh(), {}
        if behaviour == "out of memory" and bake_resolution > self.cfg["fits"]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        mesh = _plate(image, bake_resolution, normal_map=behaviour != "no normal map")
        if behaviour == "not a number":
            mesh.vertices[0] = np.nan
        if behaviour == "untextured":
            mesh.visual = trimesh.visual.ColorVisuals(mesh)
        return mesh, {}


def _plate(image: Image.Image, resolution: int, *, normal_map: bool) -> trimesh.Trimesh:
    small = np.asarray(image.getchannel("A").resize((_CELLS, _CELLS))) > 127
    points, uvs, faces = [], [], []
    for row, column in zip(*np.nonzero(small), strict=True):
        # A picture's right is upstream's -X, seen from -Z.
        left, right = 0.5 - column / _CELLS, 0.5 - (column + 1) / _CELLS
        top, bottom = 0.5 - row / _CELLS, 0.5 - (row + 1) / _CELLS
        for depth, turn in ((_FRONT, (0, 1, 2, 0, 2, 3)), (_BACK, (0, 2, 1, 0, 3, 2))):
            start = len(points)
            points += [
                (left, top, depth), (left, bottom, depth),
                (right, bottom, depth), (right, top, depth),
            ]  # fmt: skip
            uvs += [(0.5 - x, 0.5 + y) for x, y, _ in points[start:]]
            faces += [[start + a for a in turn[:3]], [start + a for a in turn[3:]]]
    base = Image.new("RGB", image.size, (128, 128, 128))
    base.paste(image, mask=image.getchannel("A"))
    flat = Image.new("RGB", (resolution, resolution), (128, 128, 255))
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=base.resize((resolution, resolution)),
        roughnessFactor=0.4,
        metallicFactor=0.1,
        normalTexture=flat if normal_map else None,
    )
    return trimesh.Trimesh(
        vertices=np.array(points),
        faces=np.array(faces),
        visual=trimesh.visual.texture.TextureVisuals(uv=np.array(uvs), material=material),
    )
