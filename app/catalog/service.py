"""The catalog: listing models and finding one."""

from sqlalchemy import ColumnElement, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalog.errors import ModelNotFoundError
from app.catalog.tables import Model

# The transaction that wrote the row: whatever changes it, also by hand, changes this.
_REVISION: ColumnElement[str] = literal_column("models.xmin::text")


async def list_models(session: AsyncSession) -> list[Model]:
    """Every enabled model, by name."""
    return list(
        (await session.execute(select(Model).where(Model.enabled).order_by(Model.id))).scalars()
    )


async def get_model_and_revision(session: AsyncSession, model_id: str) -> tuple[Model, str]:
    """The enabled model with this id, and which revision of its row that is.

    Raises:
        ModelNotFoundError: there is none; names those there are.
    """
    found = None
    if "\x00" not in model_id:
        statement = select(Model, _REVISION).where(Model.id == model_id, Model.enabled)
        found = (await session.execute(statement)).one_or_none()
    if found is None:
        known = ", ".join(model.id for model in await list_models(session)) or "none yet"
        raise ModelNotFoundError(
            f"There is no model {model_id[:100]!r}. The catalog has: {known}.",
            errors=[{"pointer": "/model_id", "detail": "is not in the catalog"}],
        )
    return found[0], found[1]


async def get_model(session: AsyncSession, model_id: str) -> Model:
    """The enabled model with this id.

    Raises:
        ModelNotFoundError: there is none; names those there are.
    """
    return (await get_model_and_revision(session, model_id))[0]
