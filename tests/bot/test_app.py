"""What the server does once, before it answers anybody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi.routing
import httpx
import pytest
from fakes.clock import StillClock
from fakes.console import MONDAY, make_settings

from bot.app import create_app
from bot.serve import WORK_THREADS, _work_threads


async def test_no_request_waits_for_routes_to_be_worked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI does that lazily: 57 ms in which no call's audio would have been carried."""
    worked_out: list[str] = []
    real: Callable[..., Any] = fastapi.routing.get_dependant

    def get_dependant(**options: Any) -> Any:
        worked_out.append(options["path"])
        return real(**options)

    monkeypatch.setattr(fastapi.routing, "get_dependant", get_dependant)
    app = create_app(make_settings(tmp_path), clock=StillClock(MONDAY))
    assert "/healthz" in worked_out
    async with app.router.lifespan_context(app):
        worked_out.clear()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a.example.com") as client:
            answers = [await client.get(path) for path in ("/healthz", "/api/calls", "/nowhere")]
            answers.append(await client.post("/twilio/voice"))
    assert [answer.status_code for answer in answers] == [200, 401, 404, 403]
    assert not worked_out


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("work_")]


def test_the_threads_for_what_blocks_are_there_before_the_work() -> None:
    pool = _work_threads()
    assert len(threads()) == WORK_THREADS
    pool.shutdown()
    assert not threads()


def test_where_no_more_threads_are_given_the_start_ends_and_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if len(threads()) == WORK_THREADS - 2:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        _work_threads()
    for thread in threads():
        thread.join(10)
    assert not threads()
