"""FastAPI dependencies that say who acts, for the audit trail."""

from typing import Annotated

from fastapi import Depends, Request

from app.accounts.dependencies import CurrentPrincipal
from app.audit.actor import Actor
from app.web.addresses import client_address
from app.web.dependencies import SettingsDependency


async def _unknown_actor(request: Request, settings: SettingsDependency) -> Actor:
    return Actor(
        name="",
        address=client_address(request, settings.trusted_proxies),
        request_id=request.state.request_id,
    )


UnknownActor = Annotated[Actor, Depends(_unknown_actor)]
"""Somebody, of whom only the origin is known yet."""


async def _current_actor(principal: CurrentPrincipal, unknown: UnknownActor) -> Actor:
    return unknown.known_as(
        principal.username, principal.user_id, principal.key_id or principal.session_id
    )


CurrentActor = Annotated[Actor, Depends(_current_actor)]
"""The principal as who acts."""
