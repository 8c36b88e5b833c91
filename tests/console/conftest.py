"""The real app with a call in its records."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import StillClock
from fakes.console import MONDAY, Site, make_settings, put_call

from bot.app import create_app
from records.steps import open_parts
from records.store import migrate


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the database, the recordings and the archived tape of the call, to be copied."""
    folder = tmp_path_factory.mktemp("recorded")
    settings = make_settings(folder)
    migrate(settings.database)
    parts = open_parts(settings, StillClock(MONDAY))
    put_call(parts)
    parts.database.truncate_log()
    parts.store.close()
    parts.database.close()
    return folder


OpenConsole = Callable[..., contextlib.AbstractAsyncContextManager[Site]]


@pytest.fixture
def open_console(tmp_path: Path, recorded: Path) -> OpenConsole:
    """``async with open_console(setting=…) as site``: logged in, unless told otherwise, and with the call `CALL`."""

    @contextlib.asynccontextmanager
    async def opened(*, logged_in: bool = True, **changes: Any) -> AsyncIterator[Site]:
        settings = make_settings(tmp_path, **changes)
        clock = StillClock(MONDAY)
        elsewhere = {"database_url", "recordings_url"} & set(changes)
        if not elsewhere:
            shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
        migrate(settings.database)
        parts = open_parts(settings, clock)
        if elsewhere:
            put_call(parts)
        app = create_app(settings, clock=clock)
        await app.state.console.open()
        site = Site(app, parts, settings, clock, None)  # type: ignore[arg-type]
        async with site.browser() as site.client:
            if logged_in:
                assert (await site.log_in()).status_code == 303
            yield site
        await app.state.console.close()
        parts.database.close()
        parts.store.close()

    return opened


@pytest.fixture
def hand_clock() -> StillClock:
    """A clock that a test moves."""
    return StillClock(MONDAY)
