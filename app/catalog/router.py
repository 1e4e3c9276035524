"""Routes of the catalog."""

from fastapi import APIRouter

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import NotAuthenticatedError
from app.catalog import service
from app.catalog.errors import ModelNotFoundError
from app.catalog.schemas import ModelList, ModelOut
from app.db.session import SessionDependency
from app.errors import InvalidRequestError
from app.web.dependencies import SettingsDependency
from app.web.problems import problem_responses
from app.workers.service import live_fleet

router = APIRouter(
    prefix="/models",
    tags=["catalog"],
    responses=problem_responses(NotAuthenticatedError, InvalidRequestError),
)


@router.get("", include_in_schema=False)
@router.get("/", summary="List the models that can be asked for")
async def list_models(
    _: CurrentPrincipal, session: SessionDependency, settings: SettingsDependency
) -> ModelList:
    """Every model with its parameters, defaults and limits, and whether a worker serves it now."""
    fleet = await live_fleet(session, settings.worker_live_seconds)
    return ModelList(
        items=[ModelOut.of(model, fleet) for model in await service.list_models(session)]
    )


@router.get("/{model_id}", summary="Get one model", responses=problem_responses(ModelNotFoundError))
async def get_model(
    model_id: str, _: CurrentPrincipal, session: SessionDependency, settings: SettingsDependency
) -> ModelOut:
    """One model with its parameters, defaults and limits, and whether a worker serves it now."""
    model = await service.get_model(session, model_id)
    return ModelOut.of(model, await live_fleet(session, settings.worker_live_seconds))
