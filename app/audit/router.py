"""The route of the audit trail."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.errors import ForbiddenError, NotAuthenticatedError
from app.audit.schemas import AuditEventOut, AuditFilters, AuditPage
from app.audit.service import list_events
from app.db.session import SessionDependency
from app.errors import InvalidRequestError
from app.web.problems import problem_responses
from app.web.queries import decode_cursor, encode_cursor

router = APIRouter(
    prefix="/audit",
    tags=["audit"],
    responses=problem_responses(NotAuthenticatedError, ForbiddenError, InvalidRequestError),
)


@router.get("", include_in_schema=False)
@router.get("/", summary="List what was done to accounts, keys and files")
async def list_audit_events(
    principal: CurrentPrincipal,
    session: SessionDependency,
    filters: Annotated[AuditFilters, Query()],
) -> AuditPage:
    """The audit trail of your organisation, newest first; for its admins."""
    before = decode_cursor(filters.cursor)
    found = await list_events(session, principal, filters, before=before, limit=filters.limit + 1)
    page = found[: filters.limit]
    return AuditPage(
        items=[AuditEventOut.of(event) for event in page],
        next_cursor=encode_cursor(page[-1].id) if len(found) > len(page) else None,
    )
