"""The child process that holds the phones and the model, so that every moment is read from one clock.

``python -m benchmarks.load`` answers commands (`benchmarks.children`), each a method of `Load`.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

import uvloop

from benchmarks.children import answer_forever, take_standard_output
from benchmarks.model import Model
from benchmarks.phones import Account, Mode, Phone

FIRST_WORD_SECONDS = 15.0
REPLY_MS: dict[Mode, int] = {"answer": 200, "interrupt": 2_000, "talk": 2_000}


class Load:
    """The handlers of the commands; all run on the event loop."""

    def __init__(self) -> None:
        self._phones: list[Phone] = []
        self._model = Model(lambda index: self._phones[index] if 0 <= index < len(self._phones) else None)

    async def model(self, connection_seconds: float | None = None) -> dict[str, Any]:
        """Start the model, which lets no connection grow older than `connection_seconds`: ``{"url"}``."""
        self._model.connection_seconds = connection_seconds
        return {"url": await self._model.start()}

    async def greeting_rendered(self, seconds: float) -> dict[str, Any]:
        """Wait until the model has read something aloud, as a server asks that keeps its greeting as audio."""
        async with asyncio.timeout(seconds):
            await self._model.has_read_aloud.wait()
        await asyncio.sleep(0.5)
        return {}

    async def ring(self, url: str, calls: int, account: list[str] | None = None) -> dict[str, Any]:
        """Start `calls` calls together: ``{"first_word_ms": [...]}``, one for each caller who heard one."""
        signer = Account(*account) if account else None
        together = [Phone(len(self._phones) + i, url, signer) for i in range(calls)]
        self._phones += together
        await asyncio.gather(*(phone.ring() for phone in together))
        await asyncio.gather(*(phone.heard(FIRST_WORD_SECONDS) for phone in together))
        return {"first_word_ms": [phone.first_word_ms for phone in together if phone.first_word_ms is not None]}

    async def measure(self, mode: Mode, seconds: float) -> dict[str, Any]:
        """Let every caller talk in this manner: the `benchmarks.phones.Timings` of all of them, joined."""
        self._model.reply_ms = REPLY_MS[mode]
        for phone in self._phones:
            phone.begin(mode)
        await asyncio.sleep(seconds)
        joined: dict[str, Any] = {}
        for timings in [asdict(phone.timings) for phone in self._phones]:
            joined = {name: joined.get(name, type(value)()) + value for name, value in timings.items()}
        return joined

    async def usage(self) -> dict[str, Any]:
        """CPU seconds of this process, and the sessions that the model has opened."""
        return {"cpu_seconds": time.process_time(), "sessions": self._model.sessions}

    async def hang_up(self) -> dict[str, Any]:
        """All callers hang up."""
        for phone in self._phones:
            phone.hang_up()
        await asyncio.sleep(0.3)
        self._phones.clear()
        return {}


def main() -> None:
    """Answer the parent until it is gone."""
    line = take_standard_output()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    load = Load()
    mishaps: list[str] = []
    loop.set_exception_handler(lambda _, context: mishaps.append(f"{context.get('exception') or context['message']!r}"))

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if mishaps:
            raise RuntimeError(f"what measures is broken: {mishaps[:3]}")
        handler = getattr(load, request.pop("command"))
        future: Future[dict[str, Any]] = asyncio.run_coroutine_threadsafe(handler(**request), loop)
        return future.result()

    threading.Thread(target=answer_forever, args=(line, answer), daemon=True).start()
    gc.collect()
    gc.freeze()
    loop.run_forever()


if __name__ == "__main__":
    main()
