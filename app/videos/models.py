"""Which models of the catalog take a video."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.parameters import UploadParameter, upload_parameters
from app.catalog.tables import Model
from contract.containers import VIDEO_TYPES


def video_parameter(model: Model) -> UploadParameter | None:
    """The model's parameter that names a video; None if it takes none."""
    found = upload_parameters(model.parameters)
    return next((parameter for parameter in found if parameter.accept <= VIDEO_TYPES), None)


async def video_model_ids(session: AsyncSession) -> list[str]:
    """Every model that takes a video, also those that are not offered any more."""
    models = (await session.execute(select(Model))).scalars()
    return [model.id for model in models if video_parameter(model) is not None]
