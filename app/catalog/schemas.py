"""What the catalog's routes answer."""

from typing import Any

from pydantic import BaseModel, Field

from app.catalog.parameters import default_parameters, upload_parameters
from app.catalog.tables import Model
from app.workers.service import Fleet


class UploadLimits(BaseModel):
    """What is accepted for a parameter that names an uploaded object."""

    media_types: list[str]
    max_bytes: int
    max_pixels: int | None


class ModelLimits(BaseModel):
    """How much a job of this model may take."""

    time_limit_seconds: int
    max_attempts: int
    retention_days: int
    uploads: dict[str, UploadLimits]


class ModelOut(BaseModel):
    """An AI model of the catalog."""

    id: str = Field(examples=["inflate-v1"])
    name: str
    description: str
    kind: str = Field(examples=["image-to-3d"])
    version: str
    licence: str
    prompt: str = Field(description="`required`, `optional` or `none`")
    parameters: dict[str, Any] = Field(description="JSON Schema (draft 2020-12) of input_params")
    defaults: dict[str, Any]
    limits: ModelLimits
    queue: str
    main_artifact: str = Field(examples=["model_3d"])
    served: bool = Field(description="a live worker can run it now")
    warm: bool = Field(description="a live worker has it loaded")
    workers: int = Field(description="how many live workers can run it")

    @classmethod
    def of(cls, model: Model, fleet: Fleet) -> "ModelOut":
        """The model as it can be served by a fleet."""
        workers = fleet.serving(model.queue, model.pipeline)
        return cls(
            id=model.id,
            name=model.name,
            description=model.description,
            kind=model.kind,
            version=model.version,
            licence=model.licence,
            prompt=model.prompt_policy,
            parameters=model.parameters,
            defaults=default_parameters(model.parameters),
            limits=ModelLimits(
                time_limit_seconds=model.time_limit_seconds,
                max_attempts=model.max_attempts,
                retention_days=model.retention_days,
                uploads={
                    upload.name: UploadLimits(
                        media_types=sorted(upload.accept),
                        max_bytes=upload.max_bytes,
                        max_pixels=upload.max_pixels,
                    )
                    for upload in upload_parameters(model.parameters)
                },
            ),
            queue=model.queue,
            main_artifact=model.main_artifact,
            served=workers > 0,
            warm=fleet.warm(model.queue, model.pipeline) > 0,
            workers=workers,
        )


class ModelList(BaseModel):
    """The catalog."""

    items: list[ModelOut]
