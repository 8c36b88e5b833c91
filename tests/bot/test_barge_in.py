"""When the bot pauses, goes on and is cut off."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.audio import FRAME_BYTES, SpeechMeter, pcm_to_ulaw, ulaw_to_pcm
from bot.barge_in import (
    CUT_FRAMES,
    MOST_PAUSED_FRAMES,
    ONSET_WINDOW,
    QUIET_FRAMES,
    REST_FRAMES,
    BargeIn,
    EchoGuard,
    Verdict,
)
from sandbox.voice import Voice

BOT, CALLER, HISS = 2600.0, 1800.0, 20.0


def frames(samples: np.ndarray) -> list[bytes]:
    mulaw = pcm_to_ulaw(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())
    return [mulaw[i : i + FRAME_BYTES] for i in range(0, len(mulaw) - FRAME_BYTES + 1, FRAME_BYTES)]


def hiss(ms: int, rms: float = HISS) -> np.ndarray:
    return np.random.default_rng(ms).normal(size=ms * 8) * rms


def speech(text: str, voice: str = "en-us", rms: float = CALLER) -> np.ndarray:
    samples = np.frombuffer(Voice().speak(text, rate=8000, voice=voice), "<i2").astype(float)
    loud = np.flatnonzero(np.abs(samples) > 200)
    samples = samples[loud[0] : loud[-1]]
    return samples * rms / np.sqrt(np.mean(samples**2))


SENTENCE = "We are open from Monday to Friday, from eight in the morning to five in the afternoon, except on holidays."


@pytest.fixture(scope="module")
def bot() -> list[bytes]:
    return frames(np.concatenate([speech(SENTENCE, "en-us+f3", BOT)] * 4))


class Line:
    """A carrier that plays what the bot is allowed to send; `verdicts` are (frame number, verdict)."""

    def __init__(self, bot: Iterable[bytes], echo: float = 0.0, *, may_cut: bool = True) -> None:
        self.policy = BargeIn()
        self.verdicts: list[tuple[int, Verdict]] = []
        self.may_cut = may_cut
        self._words = iter(bot)
        self._meter = SpeechMeter()
        self.echo = echo
        self._number = 0

    def hear(self, samples: np.ndarray) -> list[Verdict]:
        new: list[Verdict] = []
        for piece in samples[: len(samples) // 160 * 160].reshape(-1, 160):
            self._number += 1
            played = b""
            if self.policy.paused_frames is None:
                played = next(self._words, b"")
                self.policy.sent(played)
            if played and self.echo:
                piece = piece + self.echo * np.frombuffer(ulaw_to_pcm(played), "<i2")
            (frame,) = frames(piece)
            self._meter.feed(frame)
            verdict = self.policy.hear(frame, self._meter.energy, self._meter.floor, may_cut=self.may_cut)
            if verdict:
                new.append(verdict)
                self.verdicts.append((self._number, verdict))
            if verdict == "cut":
                self.policy.dropped()
                self._words = iter([])
        return new

    def speak(self, words: list[bytes]) -> None:
        self._words = iter(words)


def test_a_caller_who_goes_on_speaking_pauses_the_bot_and_cuts_it_off(bot: list[bytes]) -> None:
    line = Line(bot)
    assert line.hear(hiss(2000)) == []
    assert line.hear(speech("Wait a moment, please, I would like to ask you something else before that.")) == [
        "pause",
        "cut",
    ]
    (paused, _), (cut, _) = line.verdicts
    assert paused - 100 <= 8
    assert cut - paused >= CUT_FRAMES - ONSET_WINDOW


def test_a_small_word_pauses_and_the_bot_goes_on(bot: list[bytes]) -> None:
    line = Line(bot)
    line.hear(hiss(2000))
    assert line.hear(np.concatenate([speech("Yeah."), hiss(1500)])) == ["pause", "quiet"]
    (paused, _), (resumed, _) = line.verdicts
    assert QUIET_FRAMES < resumed - paused < MOST_PAUSED_FRAMES


def test_a_click_does_nothing(bot: list[bytes]) -> None:
    line = Line(bot)
    line.hear(hiss(2000))
    click = hiss(1000)
    click[4000:4160] += np.random.default_rng(1).normal(size=160) * 9000
    assert line.hear(click) == []


def test_while_the_bot_is_silent_nothing_is_decided() -> None:
    line = Line([])
    assert line.hear(speech("Wait a moment, please, I would like to ask you something.")) == []


def test_the_bots_own_echo_does_not_pause_it_and_a_caller_over_the_echo_does(bot: list[bytes]) -> None:
    line = Line(bot, echo=10 ** (-18 / 20))
    assert line.hear(hiss(6000)) == []
    assert line.hear(speech("Wait a moment, please, I would like to ask you something."))[0] == "pause"


def test_an_echo_that_begins_in_mid_call_is_learnt_from_one_false_stop(bot: list[bytes]) -> None:
    line = Line(bot * 2)
    line.hear(hiss(6000))
    line.echo = 10 ** (-15 / 20)
    verdicts = line.hear(hiss(12_000))
    assert "cut" not in verdicts
    assert verdicts.count("pause") <= 2


def test_who_takes_a_breath_has_spoken_all_the_while(bot: list[bytes]) -> None:
    line = Line(bot)
    line.hear(hiss(2000))
    said = speech("I would rather have another one, or none at all")
    assert line.hear(np.concatenate([said[: 700 * 8], hiss(260)])) == ["pause", "quiet"]
    assert line.hear(said[700 * 8 : 1400 * 8]) == ["pause", "cut"]
    assert line.verdicts[3][0] - line.verdicts[2][0] < CUT_FRAMES - ONSET_WINDOW


def test_words_that_may_not_be_cut_are_paused_once_and_said_to_their_end(bot: list[bytes]) -> None:
    line = Line(bot, may_cut=False)
    line.hear(hiss(2000))
    talk = speech("Wait a moment, please, I would like to ask you something else before that, if I may.")
    assert line.hear(np.concatenate([talk, talk])) == ["pause", "protected"]
    line.may_cut = True
    assert line.hear(talk) == [], "they are still being said"


def test_after_protected_words_the_next_ones_can_be_paused_again(bot: list[bytes]) -> None:
    line = Line(bot[:250], may_cut=False)
    talk = speech("Wait a moment, please, I would like to ask you something else before that, if I may.")
    line.hear(hiss(2000))
    assert line.hear(talk) == ["pause", "protected"]
    assert line.hear(hiss(5000)) == []
    line.speak(bot)
    line.may_cut = True
    line.hear(hiss(2000))
    assert line.hear(talk)[0] == "pause"


def test_what_goes_on_without_being_speech_holds_the_bot_up_for_a_bounded_time(bot: list[bytes]) -> None:
    line = Line(bot)
    line.hear(hiss(2000))
    bark = np.concatenate([speech("Ow, ow, ow, ow.")[: 120 * 8], hiss(120)])
    verdicts = line.hear(np.tile(bark, 20))
    assert verdicts[:2] == ["pause", "limit"]
    (paused, _), (resumed, _), *later = line.verdicts
    assert resumed - paused == MOST_PAUSED_FRAMES
    assert all(number - resumed >= REST_FRAMES for number, _ in later)


def test_after_what_was_sent_is_dropped_the_next_words_can_be_paused_at_once(bot: list[bytes]) -> None:
    line = Line(bot)
    line.hear(hiss(2000))
    talk = speech("Wait a moment, please, I would like to ask you something else before that.")
    assert line.hear(talk)[-1] == "cut"
    assert line.policy.paused_frames is None
    line.speak(bot)
    assert line.hear(talk)[0] == "pause"


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    loud=st.lists(st.sampled_from([10.0, 200.0, 1500.0, 6000.0]), min_size=1, max_size=30),
    lengths=st.lists(st.sampled_from([1, 20, 159, 160, 161, 320]), min_size=1, max_size=5),
    cuttable=st.booleans(),
)
def test_whatever_comes_pauses_end_in_time_and_nothing_protected_is_cut(
    seed: int, loud: list[float], lengths: list[int], cuttable: bool
) -> None:
    chance = np.random.default_rng(seed)
    policy, meter = BargeIn(), SpeechMeter()
    voiced = speech("I would like to ask you something else, please, before you go on with that.", rms=1.0)
    paused = False
    for number in range(300):
        if not paused and chance.random() < 0.9:
            policy.sent(frames(chance.normal(size=160) * 2000)[0])
        length = lengths[number % len(lengths)] if chance.random() < 0.1 else 160
        at = number * 160 % (len(voiced) - 400)
        rms = loud[number // 10 % len(loud)]
        frame = pcm_to_ulaw(np.clip(voiced[at : at + length] * rms, -32768, 32767).astype("<i2").tobytes())
        meter.feed(frame)
        verdict = policy.hear(frame, meter.energy, meter.floor, may_cut=cuttable)
        if verdict is None:
            assert paused == (policy.paused_frames is not None)
        else:
            assert paused == (verdict != "pause")
            paused = verdict == "pause"
        assert verdict != "cut" or cuttable
        assert (policy.paused_frames or 0) < MOST_PAUSED_FRAMES
        if verdict == "cut":
            policy.dropped()


def test_an_echo_guard_expects_what_it_has_heard() -> None:
    guard = EchoGuard()
    chance = np.random.default_rng(3)
    played = [int(10 ** chance.uniform(5, 7)) for _ in range(400)]
    unknown = None
    for number, energy in enumerate(played):
        guard.play(energy)
        if number == 10:
            unknown = guard.expected()
        guard.learn(int(0.01 * played[number - 5]) if number >= 5 else 0, floor=10)
    assert unknown is not None
    assert unknown > 0.03 * max(played[:10])
    assert guard.expected() == pytest.approx(0.01 * max(played[-8:]), rel=3)


def test_on_a_line_without_echo_the_guard_soon_expects_none() -> None:
    guard = EchoGuard()
    for _ in range(80):
        guard.play(4_000_000)
        guard.learn(400, floor=300)
    assert guard.expected() < 2_000
