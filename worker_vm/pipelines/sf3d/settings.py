"""What the operator has set for Stable Fast 3D. Standard library only."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODEL_SETTING = "SF3D_MODEL"
PYTHON_SETTING = "SF3D_PYTHON"
LICENCE_SETTING = "SF3D_LICENCE_ACCEPTED"
CPU_SETTING = "SF3D_USE_CPU"  # upstream's own
PUBLISHED_MODEL = "stabilityai/stable-fast-3d"
CONFIG_NAME, WEIGHT_NAME = "config.yaml", "model.safetensors"

_YES = {"1", "true", "yes", "on"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Settings:
    """The settings, from an environment."""

    environment: Mapping[str, str]

    @classmethod
    def current(cls) -> "Settings":
        """Those of this process."""
        return cls(os.environ)

    @property
    def model(self) -> str:
        """A folder, or the id of a repository on the hub."""
        return self._get(MODEL_SETTING) or PUBLISHED_MODEL

    @property
    def model_name(self) -> str:
        """The same without the operator's folders."""
        return self.model if self.is_hub_id else Path(self.model).name

    @property
    def is_hub_id(self) -> bool:
        """Whether the model is to come from the hub; a folder of that name wins, as upstream."""
        return _HUB_ID.fullmatch(self.model) is not None and not Path(self.model).is_dir()

    @property
    def python_is_set(self) -> bool:
        """Whether a Python of its own is named."""
        return bool(self._get(PYTHON_SETTING))

    @property
    def licence_accepted(self) -> bool:
        """Whether the operator has accepted the weights' licence."""
        return self._is_yes(LICENCE_SETTING)

    @property
    def on_cpu(self) -> bool:
        """Whether upstream is told to do without a GPU."""
        return self._get(CPU_SETTING) == "1"

    @property
    def offline(self) -> bool:
        """Whether the hub must not be asked."""
        return self._is_yes("HF_HUB_OFFLINE")

    @property
    def hub_cache(self) -> Path:
        """Where huggingface_hub keeps what it has downloaded."""
        named = self._get("HF_HUB_CACHE") or self._get("HUGGINGFACE_HUB_CACHE")
        return Path(named).expanduser() if named else self._hub_home / "hub"

    @property
    def has_hub_token(self) -> bool:
        """Whether there is a token, in the environment or where `huggingface-cli login` puts it."""
        if self._get("HF_TOKEN") or self._get("HUGGING_FACE_HUB_TOKEN"):
            return True
        path = Path(self._get("HF_TOKEN_PATH") or self._hub_home / "token").expanduser()
        try:
            return bool(path.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            return False

    @property
    def _hub_home(self) -> Path:
        named = self._get("HF_HOME")
        if named:
            return Path(named).expanduser()
        cache = self._get("XDG_CACHE_HOME") or "~/.cache"
        return Path(cache).expanduser() / "huggingface"

    def _get(self, name: str) -> str:
        return self.environment.get(name, "").strip()

    def _is_yes(self, name: str) -> bool:
        return self._get(name).lower() in _YES
