"""The worker as a process of its own, and tapes for it to work through."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from bot.events import BotSaid, CallEnded, CallerSaid, CallEvent, CallReceived
from bot.ports import SystemClock
from bot.settings import Settings
from bot.tape import TapeDeck
from records.steps import Parts, open_parts
from records.store import migrate

ROOT = Path(__file__).parents[2]

EVENTS = (
    CallReceived("", "+15550100", "+15550199", "dental"),
    BotSaid("Hello, this is Ivory Dental.", 1.0, False),
    CallerSaid("I need a check-up."),
)


class WorkerProcess:
    """``python -m records work``, or a script in its place, with these settings. ``with`` starts and kills it."""

    def __init__(self, *, script: str = "", **settings: object) -> None:
        self._command = [sys.executable, *(("-c", script) if script else ("-m", "records", "work"))]
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
        self._env = kept | {name.upper(): str(value) for name, value in settings.items()}

    def __enter__(self) -> WorkerProcess:
        self.process = subprocess.Popen(self._command, cwd=ROOT, env=self._env, stdout=subprocess.DEVNULL)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def parts_of(**settings: object) -> Parts:
    """What the worker of these settings works with."""
    chosen = Settings(_env_file=None, **settings)  # type: ignore[call-arg,arg-type]
    migrate(chosen.database)
    return open_parts(chosen, SystemClock())


def leave_tape(data_dir: Path, call_sid: str, *events: CallEvent, finished: bool = True) -> Path:
    """A tape in the inbox: of an ended call, or as a killed server leaves it."""

    async def write() -> Path:
        deck = TapeDeck(data_dir, SystemClock(), _no_trouble)
        tape = deck.open(call_sid, {"flow": {"id": "dental"}, "account": "AC1"})
        for event in (*EVENTS, *events):
            tape.put("event", event.to_json())
        if finished:
            tape.put("event", CallEnded("goodbye", 1000.0).to_json())
            path = await tape.close()
        else:
            tape.flush()
            assert tape._path is not None
            assert tape._descriptor is not None
            path = tape._path
            os.close(tape._descriptor)
            deck._forget(tape)
        await deck.close()
        return path

    return asyncio.run(write())


def wait_until(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Until `what` is true. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def _no_trouble(trouble: object) -> None:
    raise AssertionError(trouble)
