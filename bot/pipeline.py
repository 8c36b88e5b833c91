"""The pipeline of one call, read from top to bottom: carrier -> Gemini Live -> carrier.

It is started when the webhook arrives, before there is a media stream, so that the model connects early. Rates are
fixed: 16 kHz up, 24 kHz down; the serializer converts to and from the line's mu-law, and nothing is resampled between.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    DataFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner

from bot.audio import MODEL_IN_HZ, MODEL_OUT_HZ
from bot.carriers.media_socket import MediaSerializer, MediaSocket, end_of_turn
from bot.gemini import GeminiSession
from bot.lane import CallTransport

CHUNK_10MS = 4
"""Audio goes out in messages of 40 ms; with what `bot.lane` sends ahead, 40 to 80 ms wait at the carrier."""
_CLIP_PIECE_MS = 200


def build_pipeline(media: MediaSocket, serializer: MediaSerializer, gemini: GeminiSession) -> PipelineWorker:
    """The call's pipeline, not running yet."""
    transport = CallTransport(
        media,
        FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            audio_out_10ms_chunks=CHUNK_10MS,
            audio_out_end_silence_secs=0,
            allowed_origins=[],
            serializer=serializer,
        ),
    )
    voice = BotVoice()
    media.on_cut_in = voice.cut_in
    return PipelineWorker(
        Pipeline(
            [
                transport.input(),
                gemini,
                voice,
                transport.output(),
                SpokenWords(gemini),
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=MODEL_IN_HZ, audio_out_sample_rate=MODEL_OUT_HZ),
        # No context aggregators: the conversation is kept by the model and by bot/gemini_memory.py. No RTVI, no
        # observers, no idle timer: nobody listens to them, and the call has timers of its own.
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
    )


async def run_pipeline(worker: PipelineWorker) -> None:
    """Run a call's pipeline to its end. A runner of its own, so that no call can take another one down."""
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    vars(runner).clear()  # else it stays in memory with the call: it keeps itself, see `bot.lane.take_apart`


@dataclass
class ClipFrame(DataFrame):
    """Ready-made words (24 kHz mono s16le) to be said.

    An `aside` fills a silence: it is no answer, and is dropped where the model has begun to speak meanwhile; `stalled`
    says that the model is silent in the middle of its sentence. After the `last` words of a call the model is not heard
    any more.
    """

    words: str = ""
    pcm24k: bytes = b""
    aside: bool = False
    last: bool = False
    stalled: bool = False
    interruptible: bool = field(default=False, init=False)


@dataclass
class ClipWordsFrame(DataFrame):
    """Stands right before the audio of a clip."""

    words: str = ""
    aside: bool = False
    interruptible: bool = field(default=False, init=False)


async def play_clip(
    worker: PipelineWorker,
    pcm24k: bytes,
    words: str = "",
    *,
    aside: bool = False,
    last: bool = False,
    stalled: bool = False,
) -> None:
    """Say ready-made words (24 kHz mono s16le). They are heard to their end, whatever the caller does.

    See `ClipFrame` for `aside`, `last` and `stalled`.
    """
    await worker.queue_frame(ClipFrame(words, pcm24k, aside, last, stalled))


class BotVoice(FrameProcessor):
    """Marks where a turn of the bot ends, and guards ready-made words against the model.

    A clip carries what must be said by law. While one plays, what the model says waits behind it, and an interruption
    drops only that.
    """

    def __init__(self) -> None:
        super().__init__(enable_direct_mode=True)
        self._clip_plays = False
        self._model_speaks = False
        self._was_last = False
        self._was_cut = False
        self._held: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Downstream what is to be heard, upstream what was."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
            if isinstance(frame, BotStoppedSpeakingFrame) and self._clip_plays:
                await self._clip_is_over()
        elif isinstance(frame, ClipFrame):
            await self._say(frame)
        elif self._clip_plays and isinstance(frame, InterruptionFrame):
            self._held.clear()
        elif self._clip_plays and isinstance(frame, _SPEECH):
            self._held.append(frame)
        elif self._was_last and isinstance(frame, _SPEECH):
            return
        else:
            await self._pass_on(frame)

    async def cut_in(self) -> None:
        """The caller spoke on over the model, which may not have noticed: drop its turn, and the rest of it to come."""
        if self._clip_plays:
            self._held.clear()
            return
        self._was_cut = self._model_speaks
        await self.push_frame(InterruptionFrame())

    async def _say(self, clip: ClipFrame) -> None:
        if self._model_speaks and clip.stalled:
            # What comes of the sentence later is a turn of its own.
            await self._pass_on(TTSStoppedFrame())
        if clip.aside and (self._model_speaks or self._clip_plays):
            return
        self._clip_plays = True
        self._was_last = clip.last
        size = 2 * MODEL_OUT_HZ * _CLIP_PIECE_MS // 1000
        pieces = [clip.pcm24k[i : i + size] for i in range(0, len(clip.pcm24k), size)]
        frames: list[Frame] = [TTSStartedFrame(), ClipWordsFrame(clip.words, clip.aside)]
        frames += [TTSAudioRawFrame(audio=piece, sample_rate=MODEL_OUT_HZ, num_channels=1) for piece in pieces]
        for frame in [*frames, TTSStoppedFrame(), end_of_turn()]:
            frame.interruptible = False
            await self.push_frame(frame)

    async def _pass_on(self, frame: Frame) -> None:
        if isinstance(frame, _SPEECH):
            self._model_speaks = not isinstance(frame, TTSStoppedFrame)
            self._was_cut = self._was_cut and not isinstance(frame, TTSStartedFrame)
            if self._was_cut:
                return
        await self.push_frame(frame)
        if isinstance(frame, TTSStoppedFrame):
            await self.push_frame(end_of_turn())

    async def _clip_is_over(self) -> None:
        self._clip_plays = False
        held, self._held = ([] if self._was_last else self._held), []
        for frame in held:
            await self._pass_on(frame)


_SPEECH = (TTSStartedFrame, TTSAudioRawFrame, TTSTextFrame, TTSStoppedFrame)


class SpokenWords(FrameProcessor):
    """Behind the output, where words arrive in their place between the audio that was sent, or not at all."""

    def __init__(self, gemini: GeminiSession) -> None:
        super().__init__(enable_direct_mode=True)
        self._turns = gemini.bot_turns

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Tell the words."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSTextFrame):
            self._turns.text(frame.text, frame.context_id or "")
        elif isinstance(frame, ClipWordsFrame):
            self._turns.clip(frame.words, aside=frame.aside)
        await self.push_frame(frame, direction)
