"""The real app with a call in its records: a made-up tape, worked through by the steps that the worker runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fakes.clock import StillClock
from pydantic import SecretStr

from benchmarks.made_tapes import Heard, Says, at, tone, write_tape
from bot.settings import Settings
from records.inbox import archive
from records.steps import CallSteps, Parts

CALL = "CA77"
PASSWORD = "open sesame, please"
ORIGIN = "http://switchboard.test"
MONDAY = datetime(2026, 11, 23, 15, tzinfo=UTC)


@dataclass
class Site:
    """What a test talks to. ``parts`` are the worker's, for looking and for changing things behind the console."""

    app: Any
    parts: Parts
    settings: Settings
    clock: StillClock
    client: httpx.AsyncClient

    def browser(self, address: str = "203.0.113.7") -> httpx.AsyncClient:
        """Another browser, without cookies."""
        transport = httpx.ASGITransport(self.app, client=(address, 40_000))
        return httpx.AsyncClient(transport=transport, base_url=ORIGIN)

    async def log_in(self, password: str = PASSWORD, by: httpx.AsyncClient | None = None, **form: str) -> Any:
        by = by or self.client
        return await by.post("/console/login", data={"password": password, **form}, headers={"Origin": ORIGIN})

    async def recording(self, name: str = "stereo.ogg", method: str = "GET", **headers: str) -> httpx.Response:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.request(method, f"/api/calls/{CALL}/recordings/{name}", headers=sent)

    def file(self, name: str) -> bytes:
        return self.parts.recordings.read(f"{CALL}/{name}")

    def audit(self, call_id: str = "") -> list[tuple[str, str, str]]:
        """Who did what with which call, oldest first."""
        entries = self.parts.store.audit_log(call_id).items
        return [(entry.who, entry.what, entry.call_id) for entry in reversed(entries)]

    def figure(self, name: str) -> float:
        """A counter as /metrics shows it; 0 where it was never counted."""
        lines = self.app.state.parts.metrics.render().decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"switchboard_{name} ")), 0.0)


def make_settings(tmp_path: Path, **changes: Any) -> Settings:
    given: dict[str, Any] = {
        "google_api_key": SecretStr("key"),
        "gemini_base_url": "http://127.0.0.1:9",
        "twilio_account_sid": "AC" + "0" * 32,
        "twilio_auth_token": SecretStr("token"),
        "console_password": SecretStr(PASSWORD),
        "data_dir": tmp_path,
    }
    return Settings(_env_file=None, **(given | changes))


def put_call(parts: Parts, call_id: str = CALL) -> None:
    """Record a call of nine seconds and have the worker's steps derive, record and archive it."""
    path = parts.inbox.folder / "2026-11-23" / f"{call_id}.mcap"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tape(
        path,
        caller=at((4_000, tone(900, 300)), ms=9_000),
        bot=[
            Says(500, tone(2_500), "Hello, this is Ivory <Dental>."),
            Says(6_000, tone(2_000), "We open at nine & close at five."),
        ],
        heard=[Heard(4_900, "When are you open?")],
        ended="goodbye",
    )
    steps = CallSteps(parts)
    steps.derive(call_id)
    steps.recording(call_id)
    tape = parts.inbox.open(path)
    assert tape
    archive(tape, call_id, parts.recordings)
