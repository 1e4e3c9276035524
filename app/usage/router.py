"""The route of what is used."""

from fastapi import APIRouter, Request

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import NotAuthenticatedError
from app.accounts.roles import Role
from app.db.session import SessionDependency
from app.usage.quotas import Owner
from app.usage.schemas import QuotasOut, UsageOut
from app.usage.service import UsageLimits
from app.web.problems import problem_responses

router = APIRouter(tags=["usage"])


@router.get(
    "/usage",
    summary="What you use, and may use",
    responses=problem_responses(NotAuthenticatedError),
)
async def get_usage(
    request: Request, principal: CurrentPrincipal, session: SessionDependency
) -> UsageOut:
    """Your quotas as they stand; admins also see their organisation's."""
    usage: UsageLimits = request.app.state.usage_limits
    quotas = await usage.read(session, principal)
    return UsageOut(
        user=QuotasOut.of(quotas, Owner.USER),
        organisation=QuotasOut.of(quotas, Owner.ORGANISATION)
        if principal.role is Role.ADMIN
        else None,
    )
