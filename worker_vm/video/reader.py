"""What FFmpeg reads a video from: a file, or a connection to whoever has it."""

import errno
import os
import stat
from typing import Protocol

from worker_vm.range_protocol import RangeReader


class VideoReader(Protocol):
    """What FFmpeg reads a video from."""

    @property
    def failure(self) -> OSError | None:
        """Why it could not be read."""

    def read(self, size: int) -> bytes:
        """The next bytes."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere; where that is."""

    def tell(self) -> int:
        """Where reading goes on."""


def open_reader(descriptor: int, size_bytes: int) -> VideoReader:
    """The reader for a descriptor that a confined child was given (`video.input`)."""
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return RangeReader(descriptor, size_bytes)
    return DescriptorReader(descriptor, size_bytes)


class DescriptorReader:
    """A file that is already open, as FFmpeg's input; remembers that reading it failed.

    Args:
        descriptor: of a regular file.
        size_bytes: of the file; if it ends earlier, it could not be read.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size = size_bytes
        self.failure: OSError | None = None

    def read(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            OSError: they cannot be had.
        """
        try:
            return self._read(size)
        except OSError as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere; where that is."""
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        """Where reading goes on."""
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def _read(self, size: int) -> bytes:
        data = os.read(self._descriptor, size)
        if size and not data and self.tell() < self._size:
            raise OSError(errno.EIO, "the file has become shorter")
        return data
