"""The ZIP of frames: pictures are compressed already, so they are stored as they are."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker_vm.video.problems import VideoCode, VideoError

_MAGIC = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "webp": b"RIFF"}
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a ZIP knows: the same frames make the same file."""
_DIGITS = 4


class FramesArchive:
    """Writes `frame_0001.jpg` and so on, and in the end `manifest.json`, into a ZIP.

    Args:
        path: where to; made anew.
        extension: of the pictures.
        max_bytes: of the ZIP.
    """

    def __init__(self, path: Path, extension: str, max_bytes: int) -> None:
        self._path = path
        self._extension = extension
        self._max_bytes = max_bytes
        self.frames: list[dict[str, Any]] = []
        self._last: tuple[str, bytes] | None = None
        self._file: io.BufferedWriter | None = None
        self._open()

    def add(self, body: bytes, target: float, pts: float) -> None:
        """Write the next frame.

        Args:
            body: the picture, or nothing if it is the last one again.
            target: the moment that it answers, in seconds.
            pts: when it really begins.

        Raises:
            VideoError: OUTPUT_LIMIT or OUTPUT_WRITE_ERROR.
            ValueError: it is no picture of the kind.
        """
        name = f"frame_{len(self.frames) + 1:0{_DIGITS}d}.{self._extension}"
        entry: dict[str, Any] = {"name": name, "target_s": target, "pts_s": pts}
        if body:
            if not body.startswith(_MAGIC[self._extension]):
                raise ValueError("not a picture of the kind that was asked for")
            self._last = name, body
        elif self._last is None:
            raise ValueError("the first picture has no bytes")
        else:
            entry["duplicate_of"], body = self._last
        self._write(name, body)
        self.frames.append(entry)

    def start_over(self) -> None:
        """Forget all frames."""
        self.close()
        self.frames.clear()
        self._last = None
        self._open()

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest and the directory.

        Raises:
            VideoError: OUTPUT_LIMIT or OUTPUT_WRITE_ERROR.
        """
        self._write("manifest.json", json.dumps(manifest, indent=1).encode())
        try:
            self._zip.close()
            assert self._file is not None
            self._file.close()
        except OSError as error:
            raise _unwritable(error) from error
        self._file = None

    def close(self) -> None:
        """Drop what is not finished."""
        if self._file is not None:
            # The directory would not be written in vain only, it could also fail.
            self._zip._didModify = False  # type: ignore[attr-defined]  # noqa: SLF001
            self._zip.close()
            self._file.close()
            self._file = None

    def _open(self) -> None:
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            raise _unwritable(error) from error
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED, allowZip64=True)

    def _write(self, name: str, body: bytes) -> None:
        assert self._file is not None
        if self._file.tell() + len(body) > self._max_bytes:
            raise VideoError(
                VideoCode.OUTPUT_LIMIT,
                f"The frames are more than {self._max_bytes >> 20} MiB. Take fewer frames, a lower"
                " quality, jpg instead of png, or a max_width.",
            )
        try:
            self._zip.writestr(zipfile.ZipInfo(name, _DATE), body)
        except OSError as error:
            raise _unwritable(error) from error


def _unwritable(error: OSError) -> VideoError:
    return VideoError(
        VideoCode.OUTPUT_WRITE_ERROR, f"The frames could not be written: {error.strerror}."
    )
