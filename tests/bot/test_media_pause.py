"""The bot pauses for a voice on the caller's side: what is on the wire, and in what order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from fakes.carrier import Carrier, Line, settle

from bot.audio import FRAME_BYTES, pcm_to_ulaw
from bot.barge_in import CUT_FRAMES, QUIET_FRAMES
from bot.carriers import media_socket
from bot.events import BargeIn, BotSaid, MarkReturned, PlayoutPaused, PlayoutResumed, StreamStopped
from sandbox.voice import Voice

HISS = pcm_to_ulaw((np.random.default_rng(1).normal(size=160) * 20).astype("<i2").tobytes())


def frames(text: str, voice: str = "en-us") -> list[bytes]:
    samples = np.frombuffer(Voice().speak(text, rate=8000, voice=voice), "<i2")
    loud = np.flatnonzero(np.abs(samples) > 500)
    mulaw = pcm_to_ulaw(samples[loud[0] : loud[-1]].tobytes())
    return [mulaw[i : i + FRAME_BYTES] for i in range(0, len(mulaw) - FRAME_BYTES + 1, FRAME_BYTES)]


SENTENCE = frames(
    "The next free appointment is on Thursday the fourteenth at half past three, if you like.", "en-us+f3"
)
TALK = frames("Wait a moment, please, I would like to ask you something else before that, if I may.")
WORD = frames("Yeah.")


@pytest.fixture
async def line() -> Line:
    return Line()


@pytest.fixture
async def carrier() -> Carrier:
    return Carrier()


class Talk:
    """A bot that speaks frame by frame while the caller's side is heard, on one clock of 20 ms."""

    def __init__(self, line: Line, carrier: Carrier) -> None:
        self.line, self.carrier = line, carrier
        self._words: Iterator[bytes] = iter(())
        self._playing: asyncio.Task[None] | None = None

    async def say(self, words: list[bytes]) -> None:
        """From now on the bot has these words to say; two frames of them are sent ahead."""
        self._words = iter(words)
        for _ in range(2):
            await self._play()

    async def hear(self, caller: list[bytes]) -> None:
        """So many frames come from the caller's side."""
        for frame in caller:
            self.carrier.speaks(frame)
            await settle()
            await self._play()
            self.line.clock.ns += 20_000_000

    async def _play(self) -> None:
        if self._playing is None or self._playing.done():
            word = next(self._words, None)
            if word is not None:
                self._playing = asyncio.create_task(self.line.socket.play(word))
        await settle()

    def drop(self) -> None:
        """The pipeline has dropped what it had to say."""
        self._words = iter(())

    async def rest(self) -> None:
        """Say what is left, on a quiet line."""
        while self._playing is not None and not self._playing.done():
            await self.hear([HISS])
        for word in self._words:
            await self.line.socket.play(word)


async def test_after_a_small_word_the_bot_goes_on_with_the_very_next_byte(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 60)
        await talk.hear(WORD)
        assert line.socket.paused
        sent = len(carrier.audio())
        await talk.hear([HISS] * (QUIET_FRAMES - 2))
        assert len(carrier.audio()) == sent
        await talk.hear([HISS] * 6)
        assert not line.socket.paused
        await talk.rest()
        await line.socket.end_turn()
    assert carrier.audio() == b"".join(SENTENCE)
    assert "clear" not in carrier.events()
    (paused,), (resumed,) = line.of(PlayoutPaused), line.of(PlayoutResumed)
    assert 20 <= paused.waiting_ms <= 60
    assert resumed.why == "quiet"
    assert resumed.paused_ms == pytest.approx(20 * (len(WORD) + QUIET_FRAMES), abs=100)
    assert not line.of(BargeIn)
    # The caller is heard by the model all the time.
    heard = [(await line.socket.receive())["bytes"] for _ in range(60 + len(WORD))]
    assert heard[60:] == WORD


async def test_a_mark_stands_behind_what_was_sent_before_a_pause(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 55 + WORD)
        names = carrier.marks()
        assert carrier.events()[-1] == "mark"
        for name in names:
            carrier.says("mark", mark={"name": name})
        await settle()
        assert line.socket.playout.heard_ms == len(carrier.audio()) / 8 > 1000
        await talk.hear([HISS] * 20)
        await talk.rest()
        await line.socket.end_turn()
    assert carrier.marks()[: len(names)] == names
    assert len(set(carrier.marks())) == len(carrier.marks())
    assert carrier.audio() == b"".join(SENTENCE)


async def test_who_goes_on_speaking_cuts_the_bot_off_and_nothing_of_it_follows(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)

        async def drop_it_all() -> None:
            talk.drop()
            await line.socket.clear()

        line.socket.on_cut_in = drop_it_all
        line.turns.text("words that were said")
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 60)
        before = len(carrier.audio())
        await talk.hear(TALK[:30])
        assert len(carrier.audio()) - before <= 8 * FRAME_BYTES
        for name in carrier.marks():
            carrier.says("mark", mark={"name": name})
        await talk.hear(TALK[30 : CUT_FRAMES + 40])
        assert carrier.events()[-1] == "clear"
    # The frame that waited for the end of the pause is gone as well.
    assert b"".join(SENTENCE).startswith(carrier.audio())
    assert len(carrier.audio()) - before <= 8 * FRAME_BYTES
    assert line.of(BargeIn) == [BargeIn(0, 0.0, "caller")]
    assert [(event.heard, event.interrupted) for event in line.of(BotSaid)] == [(1.0, True)]
    assert not line.of(PlayoutResumed)


async def test_the_models_word_ends_a_pause(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 60 + TALK[:15])
        assert line.socket.paused
        sent = len(carrier.audio())
        await line.socket.clear()
        await settle()
        assert not line.socket.paused
        assert carrier.events()[-1] == "clear"
        assert len(carrier.audio()) == sent
    assert [event.by for event in line.of(BargeIn)] == ["model"]


async def test_ready_made_words_are_said_to_their_end(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        line.turns.clip("This call is recorded.", aside=False)
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 60 + TALK * 2)
        await talk.rest()
        await line.socket.end_turn()
    assert carrier.audio() == b"".join(SENTENCE)
    assert "clear" not in carrier.events()
    assert [event.why for event in line.of(PlayoutResumed)] == ["protected"]


async def test_where_nothing_can_be_cut_the_bot_goes_on(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 60 + TALK[: CUT_FRAMES + 30])
        assert [event.why for event in line.of(PlayoutResumed)][:1] == ["protected"]
        await talk.hear([HISS] * 80)
        await talk.rest()
    assert carrier.audio() == b"".join(SENTENCE)


async def test_a_caller_whose_frames_stop_does_not_keep_the_bot_silent(
    line: Line, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_socket, "PAUSE_SECONDS", 0.05)
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE)
        carrier_frames = [HISS] * 60 + TALK[:12]
        await talk.hear(carrier_frames)
        await asyncio.wait_for(_until(lambda: not line.socket.paused), 5)
        await talk.rest()
    assert carrier.audio() == b"".join(SENTENCE)
    assert next(event.why for event in line.of(PlayoutResumed)) == "limit"


async def _until(done: object) -> None:
    assert callable(done)
    while not done():
        await asyncio.sleep(0.01)


async def test_a_stream_that_breaks_in_a_pause_keeps_nobody_waiting(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier) as serving:
        talk = Talk(line, carrier)
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 60 + TALK[:12])
        assert line.socket.paused
        carrier.hangs_up()
        await serving
    assert not line.socket.paused
    assert line.of(StreamStopped) == [StreamStopped("lost")]
    second = Carrier()
    async with line.open(second):
        await line.socket.play(SENTENCE[0])
    assert second.audio() == SENTENCE[0]


async def test_a_close_in_a_pause_lets_the_pipeline_end(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 60 + TALK[:12])
        waiting = asyncio.create_task(line.socket.play(SENTENCE[-1]))
        await settle()
        assert not waiting.done()
        await line.socket.close()
        await asyncio.wait_for(waiting, 5)
    assert not line.socket.paused


async def test_the_bots_pause_is_not_counted_as_cleared_audio(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE)
        await talk.hear([HISS] * 60 + WORD)
        for name in carrier.marks():
            carrier.says("mark", mark={"name": name})
        await settle()
        await line.socket.clear()
    assert line.of(BargeIn)[0].cleared_ms == 0
    assert {event.how for event in line.of(MarkReturned)} == {"played"}


async def test_an_answer_that_overlaps_the_last_word_is_no_interruption(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE[:60])
        await talk.hear([HISS] * 56 + TALK[:10])
        assert line.socket.paused
        await talk.hear([HISS] * 15)
        await talk.hear(TALK[:8])
        await line.socket.end_turn(b"\x7f" * 32)
        assert not line.socket.paused
        await talk.hear(TALK)
        for name in carrier.marks():
            carrier.says("mark", mark={"name": name})
        await settle()
    assert carrier.audio() == b"".join(SENTENCE[:60]) + b"\x7f" * 32
    assert "clear" not in carrier.events()
    assert not line.of(BargeIn)


async def test_a_turn_that_ends_in_a_pause_needs_no_pause_any_more(line: Line, carrier: Carrier) -> None:
    caller = [HISS] * 60 + TALK[:12]
    longer, other = Line(), Carrier()
    async with longer.open(other):
        talk = Talk(longer, other)
        await talk.say(SENTENCE)
        await talk.hear(caller)
    words = SENTENCE[: len(other.audio()) // FRAME_BYTES]
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(words)
        await talk.hear(caller)
        assert line.socket.paused
        await line.socket.end_turn(b"\x7f" * 32)
        assert not line.socket.paused
        await line.socket.play(SENTENCE[0])
    assert carrier.audio() == b"".join(words) + b"\x7f" * 32 + SENTENCE[0]
    assert [event.why for event in line.of(PlayoutResumed)] == ["finished"]


async def test_who_speaks_after_the_last_word_was_sent_pauses_nothing(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        talk = Talk(line, carrier)
        await talk.say(SENTENCE[:62])
        await talk.hear([HISS] * 60)
        await line.socket.end_turn()
        for word in SENTENCE[:10]:
            line.socket._barge_in.sent(word)
        await talk.hear(TALK[:10])
        assert not line.socket.paused
    assert not line.of(PlayoutPaused)
