"""The catalog: listing models and finding one."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.errors import ModelNotFoundError
from app.catalog.tables import Model


async def list_models(session: AsyncSession) -> list[Model]:
    """Every enabled model, by name."""
    return list(
        (await session.execute(select(Model).where(Model.enabled).order_by(Model.id))).scalars()
    )


async def get_model(session: AsyncSession, model_id: str) -> Model:
    """The enabled model with this id.

    Raises:
        ModelNotFoundError: there is none; names those there are.
    """
    model = None if "\x00" in model_id else await session.get(Model, model_id)
    if model is None or not model.enabled:
        known = ", ".join(found.id for found in await list_models(session)) or "none yet"
        raise ModelNotFoundError(
            f"There is no model {model_id[:100]!r}. The catalog has: {known}.",
            errors=[{"pointer": "/model_id", "detail": "is not in the catalog"}],
        )
    return model
