"""The opening words, rendered once and kept as audio.

The greeting and its notice are spoken word for word by the model that will answer the calls, stored under the data
folder, and start the moment a media stream does, while the call's own session is still connecting
(docs/decisions/0004). Where no clip is ready yet the model is asked to say the words, and the next call finds the clip.
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


class Greetings:
    """Clips of opening words, by text, voice, language and model."""

    def __init__(self, folder: Path, model: str, speak: Speak) -> None:
        self._folder = folder
        self._model = model
        self._speak = speak
        self._clips: dict[str, Clip] = {}
        self._rendering: dict[str, asyncio.Task[None]] = {}

    def clip(self, flow: Flow) -> Clip | None:
        """The clip of this flow's opening if it is ready; otherwise None, and its rendering begins."""
        key = self._key(flow)
        if key not in self._clips:
            self._begin(flow, key)
        return self._clips.get(key)

    async def warm(self, flow: Flow) -> None:
        """Load the flow's clip, or have it rendered. Failure is logged and tried again at the next call."""
        key = self._key(flow)
        if key not in self._clips:
            await asyncio.shield(self._begin(flow, key))

    async def close(self) -> None:
        """Stop what is being rendered."""
        tasks = list(self._rendering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, flow: Flow, key: str) -> asyncio.Task[None]:
        if key not in self._rendering:
            task = asyncio.create_task(self._prepare(flow, key), name=f"greeting {key[:8]}")
            task.add_done_callback(lambda _: self._rendering.pop(key, None))
            self._rendering[key] = task
        return self._rendering[key]

    async def _prepare(self, flow: Flow, key: str) -> None:
        path = self._folder / f"{key[:32]}.wav"
        pcm = await asyncio.to_thread(_read, path)
        if pcm is None:
            try:
                pcm = await self._speak(flow.opening, flow.voice, flow.language)
            except ModelError as error:
                logger.warning("The greeting of flow {} could not be rendered: {}", flow.id, error)
                return
            await asyncio.to_thread(_write, path, pcm)
        self._clips[key] = Clip(flow.opening, pcm)

    def _key(self, flow: Flow) -> str:
        spoken = "\0".join((self._model, flow.voice, flow.language, flow.opening))
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
