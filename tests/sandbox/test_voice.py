"""The synthetic voice: sound of the right shape, the same every time, from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sandbox.pronunciation import arpabet, pronounce
from sandbox.voice import UnknownVoice, Voice

SENTENCE = "I would like to book a cleaning on Tuesday at three."


def samples(speech):
    return np.frombuffer(speech, dtype="<i2").astype(float)


def pitch_hz(speech, rate):
    """The strongest period of the loudest 100 ms."""
    signal = samples(speech)
    size = rate // 10
    loudest = max(range(0, len(signal) - size, size), key=lambda at: float((signal[at : at + size] ** 2).sum()))
    part = signal[loudest : loudest + size]
    correlation = np.correlate(part, part, "full")[size - 1 :]
    shortest, longest = rate // 400, rate // 60
    return rate / (shortest + int(np.argmax(correlation[shortest:longest])))


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_a_sentence_lasts_as_long_at_every_rate_and_is_loud_enough_for_a_telephone(rate):
    speech = Voice().speak(SENTENCE, rate=rate)
    assert len(speech) % 2 == 0
    assert 2.0 < len(speech) / 2 / rate < 4.5
    level_db = 20 * np.log10(np.sqrt((samples(speech) ** 2).mean()) / 32768)
    assert -30 < level_db < -14


def test_the_same_words_always_give_the_same_bytes_whatever_was_said_before():
    first = Voice().speak(SENTENCE)
    Voice().speak("Something else, by somebody else!", voice="de+f2")
    assert Voice().speak(SENTENCE) == first


def test_many_threads_may_speak_at_once():
    voice = Voice()
    alone = [voice.speak(f"Number {n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: voice.speak(f"Number {n}"), range(8))) == alone


def test_a_woman_speaks_higher_than_a_man():
    voice = Voice()
    man = pitch_hz(voice.speak(SENTENCE, rate=16000, voice="en-us"), 16000)
    woman = pitch_hz(voice.speak(SENTENCE, rate=16000, voice="en-us+f3"), 16000)
    assert woman > 1.3 * man


def test_a_slow_speaker_takes_longer():
    assert len(Voice().speak(SENTENCE, words_per_minute=120)) > 1.2 * len(Voice().speak(SENTENCE, words_per_minute=180))


@pytest.mark.parametrize("voice", ["en-us", "en-gb", "en-us+f3", "de", "fr", "es"])
def test_languages_and_variants_by_name(voice):
    assert len(Voice().speak("One two three", voice=voice)) > 10_000


def test_an_unknown_voice_is_named_with_the_cure_and_harms_no_later_speech():
    with pytest.raises(UnknownVoice, match=r"'narnian'.*en-us"):
        Voice().speak("Hello", voice="narnian")
    assert Voice().speak("Hello")


@pytest.mark.parametrize("nothing", ["", "   ", "\n"])
def test_nothing_to_say_is_no_sound(nothing):
    assert Voice().speak(nothing) == b""


def test_words_are_pronounced_in_the_recognisers_phones():
    assert pronounce("cleaning", Voice()) == "K L IY N IH NG"
    assert pronounce("toothache", Voice()) == "T UW TH EY K"


def test_sounds_that_english_lacks_are_left_out():
    assert arpabet("øk") == "K"
