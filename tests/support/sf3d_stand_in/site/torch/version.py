"""As torch writes it."""

from typing import Optional

__all__ = ["__version__", "cuda", "hip"]
__version__ = "2.4.1+cu121"
cuda: Optional[str] = "12.1"  # noqa: UP045
hip: Optional[str] = None  # noqa: UP045
