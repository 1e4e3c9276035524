"""sf3d/utils.py: what the adapter uses of it."""

import os

import rembg  # noqa: F401  (upstream imports it here, so it has to be installed)
import torch


def get_device():  # noqa: ANN201
    """Say where to run, as upstream does."""
    if os.environ.get("SF3D_USE_CPU", "0") == "1":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"
