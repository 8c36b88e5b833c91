"""Whole calls in which something comes from the caller's side while the bot speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes.gemini import Ended, ListedMind, Started

from bot.greeting import Clip
from sandbox import sound
from sandbox.conversation import Habits, Turn
from sandbox.voice import Voice

Say = Callable[..., Turn]
ANSWER = (
    "The next free appointment is on Thursday the fourteenth at half past three, or, if you would rather come in the "
    "morning, on Friday the fifteenth at ten, and there is another one on the Monday after that at nine o'clock."
)
PATIENT = Habits(linger_ms=1_500, hello_ms=20_000)
LINE_NOISE = sound.encode((np.random.default_rng(4).normal(size=16_000) * 15).astype("<i2").tobytes())


class Deaf:
    """A model that notices nobody who speaks: what it hears is keys, and what it is told."""

    def __init__(self, *_: int) -> None:
        pass

    def feed(self, _pcm16k: bytes) -> list[Started | Ended]:
        return []


def cough() -> bytes:
    """A burst of noise with a hard onset, 0.3 s."""
    at = np.arange(2_400) / 2_400
    noise = np.convolve(np.random.default_rng(7).normal(size=2_400), np.hanning(5), "same")
    return sound.encode(np.clip(noise * np.exp(-at * 4) * 4_000, -32_000, 32_000).astype("<i2").tobytes())


def words(text: str) -> bytes:
    return sound.from_pcm(Voice().speak(text, rate=8_000), 8_000)


@pytest.mark.parametrize("noise", [cough(), words("Uh-huh."), words("Yeah.")], ids=["cough", "uh-huh", "yeah"])
async def test_a_small_sound_makes_the_bot_pause_and_go_on_where_it_stopped(open_site: Any, noise: bytes) -> None:
    model = {"detector_factory": Deaf, "voice": Voice()}
    async with open_site(ListedMind(ANSWER), gemini=model) as site:
        turns = Turn(press="5"), Turn(play=noise, barge_in_ms=1_500)
        record = await site.ring(*turns, habits=PATIENT, around={"noise": LINE_NOISE})
        events = await site.tape_of(record.call_sid)
    (stream,) = [each.stream for each in record.streams]
    (paused,) = [event for event in events if event.kind == "playout_paused"]
    (resumed,) = [event for event in events if event.kind == "playout_resumed"]
    assert (resumed.why, resumed.turn) == ("quiet", paused.turn)
    assert stream.clears == []
    assert not [event for event in events if event.kind == "barge_in"]
    opening, answer = [event for event in events if event.kind == "bot_said"]
    assert (answer.text, answer.heard, answer.interrupted) == (ANSWER, 1.0, False)
    assert opening.heard == 1.0
    # Every byte was played, once, and there is one gap as long as the pause.
    assert stream.played_bytes == stream.received_bytes
    assert [gap for gap in stream.gaps if resumed.paused_ms / 2 < gap.length_ms < resumed.paused_ms + 500]
    assert 'switchboard_false_stops_total{why="quiet"} 1.0' in await site.metrics()


async def test_a_caller_who_goes_on_speaking_is_heard_by_the_model_and_the_tape_tells_what_he_heard(
    open_site: Any,
) -> None:
    async with open_site(ListedMind(ANSWER, "Yes?"), gemini={"voice": Voice()}) as site:
        turns = (
            Turn(press="5"),
            Turn(play=words("Wait a moment, please, I have got another question."), barge_in_ms=1_500),
        )
        record = await site.ring(*turns, habits=PATIENT)
        events = await site.tape_of(record.call_sid)
    (stream,) = [each.stream for each in record.streams]
    assert len(stream.clears) == 1
    (cut_in,) = [event for event in events if event.kind == "barge_in"]
    assert cut_in.by == "model"
    cut = next(event for event in events if event.kind == "bot_said" and event.interrupted)
    assert ANSWER.startswith(cut.text)
    assert len(cut.text) < len(ANSWER)
    assert 0.7 <= cut.heard <= 1.0
    assert record.problems() == []


async def test_a_caller_whom_the_model_does_not_notice_stops_the_bot_all_the_same_and_gets_an_answer(
    open_site: Any, hasty: None
) -> None:
    model = {"detector_factory": Deaf, "voice": Voice()}
    async with open_site(ListedMind(ANSWER, "I am listening."), gemini=model) as site:
        talk = words("Wait a moment, please, I have got another question, and it is an important one.")
        turns = Turn(press="5"), Turn(play=talk, barge_in_ms=1_500)
        record = await site.ring(*turns, habits=Habits(linger_ms=4_000, hello_ms=20_000))
        events = await site.tape_of(record.call_sid)
    (stream,) = [each.stream for each in record.streams]
    assert len(stream.clears) == 1
    (cut_in,) = [event for event in events if event.kind == "barge_in"]
    assert (cut_in.by, cut_in.cleared_ms) == ("caller", 0.0)
    said = [event for event in events if event.kind == "bot_said"]
    cut = next(event for event in said if event.interrupted)
    assert ANSWER.startswith(cut.text)
    assert cut.heard == 1.0, "what was sent before the pause was heard; the rest was never sent"
    assert said[-1].text == "I am listening."
    # It fell silent soon after the caller had begun, and stayed so until it was asked again.
    (talked,) = record.said_segments
    assert not [heard for heard in record.heard_segments if talked.start_ms + 700 < heard.end_ms < talked.end_ms]


async def test_the_notice_is_heard_to_its_end_over_a_caller_who_talks_into_it(open_site: Any) -> None:
    async with open_site(gemini={"detector_factory": Deaf}) as site:
        pcm = Voice().speak(site.flow.opening)
        site.app.state.parts.greetings.clip = lambda _flow, text: Clip(text, pcm)
        talk = words("Hello, hello, can you hear me, I would like to make an appointment for next week, please.")
        record = await site.ring(Turn(play=talk, barge_in_ms=800), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
    (opening,) = [event for event in events if event.kind == "bot_said" and event.text == site.flow.opening]
    assert (opening.heard, opening.interrupted) == (1.0, False)
    assert record.streams[0].stream.clears == []
    assert [event.why for event in events if event.kind == "playout_resumed"] == ["protected"]


async def test_the_bots_own_echo_does_not_stop_it(open_site: Any) -> None:
    model = {"detector_factory": Deaf, "voice": Voice()}
    async with open_site(ListedMind(ANSWER), gemini=model) as site:
        around = {"echo_db": -18.0, "echo_ms": 160, "noise": LINE_NOISE}
        record = await site.ring(Turn(press="5"), habits=PATIENT, around=around)
        events = await site.tape_of(record.call_sid)
    said = [event for event in events if event.kind == "bot_said"]
    assert [(event.text, event.heard) for event in said] == [(site.flow.opening, 1.0), (ANSWER, 1.0)]
    assert not [event for event in events if event.kind in ("playout_paused", "barge_in")]


async def test_a_caller_whose_frames_stop_in_a_pause_does_not_keep_the_bot_silent(open_site: Any) -> None:
    model = {"detector_factory": Deaf, "voice": Voice()}
    async with open_site(ListedMind(ANSWER), gemini=model) as site:
        turns = Turn(press="5"), Turn(play=cough(), barge_in_ms=1_500)
        call = site.dial(*turns, habits=PATIENT, around={"noise": LINE_NOISE})

        def stop(_sid: str, event: Any, _: int) -> None:
            if event.kind == "playout_paused":
                call.line.stream.frame = lambda said, heard=b"": None
            elif event.kind == "playout_resumed":
                del call.line.stream.frame

        site.app.state.parts.listeners.append(stop)
        record = await call.run()
        events = await site.tape_of(record.call_sid)
    resumed = [event for event in events if event.kind == "playout_resumed"]
    assert [event.why for event in resumed] == ["limit"]
    assert 1_400 < resumed[0].paused_ms < 2_500
    _, answer = [event for event in events if event.kind == "bot_said"]
    assert (answer.text, answer.heard, answer.interrupted) == (ANSWER, 1.0, False)
