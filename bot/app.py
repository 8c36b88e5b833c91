"""The composition root: the one place where the parts meet."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

import httpx
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from loguru import logger

from bot.call import CallListener, CallParts
from bot.calls import Calls
from bot.carriers import NextStep
from bot.carriers.twilio import CarrierRest
from bot.carriers.webhooks import twilio_router
from bot.errors import ConfigurationError, ModelError
from bot.flow import load_flow
from bot.gemini_client import GeminiClients
from bot.gemini_models import live_config, profile_of
from bot.greeting import Greetings
from bot.metrics import LoopHoldMonitor, Metrics
from bot.ports import Clock, Ids, SystemClock
from bot.settings import Settings
from bot.tape import TapeDeck, TapeTrouble
from bot.tools import CallFacts, ToolBox
from bot.worker import Worker
from console.access import password_file
from console.web import Console
from desk.desk import Desk, migrate

ROOT = Path(__file__).parent.parent
FLOWS = ROOT / "flows"


@cache
def code_version() -> str:
    """What runs, for tapes: ``0.1.0+`` and the commit, with ``-dirty`` where files differ from it.

    Where there is no checkout, as in an image, a digest of the sources stands for the commit.
    """
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    with suppress(OSError, subprocess.CalledProcessError):
        if (ROOT / ".git").exists():
            return f"{release}+{subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()}"
    digest = hashlib.sha256()
    for source in sorted(path for package in ("bot", "desk", "records") for path in (ROOT / package).rglob("*.py")):
        digest.update(source.read_bytes())
    return f"{release}+src.{digest.hexdigest()[:12]}"


def find_flow(name: str) -> Path:
    """The file of the flow that ``FLOW`` names: a path, or a name in flows/ with or without ``.yaml``.

    Raises `bot.errors.ConfigurationError` with the names there are.
    """
    for path in (Path(name), FLOWS / name, FLOWS / f"{name}.yaml"):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in FLOWS.glob("*.yaml")))
    raise ConfigurationError("FLOW", f"{name!r} is no file in flows/.", f"There are: {names}.")


def try_recordings(settings: Settings) -> None:
    """Write to the store of recordings and read from it. Raises `ConfigurationError` or `RecordingsError`; blocks."""
    from records.recordings import Recordings  # 15 MB that a server does not need, its worker does

    Recordings(settings.recordings, settings.s3).ping()


def where_the_password_lies(settings: Settings) -> Path | None:
    """The file of the console's password; None where it is ``CONSOLE_PASSWORD``."""
    return password_file(settings)


def create_app(
    settings: Settings,
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    listeners: tuple[CallListener, ...] = (),
) -> FastAPI:
    """Put a server together from its settings; nothing is opened before it starts.

    `settings` must name a key and an account (bot/stand_ins.py fills them in where nothing is configured). The parts,
    the calls, the console and the worker (which whoever serves the app starts) are ``app.state.parts``, ``.calls``,
    ``.console`` and ``.worker``.

    Raises `bot.errors.ConfigurationError` and `bot.errors.FlowError` for what can be seen to be wrong beforehand.
    """
    clock = clock or SystemClock()
    flow = load_flow(find_flow(settings.flow))
    models = flow.models or settings.gemini_models
    metrics = Metrics()
    clients = GeminiClients(settings)
    parts = CallParts(
        settings=settings,
        flow=flow,
        desk=Desk(settings.database, flow.desk_business(), clock),
        clock=clock,
        ids=ids or Ids(),
        clients=clients,
        rest=CarrierRest(settings, clock),
        metrics=metrics,
        deck=TapeDeck(settings.data_dir, clock, lambda trouble: _tape_trouble(metrics, trouble)),
        greetings=Greetings(settings.data_dir / "greetings", models[0], clients.speak),
        code_version=code_version(),
        listeners=list(listeners),
    )
    calls = Calls(parts)
    console = Console(settings, clock, Ids(), metrics)
    app = FastAPI(
        title="Switchboard", version=parts.code_version, lifespan=lambda app: _lifespan(app, parts, calls, console)
    )
    app.state.parts = parts
    app.state.calls = calls
    app.state.console = console
    app.state.worker = worker = Worker(metrics, clock)
    sorry = NextStep(flow.phrases.sorry_unreachable, "hang_up", flow.language)
    shared_key = settings.twilio_shared_key.get_secret_value() if settings.twilio_shared_key else None
    app.include_router(twilio_router(calls, settings, metrics, clock, sorry=sorry, shared_key=shared_key))
    app.include_router(console.router)
    app.mount("/console/static", console.static)
    _add_operations(app, parts, calls, worker)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, parts: CallParts, calls: Calls, console: Console) -> AsyncIterator[None]:
    await asyncio.to_thread(migrate, parts.settings.database)
    await asyncio.to_thread(parts.desk.open)
    await console.open()
    await parts.clients.open()
    await _rehearse(app, parts)
    warming = asyncio.create_task(parts.greetings.warm(parts.flow), name="greeting")
    monitor = LoopHoldMonitor(parts.metrics)
    monitor.start()
    logger.info("Flow {} answers with {}", parts.flow.id, ", ".join(parts.flow.models or parts.settings.gemini_models))
    try:
        yield
    finally:
        warming.cancel()
        await calls.close()
        await parts.greetings.close()
        monitor.stop()
        await parts.deck.close()
        await parts.rest.close()
        await console.close()
        await asyncio.to_thread(parts.desk.close)


async def _rehearse(app: FastAPI, parts: CallParts) -> None:
    """Do once what is slow at its first use, before anybody waits for it."""
    # FastAPI works out its routes when they are first compared with a request; this one is compared with all.
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://rehearsal") as client:
        await client.get("/no-such-page")
    nobody = CallFacts("rehearsal", "+12025550123", "+12025550143")
    toolbox = ToolBox(parts.flow, parts.desk, parts.clock, nobody, lambda event: None)
    model = (parts.flow.models or parts.settings.gemini_models)[0]
    config = live_config(profile_of(model), parts.flow, toolbox.system_instruction(), toolbox.declarations)
    with suppress(ModelError):  # a call will fail at the same, and tell it
        await parts.clients.rehearse(model, config)


def _tape_trouble(metrics: Metrics, trouble: TapeTrouble) -> None:
    metrics.failures.labels(f"tape_{trouble.kind}").inc()
    if trouble.lost:
        metrics.tape_lost_records.inc(trouble.lost)
    logger.error("Tape of call {}: {} {}", trouble.call_sid, trouble.kind, trouble.detail)


def _add_operations(app: FastAPI, parts: CallParts, calls: Calls, worker: Worker) -> None:
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """The process is alive and its event loop turns."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    async def readyz() -> JSONResponse:
        """Whether calls can be taken: 200, or 503 with the reasons; and how the worker does, without which they can."""
        reasons = calls.reasons_not_ready()
        try:
            await asyncio.wait_for(asyncio.to_thread(parts.desk.ping), 2)
        except Exception as error:
            reasons.append(f"database: {type(error).__name__}")
        answer = {"ready": not reasons, "reasons": reasons, "worker": worker.state}
        return JSONResponse(answer, status_code=503 if reasons else 200)

    @app.get("/metrics", tags=["operations"])
    async def metrics() -> Response:
        """Counters and histograms in the Prometheus text format."""
        return Response(parts.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
