"""The console put together: what bot/app.py includes, opens and closes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter
from loguru import logger
from starlette.staticfiles import StaticFiles

from bot.errors import ConfigurationError
from bot.metrics import Metrics
from bot.ports import Clock, Ids
from bot.settings import Settings
from console.access import Access
from console.api import api_router
from console.library import Library
from console.pages import Pages
from console.recordings import Hearings


class Console:
    """The operators' web. Calls do not need it: what fails here is told, counted and harms none."""

    def __init__(self, settings: Settings, clock: Clock, ids: Ids, metrics: Metrics) -> None:
        """`ids` must not be those of calls, whose seeds go onto tapes: the password and the key are made of it."""
        self.access = Access(settings, clock, ids)
        self._library = Library(settings, clock, metrics)
        self.router = APIRouter()
        self.router.include_router(api_router(self.access, self._library, Hearings(self._library, clock)))
        self._pages = Pages(self.access, self._library, settings, metrics)
        self.router.include_router(self._pages.router())
        self.static = StaticFiles(directory=Path(__file__).parent / "static")

    async def open(self) -> None:
        """Make the password where there is none. Without a place to keep it nobody is let in; the server goes on."""
        await asyncio.to_thread(self._pages.open)
        try:
            await asyncio.to_thread(self.access.open)
        except ConfigurationError as error:
            logger.error("The console stays closed. {}", error)

    async def close(self) -> None:
        """Let go of the database."""
        await asyncio.to_thread(self._library.close)
