"""Looking into the object store, past what the platform asks of it."""

import asyncio

from minio.error import MinioException

from app.storage.base import ObjectStore
from app.storage.minio_store import MinioStore


async def stored_keys(store: ObjectStore) -> set[str]:
    """Every object, and every upload in parts that is under way, in the bucket."""
    assert isinstance(store, MinioStore)
    client, bucket = store._client, store._bucket

    def look() -> set[str]:
        objects = {str(item.object_name) for item in client.list_objects(bucket, recursive=True)}
        try:
            parts = client._list_multipart_uploads(bucket, prefix="").uploads
        except MinioException as error:
            if "NoSuchUpload" not in str(error):  # what some servers say if there are none
                raise
            parts = []
        return objects | {f"{upload.object_name} in parts" for upload in parts}

    return await asyncio.to_thread(look)
