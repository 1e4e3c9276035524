"""Looking into the object store, past what the platform asks of it."""

import asyncio

from minio.error import MinioException

from app.storage.base import ObjectStore
from app.storage.minio_store import MinioStore


async def stored_keys(store: ObjectStore) -> set[str]:
    """Every object in the bucket."""
    assert isinstance(store, MinioStore)
    client, bucket = store._client, store._bucket

    def look() -> set[str]:
        return {str(item.object_name) for item in client.list_objects(bucket, recursive=True)}

    return await asyncio.to_thread(look)


async def has_parts(store: ObjectStore, key: str) -> bool:
    """Whether this very object is being uploaded in parts; not every store can list them all."""
    assert isinstance(store, MinioStore)
    client, bucket = store._client, store._bucket

    def look() -> bool:
        try:
            return bool(client._list_multipart_uploads(bucket, prefix=key).uploads)
        except MinioException as error:
            if "NoSuchUpload" not in str(error):  # what some servers say if there are none
                raise
            return False

    return await asyncio.to_thread(look)
