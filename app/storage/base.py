"""What the platform asks of an object store.

Only PUT, GET, HEAD, DELETE, LIST, multipart uploads and presigning are used, so that every
S3-compatible server will do (MinIO, SeaweedFS, Garage, RustFS, Ceph RGW, rclone).
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class StorageUnavailableError(Exception):
    """The object store cannot be reached or refuses us."""


@dataclass(frozen=True)
class ObjectStart:
    """An object as the store has it; `etag` changes whenever the bytes do."""

    size_bytes: int
    etag: str
    head: bytes

    @property
    def is_whole(self) -> bool:
        """Whether `head` is all of it."""
        return len(self.head) == self.size_bytes


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """An object store, called from the event loop.

    Every method that talks to the store raises `StorageUnavailableError` when it cannot.
    """

    async def ensure_bucket(self) -> None:
        """Create the bucket if it is not there."""

    async def check(self) -> None:
        """Raise unless the bucket can be reached; a bucket that is missing is made."""

    async def read_start(self, key: str, length: int) -> ObjectStart | None:
        """At most the first `length` bytes of an object, or None if there is no such object."""

    async def write(self, key: str, content: bytes, media_type: str) -> str:
        """Store a small object of our own; its ETag."""

    async def sha256(self, key: str) -> str:
        """The SHA-256 of an object's bytes, read from the store as they are now."""

    def list_pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        """All objects whose keys begin so, in pages of at most a thousand."""

    async def delete(self, keys: list[str]) -> list[str]:
        """Delete objects; those that are not there count as deleted. Returns keys that remain."""

    async def begin_multipart(self, key: str, media_type: str) -> str:
        """Begin to upload an object in parts; the upload's id."""

    async def write_part(self, key: str, upload_id: str, number: int, content: bytes) -> str:
        """Upload one part, 1 being the first; its ETag. All but the last have 5 MiB or more."""

    async def complete_multipart(self, key: str, upload_id: str, etags: Sequence[str]) -> bool:
        """Put the parts 1, 2 … of an upload together, which have these ETags.

        False if that cannot be: there is no such upload (any more), or other parts are in storage.
        """

    async def abort_multiparts(self, key: str) -> None:
        """Drop every upload in parts of an object that is under way, with its parts."""

    async def close(self) -> None:
        """Give back what the store holds; calls under way are not waited for."""

    def presign_put(self, key: str, expires_seconds: int) -> str:
        """A URL for one PUT, signed for the address that clients use."""

    def presign_part(self, key: str, upload_id: str, number: int, expires_seconds: int) -> str:
        """A URL for the PUT of one part, signed for the address that clients use."""

    def presign_get(
        self,
        key: str,
        expires_seconds: int,
        *,
        download_name: str | None = None,
        media_type: str | None = None,
    ) -> str:
        """A URL for GET, signed for the address that clients use.

        The same arguments give the same URL for some minutes, so that browsers can cache what it
        points to; it works for at least `expires_seconds`.

        Args:
            key: the object.
            expires_seconds: how long the URL works at least.
            download_name: makes a browser save it under this name instead of showing it.
            media_type: the Content-Type to answer with.
        """
