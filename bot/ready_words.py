"""What a call says by itself, in the bot's voice: the opening, phrases into silences, the last words before a hang-up.

Words that lie ready as clips are played; the opening is asked of the model where there is no clip. Nobody is cut off in
a sentence: who wants to end a call waits here until what is being said has been heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from pipecat.pipeline.worker import PipelineWorker

from bot.carriers.media_socket import MediaSocket
from bot.events import (
    BargeIn,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    CallEvent,
    GreetingStarted,
    ModelFailed,
    SilenceFilled,
    StreamStopped,
)
from bot.flow import Flow
from bot.gemini import GeminiSession
from bot.greeting import Greetings
from bot.pipeline import play_clip
from bot.ports import Clock
from bot.silence import LOOK_SECONDS
from bot.turns import Turns

GOODBYE_SECONDS = 15.0
"""The longest that the model's last words may take to be heard before the line is closed."""
LAST_WORDS_SECONDS = 3.0
"""The model begins its last words this soon after the tool that ends the call, or has said them before it."""
FINISH_SECONDS = 12.0
"""Words that are being heard are let to their end for so long before the last words of a call."""
STALL_SECONDS = 1.0
"""A model that has sent no audio for so long is not speaking, whatever it has begun."""
CLIP_END_SECONDS = 3.0
"""The carrier tells this soon after a clip should have been played that it was."""


class ReadyWords:
    """The ready-made words of one call, and whether the bot is being heard. `see` must get every event of the call."""

    def __init__(
        self,
        flow: Flow,
        greetings: Greetings,
        clock: Clock,
        record: Callable[[CallEvent], None],
        *,
        media: MediaSocket,
        turns: Turns,
        gemini: GeminiSession,
        worker: PipelineWorker,
    ) -> None:
        self.saying_goodbye = False
        self._flow = flow
        self._greetings = greetings
        self._clock = clock
        self._record = record
        self._media = media
        self._turns = turns
        self._gemini = gemini
        self._worker = worker
        self._quiet = asyncio.Event()
        self._spoke = asyncio.Event()
        self._goodbye_cut = False

    def see(self, event: CallEvent) -> None:
        """Take note of what happened on the call."""
        match event:
            case BotStartedSpeaking():
                self._quiet.clear()
                self._spoke.set()
            case BotStoppedSpeaking() | BargeIn() if not self._turns.bot_is_heard:
                self._quiet.set()
            case StreamStopped():
                # Nobody hears anything any more.
                self._quiet.set()
            case ModelFailed() if self.saying_goodbye:
                self._goodbye_cut = True

    @property
    def bot_spoke(self) -> bool:
        """Whether the caller has heard a word of the bot."""
        return self._spoke.is_set()

    @property
    def bot_sounds(self) -> bool:
        """Whether audio of the bot is on its way to the caller's ear, or pauses for a moment."""
        return self._media.waiting_ms() > 0 or self._media.paused

    async def greet(self) -> None:
        """Say the flow's opening: from its clip, or by the model."""
        clip = self._greetings.clip(self._flow, self._flow.opening)
        self._record(GreetingStarted("cache" if clip else "model", self._flow.opening))
        if clip is None:
            await self._gemini.greet(self._flow.opening)
        else:
            # From here on the greeting is being heard: it must not be cut off, nor taken for the end of other words.
            self._spoke.set()
            self._quiet.clear()
            await play_clip(self._worker, clip.pcm, clip.text)

    async def fill(self, phrase: Literal["one_moment", "still_there"]) -> None:
        """Say a phrase of the flow into a silence, where it lies ready."""
        clip = self._greetings.clip(self._flow, getattr(self._flow.phrases, phrase))
        self._record(SilenceFilled(phrase, "cache" if clip else "none"))
        if clip:
            # A model that spoke a moment ago has begun to answer; one that did not has stopped in its sentence.
            spoke_ns = self._turns.model_spoke_ns
            stalled = spoke_ns is None or self._clock.now_ns() - spoke_ns > STALL_SECONDS * 1e9
            await play_clip(self._worker, clip.pcm, clip.text, aside=True, stalled=stalled)

    async def model_says_goodbye(self, *, has_answered: bool) -> bool:
        """The model has asked to end the call: what it says now, or was saying, is heard first.

        `has_answered`: the caller has had an answer to what they said last. Gives whether they have heard a goodbye:
        not where the model says nothing after their last words, or is cut off in it.
        """
        self._spoke.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORDS_SECONDS):
                        await self._spoke.wait()
                if self._turns.bot_is_heard or self._spoke.is_set():
                    await self._quiet.wait()
        return (has_answered or self._spoke.is_set()) and not self._goodbye_cut

    async def finish(self) -> None:
        """Let what is being heard, the opening most of all, be heard to its end.

        A model that has stopped in its sentence is not waited for.
        """
        if not self._spoke.is_set():
            return
        begun_ns = sounded_ns = self._clock.now_ns()
        while not self._quiet.is_set():
            await self._clock.sleep(LOOK_SECONDS)
            now_ns = self._clock.now_ns()
            if self.bot_sounds:
                sounded_ns = now_ns
            if now_ns - sounded_ns > STALL_SECONDS * 1e9 or now_ns - begun_ns > FINISH_SECONDS * 1e9:
                return

    async def say_last(self, words: str) -> bool:
        """Say the last words of the call, where they lie ready and the line is free. Whether they were heard."""
        clip = self._greetings.ready(self._flow, words)
        if clip is None or not self._media.attached or self._turns.bot_is_heard:
            return False
        self._spoke.clear()
        self._quiet.clear()
        await play_clip(self._worker, clip.pcm, clip.text, last=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(clip.milliseconds / 1000 + CLIP_END_SECONDS):
                await self._quiet.wait()
        return self._spoke.is_set() and self._quiet.is_set() and self._media.attached
