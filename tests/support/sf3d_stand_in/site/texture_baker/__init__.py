"""Upstream's texture baker, which is what needs a GPU."""

from pathlib import Path
from typing import Any


class TextureBaker:
    """Bakes attributes into textures."""

    def rasterize(self, uv: Any, face_indices: Any, bake_resolution: int) -> Any:
        """Fail on a device that the extension was not built for, as torch does."""
        assert face_indices.device == uv.device
        built = (Path(__file__).parent / "_C.so").read_bytes()
        if uv.device == "cuda" and b".nv_fatbin" not in built:
            raise NotImplementedError(
                "Could not run 'texture_baker_cpp::rasterize' with arguments from the 'CUDA' "
                "backend."
            )
        return bake_resolution
