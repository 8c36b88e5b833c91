"""Endpointing: where a turn begins and ends, whatever the chunks, the noise and the pauses."""

from __future__ import annotations

import numpy as np
import pytest

from sandbox.ear import SpeechEnded, SpeechStarted, TurnDetector
from sandbox.voice import Voice

RATE = 16_000
WORDS = "I would like to book a cleaning."


def silence(ms, level=0.0, seed=1):
    noise = np.random.default_rng(seed).normal(0, level, RATE * ms // 1000) if level else np.zeros(RATE * ms // 1000)
    return noise.astype("<i2").tobytes()


@pytest.fixture(scope="module")
def speech():
    return Voice().speak(WORDS, rate=RATE)


def duration_ms(pcm):
    return len(pcm) * 1000 // (2 * RATE)


def feed(detector, pcm, size):
    return [event for at in range(0, len(pcm), size) for event in detector.feed(pcm[at : at + size])]


def test_one_turn_is_started_and_ended_where_the_speech_is(speech):
    started, ended = TurnDetector().feed(silence(1000) + speech + silence(1500))
    assert isinstance(started, SpeechStarted)
    assert isinstance(ended, SpeechEnded)
    assert started.offset_ms == pytest.approx(1000, abs=150)
    assert ended.offset_ms == pytest.approx(1000 + duration_ms(speech), abs=200)


def test_the_turns_audio_holds_all_of_the_speech(speech):
    _, ended = TurnDetector().feed(silence(1000) + speech + silence(1500))
    loud = np.abs(np.frombuffer(speech, "<i2")) > 300
    words = speech[2 * int(np.argmax(loud)) : len(speech) - 2 * int(np.argmax(loud[::-1]))]
    assert words[: 2 * RATE] in ended.audio
    assert duration_ms(ended.audio) < duration_ms(speech) + 900


@pytest.mark.parametrize("size", [1, 319, 320, 641, 3200, 6401])
def test_chunks_of_any_size_give_the_same_events(speech, size):
    stream = silence(300) + speech + silence(1200) + speech + silence(1200)
    whole = TurnDetector().feed(stream)
    assert [type(event) for event in whole] == [SpeechStarted, SpeechEnded] * 2
    if size == 1:
        stream, whole = stream[:40_000], TurnDetector().feed(stream[:40_000])
    assert feed(TurnDetector(), stream, size) == whole


def test_a_pause_shorter_than_the_silence_does_not_end_the_turn(speech):
    stream = silence(200) + speech + silence(400) + speech + silence(2000)
    assert len(TurnDetector(silence_ms=900).feed(stream)) == 2
    assert len(TurnDetector(silence_ms=300).feed(stream)) >= 4


def test_the_end_is_told_as_soon_as_the_silence_has_lasted(speech):
    detector = TurnDetector(silence_ms=500)
    detector.feed(silence(200) + speech)
    waited = 0
    while not detector.feed(silence(20)):
        waited += 20
        assert waited < 700
    assert waited >= 300


def test_a_longer_prefix_padding_tells_the_start_later(speech):
    def told_after(prefix_padding_ms):
        detector = TurnDetector(prefix_padding_ms=prefix_padding_ms)
        stream = silence(500) + speech
        return next(at for at in range(0, len(stream), 640) if detector.feed(stream[at : at + 640]))

    assert told_after(400) >= told_after(40) + 32 * 250


@pytest.mark.parametrize("level", [0.0, 20.0, 150.0])
def test_silence_and_a_noisy_line_are_no_speech(level):
    assert TurnDetector().feed(silence(5000, level)) == []


def test_speech_is_found_in_a_noisy_line(speech):
    stream = np.frombuffer(silence(1500) + speech + silence(2000), "<i2").astype(float)
    noisy = (stream + np.random.default_rng(3).normal(0, 150, len(stream))).clip(-32768, 32767).astype("<i2").tobytes()
    started, ended = TurnDetector().feed(noisy)
    assert started.offset_ms == pytest.approx(1500, abs=200)
    assert ended.offset_ms == pytest.approx(1500 + duration_ms(speech), abs=300)


def test_a_click_is_no_speech():
    click = (np.full(RATE // 100, 20000)).astype("<i2").tobytes()
    assert TurnDetector().feed(silence(500) + click + silence(1000)) == []


def test_flush_ends_a_turn_under_way(speech):
    detector = TurnDetector()
    assert [type(event) for event in detector.feed(speech)] == [SpeechStarted]
    assert detector.speaking
    (ended,) = detector.flush()
    assert isinstance(ended, SpeechEnded)
    assert len(ended.audio) > len(speech) // 2
    assert not detector.speaking
    assert detector.flush() == []
