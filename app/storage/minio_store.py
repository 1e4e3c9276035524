"""The object store by the MinIO SDK, for any S3-compatible server."""

import asyncio
import functools
import hashlib
import io
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error

from app.config import Settings
from app.storage.base import ObjectStart, StorageUnavailableError, StoredObject

T = TypeVar("T")

_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound", "NotFound"})
_NOT_COMPLETABLE = frozenset(
    {"NoSuchUpload", "NoSuchKey", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"}
)
_CHUNK = 1 << 20
_PAGE = 1000
_CALLS = 16
_READS = 4
_KEPT_URLS = 10_000
_SIGNING_WINDOW = timedelta(minutes=15)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise StorageUnavailableError(str(error)) from error


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')


def _code(error: MinioException) -> str:
    """The error's code, also from a server whose XML is `text/xml`, which the SDK does not read."""
    if isinstance(error, S3Error):
        return str(error.code)
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else ""


@contextmanager
def _ignored(code: str) -> Iterator[None]:
    try:
        yield
    except MinioException as error:
        if _code(error) != code:
            raise


class _Client(Minio):
    """The SDK with its calls for single steps of a multipart upload, which it keeps to itself."""

    def begin_multipart(self, bucket: str, key: str, media_type: str) -> str:
        return str(self._create_multipart_upload(bucket, key, {"Content-Type": media_type}))

    def write_part(self, bucket: str, key: str, upload_id: str, number: int, data: bytes) -> str:
        return str(self._upload_part(bucket, key, data, None, upload_id, number))

    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, etags: Sequence[str]
    ) -> None:
        parts = [Part(number, etag) for number, etag in enumerate(etags, 1)]
        self._complete_multipart_upload(bucket, key, upload_id, parts)

    def abort_multiparts(self, bucket: str, key: str) -> None:
        # Some servers answer so if there is no upload to list at all.
        with _ignored("NoSuchUpload"):
            for upload in self._list_multipart_uploads(bucket, prefix=key).uploads:
                if upload.object_name == key:
                    with _ignored("NoSuchUpload"):
                        self._abort_multipart_upload(bucket, key, upload.upload_id or "")


class MinioStore:
    """An `ObjectStore`; the second client signs for the public address and never connects.

    The signature covers the host, so a URL cannot be rewritten after it was signed; and with a
    region given, signing is pure computation.
    """

    def __init__(self, settings: Settings) -> None:
        # Threads of its own: a store that hangs must not stop everybody else's work, and reading
        # whole objects must not hold up the short calls.
        self._calls = ThreadPoolExecutor(_CALLS, thread_name_prefix="storage")
        self._reads = ThreadPoolExecutor(_READS, thread_name_prefix="storage-read")
        # The same URL is asked for each time somebody polls.
        self._signed_get = functools.lru_cache(_KEPT_URLS)(self._sign_get)
        self._hashing: dict[str, asyncio.Task[str]] = {}
        self._bucket = settings.minio_bucket
        self._client = self._make_client(
            settings, settings.minio_endpoint, secure=settings.storage_secure
        )
        public = settings.minio_public_endpoint or settings.minio_endpoint
        self._signer = self._make_client(
            settings,
            public,
            secure=public.startswith("https://")
            if settings.minio_public_endpoint
            else settings.storage_secure,
        )

    @staticmethod
    def _make_client(settings: Settings, endpoint: str, *, secure: bool) -> _Client:
        return _Client(
            urlsplit(endpoint).netloc,
            access_key=settings.minio_access_key,
            secret_key=settings.minio_secret_key.get_secret_value(),
            region=settings.minio_region,
            secure=secure,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=5, read=10),
                maxsize=_CALLS + _READS,
                retries=urllib3.Retry(total=1, backoff_factor=0.2, status_forcelist=[502, 503]),
            ),
        )

    async def _call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a blocking SDK call in a thread, so that the event loop goes on."""
        return await self._run(self._calls, functools.partial(function, *args, **kwargs))

    @staticmethod
    async def _run(executor: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        def run() -> T:
            with _translated():
                return function()

        return await asyncio.get_running_loop().run_in_executor(executor, run)

    async def close(self) -> None:
        """Let the threads end; calls under way are not waited for."""
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._reads.shutdown(wait=False, cancel_futures=True)

    async def ensure_bucket(self) -> None:
        """Create the bucket if it is not there."""

        def ensure() -> None:
            if self._client.bucket_exists(self._bucket):
                return
            try:
                self._client.make_bucket(self._bucket)
            except S3Error as error:
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise

        await self._call(ensure)

    async def check(self) -> None:
        """Raise unless the bucket can be reached; a bucket that is missing is made."""
        await self.ensure_bucket()

    async def read_start(self, key: str, length: int) -> ObjectStart | None:
        """At most the first `length` bytes of an object, or None if there is no such object."""

        def read() -> ObjectStart | None:
            try:
                return self._read_start(key, length)
            except (S3Error, InvalidResponseError):
                # Missing, or empty and thus without a first byte; the answer to a GET does not
                # always say which, that to a HEAD does.
                found = self._stat(key)
                if found is None or not found.size_bytes:
                    return found
                raise

        return await self._call(read)

    def _stat(self, key: str) -> ObjectStart | None:
        try:
            found = self._client.stat_object(self._bucket, key)
        except S3Error as error:
            if error.code in _MISSING:
                return None
            raise
        return ObjectStart(int(found.size or 0), _bare(found.etag), b"")

    def _read_start(self, key: str, length: int) -> ObjectStart:
        response = self._client.get_object(self._bucket, key, offset=0, length=length)
        try:
            # A server that ignores the range must not make us read the whole object; without
            # `Content-Range` it has, and tells the whole size as the length.
            _, _, size = response.headers.get("Content-Range", "").rpartition("/")
            return ObjectStart(
                size_bytes=int(size if size.isdigit() else response.headers["Content-Length"]),
                etag=_bare(response.headers.get("ETag")),
                head=bytes(response.read(length)),
            )
        finally:
            response.close()
            response.release_conn()

    async def write(self, key: str, content: bytes, media_type: str) -> str:
        """Store a small object of our own; its ETag."""
        written = await self._call(
            self._client.put_object,
            self._bucket,
            key,
            io.BytesIO(content),
            len(content),
            content_type=media_type,
        )
        return _bare(written.etag)

    async def sha256(self, key: str) -> str:
        """The SHA-256 of an object's bytes, read from the store as they are now."""

        def digest() -> str:
            response = self._client.get_object(self._bucket, key)
            try:
                hasher = hashlib.sha256()
                for chunk in response.stream(_CHUNK):
                    hasher.update(chunk)
                return hasher.hexdigest()
            finally:
                response.close()
                response.release_conn()

        # Asked again while it is being read, because an answer was lost: the same reading does.
        task = self._hashing.get(key)
        if task is None:
            task = asyncio.create_task(self._run(self._reads, digest))
            self._hashing[key] = task
            task.add_done_callback(lambda _: self._hashing.pop(key, None))
        return await asyncio.shield(task)

    async def begin_multipart(self, key: str, media_type: str) -> str:
        """Begin to upload an object in parts; the upload's id."""
        return await self._call(self._client.begin_multipart, self._bucket, key, media_type)

    async def write_part(self, key: str, upload_id: str, number: int, content: bytes) -> str:
        """Upload one part; its ETag."""
        write = functools.partial(
            self._client.write_part, self._bucket, key, upload_id, number, content
        )
        return _bare(await self._run(self._reads, write))

    async def complete_multipart(self, key: str, upload_id: str, etags: Sequence[str]) -> bool:
        """Put the parts of an upload together; False if that cannot be. See `ObjectStore`."""

        def complete() -> bool:
            try:
                self._client.complete_multipart(self._bucket, key, upload_id, etags)
            except MinioException as error:
                if _code(error) not in _NOT_COMPLETABLE:
                    raise
                return False
            return True

        return await self._run(self._reads, complete)

    async def abort_multiparts(self, key: str) -> None:
        """Drop every upload in parts of an object that is under way, with its parts."""
        await self._call(self._client.abort_multiparts, self._bucket, key)

    async def list_pages(self, prefix: str) -> AsyncIterator[list[StoredObject]]:
        """All objects whose keys begin so, in pages of at most a thousand."""
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)

        def page() -> list[StoredObject]:
            return [
                StoredObject(
                    key=str(item.object_name),
                    size_bytes=int(item.size or 0),
                    modified_at=item.last_modified or datetime.now(UTC),
                )
                for item in itertools.islice(found, _PAGE)
                if not item.is_dir
            ]

        while objects := await self._call(page):
            yield objects

    async def delete(self, keys: list[str]) -> list[str]:
        """Delete objects; those that are not there count as deleted. Returns keys that remain."""

        def delete() -> list[str]:
            errors = self._client.remove_objects(self._bucket, [DeleteObject(key) for key in keys])
            return [str(e.name) for e in errors if e.code not in _MISSING]

        return await self._call(delete) if keys else []

    def presign_put(self, key: str, expires_seconds: int) -> str:
        """A URL for one PUT, signed for the address that clients use."""
        return str(
            self._signer.presigned_put_object(
                self._bucket, key, expires=timedelta(seconds=expires_seconds)
            )
        )

    def presign_part(self, key: str, upload_id: str, number: int, expires_seconds: int) -> str:
        """A URL for the PUT of one part, signed for the address that clients use."""
        return str(
            self._signer.get_presigned_url(
                "PUT",
                self._bucket,
                key,
                expires=timedelta(seconds=expires_seconds),
                extra_query_params={"partNumber": str(number), "uploadId": upload_id},
            )
        )

    def presign_get(
        self,
        key: str,
        expires_seconds: int,
        *,
        download_name: str | None = None,
        media_type: str | None = None,
    ) -> str:
        """A URL for GET, signed as of the last quarter of an hour; see `ObjectStore`."""
        now = datetime.now(UTC)
        signed_at = now - (now - datetime.min.replace(tzinfo=UTC)) % _SIGNING_WINDOW
        return self._signed_get(key, expires_seconds, download_name, media_type, signed_at)

    def _sign_get(
        self,
        key: str,
        expires_seconds: int,
        download_name: str | None,
        media_type: str | None,
        signed_at: datetime,
    ) -> str:
        headers: dict[str, Any] = {}
        if download_name:
            headers["response-content-disposition"] = (
                f"attachment; filename*=UTF-8''{quote(download_name)}"
            )
        if media_type:
            headers["response-content-type"] = media_type
        longest = timedelta(days=7)  # a limit of the signature itself
        return str(
            self._signer.presigned_get_object(
                self._bucket,
                key,
                expires=min(timedelta(seconds=expires_seconds) + _SIGNING_WINDOW, longest),
                response_headers=headers,
                request_date=signed_at,
            )
        )
