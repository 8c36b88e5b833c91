"""What goes up to the model: sent while there is a session, kept in order while there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from google.genai import types
from loguru import logger

from bot.gemini_client import Connection
from bot.gemini_memory import CallerAudio

STUCK_SECONDS = 1.0
"""Words are waited for so long on a socket that takes nothing: who sends them has a caller to look after."""


class Uplink:
    """The sending side of one call's session, over one connection after another.

    Nothing here raises: a connection that takes nothing is broken, which its reader finds out by itself, and what it
    did not take is kept. Audio waits for no socket: what one cannot take now goes with the next frame; words wait for
    `STUCK_SECONDS` at most. `on_dropped` is told once per gap when it lasts longer than `CallerAudio.KEPT_S`.
    """

    def __init__(self, on_dropped: Callable[[], None]) -> None:
        self._on_dropped = on_dropped
        self._connection: Connection | None = None
        self._audio = CallerAudio()
        self._texts: list[str] = []
        self._unanswered: list[str] = []
        self._flows = False
        self._dropped = False

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return self._connection is not None

    @property
    def has_texts(self) -> bool:
        """Whether texts wait for a session."""
        return bool(self._texts)

    async def open(self, connection: Connection, recap: str) -> None:
        """There is a session: it gets `recap` (if any), then the texts that waited."""
        self._connection = connection
        if recap:
            await self.note(recap)
        texts, self._texts = self._texts, []
        for text in texts:
            await self.text(text)

    def lost(self) -> None:
        """The session is gone, and with it what it had not answered yet."""
        self._connection = None
        self._flows = self._dropped = False
        self._audio.lost()
        self._texts[:0] = self._unanswered
        self._unanswered.clear()

    async def text(self, words: str) -> None:
        """Words for the model (``realtimeInput.text``), kept until it answers."""
        connection = self._connection
        if connection is None:
            self._texts.append(words)
            return
        self._unanswered.append(words)
        await _put(connection.session.send_realtime_input(text=words))

    async def note(self, words: str) -> None:
        """Words that need not be kept: whoever sends them will know whether they must be said again."""
        if self._connection:
            await _put(self._connection.session.send_realtime_input(text=words))

    async def answer(self, response: types.FunctionResponse) -> bool:
        """The answer to a function call. Whether it was sent: on another connection it means nothing."""
        connection = self._connection
        return connection is not None and await _put(connection.session.send_tool_response(function_responses=response))

    async def audio(self, pcm: bytes) -> None:
        """The caller's audio, 16 kHz s16le."""
        if self._audio.wait(pcm) and not self._dropped:
            self._dropped = True
            self._on_dropped()
        if self._flows:
            await self._send_audio()

    def transcribed(self) -> None:
        """The audio sent so far is known in words; it need not be sent again."""
        self._audio.understood()

    def answered(self) -> None:
        """The model speaks or acts: nothing that was sent so far need be sent again."""
        self._audio.understood()
        self._unanswered.clear()

    def hold_audio(self) -> None:
        """Keep the caller's audio for now."""
        self._flows = False

    async def let_audio_flow(self) -> None:
        """Send the audio that waits, oldest first, and what comes from now on."""
        self._flows = self._connection is not None
        await self._send_audio()

    async def _send_audio(self) -> None:
        while self._connection and self._connection.socket.takes_audio and (piece := self._audio.take()):
            # What it does not take comes back in its place when the connection is found to be lost.
            self._audio.sent(piece)
            if not await _sent(self._connection.socket.send_audio(piece)):
                self._flows = False
                return
        self._dropped = self._dropped and bool(self._audio.waiting_ms)


async def _sent(sending: Awaitable[None]) -> bool:
    try:
        await sending
    except Exception as error:
        logger.debug("The Gemini connection takes nothing: {}", type(error).__name__)
        return False
    return True


async def _put(sending: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(STUCK_SECONDS):
            return await _sent(sending)
    except TimeoutError:
        # It stands in the socket's own queue, and is sent or lost with what stands before it.
        return True


async def send_history(connection: Connection, turns: list[tuple[Literal["user", "model"], str]]) -> None:
    """Give the model a conversation that it did not have, oldest first; before anything else."""
    contents = [types.Content(role=role, parts=[types.Part(text=words)]) for role, words in turns]
    await connection.session.send_client_content(turns=[*contents], turn_complete=True)
