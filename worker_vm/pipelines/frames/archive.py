"""The ZIP of frames: pictures are compressed already, so they are stored as they are."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from worker_vm.pipelines.base import ArtifactStream
from worker_vm.video.problems import VideoCode, VideoError

_MAGIC = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "webp": b"RIFF"}
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a ZIP knows: the same frames make the same file."""
_DIGITS = 4


class _Tail(io.RawIOBase):
    """The end of a file whose beginning has been sent: all that can still be written over.

    `zipfile` goes back to the header of an entry when it knows the checksum. Otherwise it would
    write that behind the entry, where not everybody finds it.
    """

    def __init__(self) -> None:
        self._sent = 0
        self._kept = io.BytesIO()

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._kept.write(data)

    def tell(self) -> int:
        return self._sent + self._kept.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            offset -= self._sent
        return self._sent + self._kept.seek(offset, whence)

    def release(self, stream: ArtifactStream) -> None:
        """Send what is kept; nobody goes back to it."""
        with self._kept.getbuffer() as data:
            self._sent += stream.write(data)
        self._kept = io.BytesIO()


class FramesArchive:
    """Sends `frame_0001.jpg` and so on, and in the end `manifest.json`, as a ZIP.

    Args:
        begin: begins a file, in place of the one begun before.
        extension: of the pictures.
        max_bytes: of the ZIP.
    """

    def __init__(self, begin: Callable[[], ArtifactStream], extension: str, max_bytes: int) -> None:
        self._begin = begin
        self._extension = extension
        self._max_bytes = max_bytes
        self.frames: list[dict[str, Any]] = []
        self._last: tuple[str, bytes] | None = None
        self._open()

    @property
    def size_bytes(self) -> int:
        """How large the ZIP is so far."""
        return self._tail.tell()

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
        self._zip.close()
        try:
            self._tail.release(self._stream)
            self._stream.finish()
        except OSError as error:
            raise _unwritable(error) from error

    def close(self) -> None:
        """Drop what is not finished."""
        self._zip.close()  # in vain, but else it is done when nobody expects it
        self._stream.drop()

    def _open(self) -> None:
        self._stream = self._begin()
        self._tail = _Tail()
        self._zip = zipfile.ZipFile(self._tail, "w", zipfile.ZIP_STORED, allowZip64=True)

    def _write(self, name: str, body: bytes) -> None:
        if self._tail.tell() + len(body) > self._max_bytes:
            raise VideoError(
                VideoCode.OUTPUT_LIMIT,
                f"The frames are more than {self._max_bytes >> 20} MiB. Take fewer frames, a lower"
                " quality, jpg instead of png, or a max_width.",
            )
        try:
            self._zip.writestr(zipfile.ZipInfo(name, _DATE), body)
            self._tail.release(self._stream)
        except OSError as error:
            raise _unwritable(error) from error


def _unwritable(error: OSError) -> VideoError:
    return VideoError(
        VideoCode.OUTPUT_WRITE_ERROR, f"The frames could not be handed over: {error.strerror}."
    )
