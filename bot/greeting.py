"""Ready-made words, rendered once and kept as audio: the opening of every call, and phrases for when no model speaks.

The greeting and its notice are spoken word for word by the model that will answer the calls, stored under the data
folder, and start the moment a media stream does, while the call's own session is still connecting
(docs/decisions/0004). Where no clip is ready yet the model is asked to say the words, and the next call finds the clip.
Phrases are kept in the same voice; one that is not ready is never waited for.
"""

from __future__ import annotations

import asyncio
import hashlib
import wave
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from bot.errors import ModelError
from bot.flow import Flow

CLIP_RATE = 24_000


@dataclass(frozen=True)
class Clip:
    """Spoken words: `pcm` is 24 kHz mono s16le."""

    text: str
    pcm: bytes

    @property
    def milliseconds(self) -> float:
        """How long the clip plays."""
        return len(self.pcm) / 2 / CLIP_RATE * 1000


Speak = Callable[[str, str, str], Awaitable[bytes]]
"""(text, voice, language) -> 24 kHz mono s16le; raises `bot.errors.ModelError`."""


KEPT_PHRASES = ("one_moment", "still_there", "sorry_lost", "goodbye")
"""Phrases of a flow that are said while the stream is up. The others are said by the carrier, before or after it."""


class Greetings:
    """Clips of opening words and phrases, by text, voice, language and model."""

    def __init__(self, folder: Path, model: str, speak: Speak) -> None:
        self._folder = folder
        self._model = model
        self._speak = speak
        self._clips: dict[str, Clip] = {}
        self._rendering: dict[str, asyncio.Task[None]] = {}

    def clip(self, flow: Flow, words: str) -> Clip | None:
        """The clip of these words if it is ready; otherwise None, and its rendering begins."""
        key = self._key(flow, words)
        if key not in self._clips:
            self._begin(flow, words, key)
        return self._clips.get(key)

    def ready(self, flow: Flow, words: str) -> Clip | None:
        """The clip of these words if there is one."""
        return self._clips.get(self._key(flow, words))

    async def warm(self, flow: Flow) -> None:
        """Load the flow's clips, or have them rendered, the opening first and one after the other.

        Failure is logged and tried again when the words are next wanted.
        """
        handing_over = (flow.handover.handing_over,) if flow.handover and flow.handover.number else ()
        for words in (flow.opening, *(getattr(flow.phrases, name) for name in KEPT_PHRASES), *handing_over):
            await self.prepare(flow, words)

    async def prepare(self, flow: Flow, words: str) -> None:
        """Load the clip of these words, or have it rendered."""
        key = self._key(flow, words)
        if key not in self._clips:
            await asyncio.shield(self._begin(flow, words, key))

    async def close(self) -> None:
        """Stop what is being rendered."""
        tasks = list(self._rendering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, flow: Flow, words: str, key: str) -> asyncio.Task[None]:
        if key not in self._rendering:
            task = asyncio.create_task(self._prepare(flow, words, key), name=f"clip {key[:8]}")
            task.add_done_callback(lambda _: self._rendering.pop(key, None))
            self._rendering[key] = task
        return self._rendering[key]

    async def _prepare(self, flow: Flow, words: str, key: str) -> None:
        path = self._folder / f"{key[:32]}.wav"
        pcm = await asyncio.to_thread(_read, path)
        if pcm is None:
            try:
                pcm = await self._speak(words, flow.voice, flow.language)
            except ModelError as error:
                logger.warning("A clip of {} letters of flow {} could not be rendered: {}", len(words), flow.id, error)
                return
            try:
                await asyncio.to_thread(_write, path, pcm)
            except OSError as error:
                logger.warning(
                    "A clip could not be stored ({}); it is rendered again at the next start", error.strerror
                )
        self._clips[key] = Clip(words, pcm)

    def _key(self, flow: Flow, words: str) -> str:
        spoken = "\0".join((self._model, flow.voice, flow.language, words))
        return hashlib.sha256(spoken.encode()).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        with wave.open(str(path), "rb") as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (CLIP_RATE, 1, 2):
                return None
            return file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error):
        return None


def _write(path: Path, pcm: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with wave.open(str(unfinished), "wb") as file:
        file.setframerate(CLIP_RATE)
        file.setnchannels(1)
        file.setsampwidth(2)
        file.writeframes(pcm)
    unfinished.replace(path)
