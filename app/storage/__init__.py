"""Object storage behind a Protocol; `minio_store` is the only importer of the MinIO SDK."""
