"""FastAPI dependencies for what the process holds.

All dependencies are coroutines: FastAPI runs plain functions in a thread, one hop for each.
"""

from typing import Annotated

from fastapi import Depends, Request

from app.config import Settings
from app.storage.base import ObjectStore


async def _get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _get_store(request: Request) -> ObjectStore:
    store: ObjectStore = request.app.state.store
    return store


SettingsDependency = Annotated[Settings, Depends(_get_settings)]
StoreDependency = Annotated[ObjectStore, Depends(_get_store)]
