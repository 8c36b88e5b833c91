"""Runs the server: stand-ins where nothing is configured, uvicorn, the drain at SIGTERM, and the sample call."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from loguru import logger
from rich.console import Console

from bot.errors import ConfigurationError
from bot.logs import configure_logging
from bot.ports import Clock, utc
from bot.settings import Settings, load_settings

if TYPE_CHECKING:
    from bot.calls import Calls
    from bot.worker import Worker
    from desk.business import Business

DRAIN_SECONDS = 270
"""How long calls in progress may go on after SIGTERM; fly.toml's kill_timeout is a little longer."""

SAMPLE_SECONDS = 120
RECORD_SECONDS = 10
"""So long the record of the sample call is waited for."""

WORK_THREADS = 6
"""So many functions of the desk, closings of tapes and looks into files run at a time; the others wait."""
SWITCH_SECONDS = 0.001
"""A thread that works in Python gives the interpreter back to the audio loop after so long; CPython's own is 5 ms."""
YOUNG_OBJECTS = 2_000
"""So many new objects are looked at in one garbage collection: a quarter of a millisecond."""
NEVER = 1_000_000
"""Collections of new objects before older ones are looked at, too: at 30 calls one comes every few seconds."""

LARGEST_MESSAGE_BYTES = 1024 * 1024
"""A media message of more is a broken peer; up to here it is counted and survived (bot/carriers/media_stream.py)."""


class DrainingServer(uvicorn.Server):
    """A uvicorn server that sees its callers out before it closes their sockets.

    SIGTERM lets calls in progress finish, SIGINT ends them with a sentence; a second signal stops at once.
    """

    def __init__(self, config: uvicorn.Config, calls: Calls) -> None:
        super().__init__(config)
        self._calls = calls
        self._loop = asyncio.get_running_loop()
        self._leaving: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: object) -> None:
        """Called by uvicorn, in a signal handler, for SIGINT and SIGTERM."""
        self._loop.call_soon_threadsafe(self._leave, sig)

    def _leave(self, sig: int) -> None:
        if self._leaving is not None:
            self.should_exit = True
            return
        seconds = DRAIN_SECONDS if sig == signal.SIGTERM else 0
        self._leaving = asyncio.create_task(self._see_out(seconds), name="leaving")

    async def _see_out(self, seconds: float) -> None:
        await self._calls.drain(seconds)
        await self._calls.see_out()
        self.should_exit = True


def serve(*, sample_call: bool) -> int:
    """Serve until a signal ends it. Gives the exit status.

    Raises `bot.errors.ConfigurationError` and `bot.errors.FlowError` before anything is opened.
    """
    # Nothing that is imported becomes garbage: looking for it costs a tenth of the start (`_settle_memory` ends this).
    gc.disable()
    sys.setswitchinterval(SWITCH_SECONDS)
    os.umask(0o077)  # what callers said is for this user only
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    runner = asyncio.Runner(loop_factory=_loop_factory())
    with runner:
        return runner.run(_serve(settings, sample_call))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(settings: Settings, sample_call: bool) -> int:
    console = Console(stderr=False)
    asyncio.get_running_loop().set_default_executor(_work_threads())
    async with AsyncExitStack() as stack:
        listener = _listen(settings)
        address = f"http://{_reachable(settings.host)}:{listener.getsockname()[1]}"
        stand_in = settings.uses_stand_in_model or settings.uses_stand_in_carrier
        card: Path | None = None
        # The parts take two seconds of CPU to import: beside the stand-ins' own start, not after it.
        loading = asyncio.create_task(asyncio.to_thread(importlib.import_module, "bot.app"))
        if stand_in:
            settings, card = await _with_stand_ins(settings, address, console, stack)
        with _progress(console, "Opening the switchboard …"):
            app: FastAPI = (await loading).create_app(settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="bot.sockets:CarrierSocket",
            ws_max_size=LARGEST_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            proxy_headers=False,
            timeout_graceful_shutdown=10,
        )
        server = DrainingServer(config, app.state.calls)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
        await _until_started(server, serving)
        _settle_memory()
        logger.info("Serving on {}", address)
        if not serving.done():
            _show_login(app, settings.public_url or address, console)
        worker: Worker = app.state.worker
        stack.push_async_callback(worker.stop)
        worker.start()
        if sample_call and stand_in and not serving.done():
            await _place_sample_call(app, console, card, serving)
        await serving
    return 0


def _work_threads() -> ThreadPoolExecutor:
    """All of them are made now: who starts a thread waits until it runs, which the audio loop must not do."""
    pool, together = ThreadPoolExecutor(WORK_THREADS, "work"), threading.Barrier(WORK_THREADS)
    try:
        made = [pool.submit(together.wait) for _ in range(WORK_THREADS)]
    except BaseException:  # the system gives no more threads: the others must not wait for it, nor the exit for them
        together.abort()
        raise
    for each in made:
        each.result()
    return pool


async def _with_stand_ins(
    settings: Settings, address: str, console: Console, stack: AsyncExitStack
) -> tuple[Settings, Path | None]:
    from bot.stand_ins import start_stand_ins, write_card

    missing = " and ".join(
        name
        for name, absent in (
            ("GOOGLE_API_KEY", settings.uses_stand_in_model),
            ("TWILIO_ACCOUNT_SID", settings.uses_stand_in_carrier),
        )
        if absent
    )
    console.print(
        f"[bold yellow]{missing} not set: stand-ins answer instead.[/] "
        "They speak the real protocols, but what you hear is a practice voice, not a model.",
        highlight=False,
    )
    with _progress(console, "Starting the stand-ins …"):
        stand_ins = await start_stand_ins(settings)
    stack.push_async_callback(stand_ins.stop)
    fake_carrier = settings.uses_stand_in_carrier
    settings = stand_ins.apply(settings)
    return settings, write_card(settings, address) if fake_carrier else None


def _show_login(app: FastAPI, address: str, console: Console) -> None:
    from bot.terminal import show_login

    access = app.state.console.access
    show_login(console, address, access.password_file, access.made_password)


async def _place_sample_call(app: FastAPI, console: Console, card: Path | None, serving: asyncio.Task[None]) -> None:
    """Let the stand-in phone ring here, and show the call. A failed sample call is told, and the server goes on."""
    if card is None:
        return
    from bot.events import CallEvent
    from bot.terminal import CallView

    view = CallView(console)
    calls, parts = app.state.calls, app.state.parts
    seen: list[str] = []

    def listener(call_sid: str, event: CallEvent, now_ns: int) -> None:
        if not seen:
            seen.append(call_sid)
        if seen == [call_sid]:
            view.show(event, now_ns)

    with _progress(console, "Rendering the greeting …"):
        await parts.greetings.prepare(parts.flow, parts.flow.opening)
    console.rule("sample call")
    parts.listeners.append(listener)
    weekday = sample_weekday(parts.flow.desk_business(), parts.clock)
    phone = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "call", "--sample", weekday, "--card", str(card),
        stdout=asyncio.subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    phone_over = asyncio.create_task(phone.wait())
    try:
        await asyncio.wait({phone_over, serving}, timeout=SAMPLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        call = calls.get(seen[0]) if seen else None
        if call is not None:
            await asyncio.wait({asyncio.create_task(call.over())}, timeout=10)
    finally:
        if phone.returncode is None:
            phone.terminate()
        await phone_over
        parts.listeners.remove(listener)
    if call is None or call.tape_path is None:
        console.print("[red]The sample call did not come through.[/] The log above says why.", highlight=False)
        return
    call_id = call.tape_path.name.removesuffix(".part").removesuffix(".mcap")
    view.summary()
    await _show_record(call_id, console, serving)
    console.print(f"  tape      uv run -m qa show {call_id}", style="dim", highlight=False, soft_wrap=True)


async def _show_record(call_id: str, console: Console, serving: asyncio.Task[None]) -> None:
    """Show what the worker has made of a call, as soon as it has; the server's end is not held up by it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "records", "show", call_id, "--short", "--wait", str(RECORD_SECONDS),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    shown = asyncio.create_task(process.communicate())
    await asyncio.wait({shown, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not shown.done():
        process.terminate()
    output, _ = await shown
    console.out(output.decode().rstrip(), highlight=False)


def sample_weekday(business: Business, clock: Clock) -> str:
    """A weekday two to five days ahead, so that it means one day in every time zone, and no holiday if that can be."""
    days = [utc(clock).date() + timedelta(days=ahead) for ahead in range(2, 6)]
    working = [day for day in days if day.weekday() < 5]
    return next((day for day in working if not business.holiday(day)), working[0]).strftime("%A")


def _settle_memory() -> None:
    """Keep what start-up has made out of every later garbage collection, and give back what it no longer needs.

    From here on only new objects are looked at, so many at a time. What has outlived that are the objects of all calls
    that are up, and to go over them holds the loop for longer than callers may wait: `bot.calls.Calls` has it done when
    few are (docs/decisions/0016).
    """
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, NEVER, NEVER)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _listen(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises `bot.errors.ConfigurationError` where the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            "PORT", f"{settings.host}:{settings.port} cannot be used ({error.strerror}).", "Choose another, or 0."
        ) from error
    listener.listen(128)
    return listener


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


async def _until_started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    while not server.started and not serving.done():
        await asyncio.wait({serving}, timeout=0.02)


def _progress(console: Console, what: str) -> AbstractContextManager[object]:
    """A spinner where somebody watches; a line elsewhere."""
    if console.is_terminal:
        return console.status(what)
    console.print(what, highlight=False)
    return nullcontext()
