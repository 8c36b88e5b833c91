"""The ear, over the telephone: what a caller of a booking line says, by two voices through 8 kHz mu-law."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path

import numpy as np
import pytest
import soxr

from sandbox import sound
from sandbox.accent import cepstra, over_the_telephone
from sandbox.ear import Ear, Grammar
from sandbox.english import NO, UNITS, YES, dates, names, ordinal_at, phones, times, words
from sandbox.voice import Voice

TODAY = date(2026, 11, 20)
RATE = 16_000
VOICES = ("en-us", "en-us+f3")
SERVICES = ("cleaning", "filling", "check up", "root canal")
STAFF = ("doctor lee", "doctor patel")
TOOLS = [
    {
        "name": "find_slots",
        "description": "Find free appointment times for a service.",
        "parameters": {
            "type": "OBJECT",
            "properties": {
                "service": {"type": "STRING", "enum": ["cleaning", "filling", "check_up", "root_canal"]},
                "date": {"type": "STRING", "description": "The day, YYYY-MM-DD"},
                "staff": {"type": "STRING", "enum": ["Doctor Lee", "Doctor Patel"]},
                "part_of_day": {"type": "STRING", "enum": ["morning", "afternoon"]},
            },
            "required": ["service", "date"],
        },
    },
]
INSTRUCTION = "You are the receptionist of Bright Smile Dental. Parking is free. Insurance accepted."

SAID: dict[str, list[str]] = {
    "anything": [
        "I'd like to book a cleaning on Tuesday at three.",
        "Hello, I want to make an appointment for a check up.",
        "I'd like a filling on Monday at two o'clock, please.",
        "Can I get a cleaning tomorrow afternoon?",
        "I need to see Doctor Patel on Thursday.",
        "Good afternoon, I would like to schedule a cleaning for next Friday at ten.",
        "Could you book me a root canal on the twelfth of December?",
        "Do you have any openings on Wednesday morning?",
        "I'd like to come in for a cleaning.",
        "I want an appointment with Doctor Lee on Friday at half past one.",
        "Hi, this is David Brown, I need to reschedule my appointment.",
        "I'd like to cancel my cleaning on Tuesday.",
        "I want to move my appointment to Monday at nine thirty.",
        "Can you change my appointment to four o'clock?",
        "How much is a cleaning?",
        "Are you open on Saturday?",
        "What are your opening hours?",
        "Do you accept credit cards?",
        "Please take a message for Doctor Lee.",
        "I have a question about my bill.",
        "That's all, goodbye.",
        "Thank you very much, bye.",
        "Can you say that again?",
    ],
    "yes_or_no": [
        "Yes please.",
        "Yes, that's correct.",
        "Sure, go ahead.",
        "Sounds good.",
        "No.",
        "No, that's wrong.",
        "No, make it Thursday.",
        "Sorry, I meant Wednesday at eleven.",
        "No wait, let's do five o'clock instead.",
        "Actually, a filling please.",
        "Actually, make it four o'clock.",
        "No, not Tuesday, Thursday.",
        "No thanks, that's everything.",
        "Yes, but make it four.",
    ],
    "date": [
        "Tuesday.",
        "Next Monday.",
        "On Friday morning.",
        "The day after tomorrow.",
        "December fifteenth.",
        "The third of January.",
        "How about Friday at eleven fifteen?",
        "What about the afternoon?",
    ],
    "time": [
        "Four.",
        "Nine o'clock.",
        "Half past three.",
        "At a quarter to four.",
        "Two thirty in the afternoon.",
        "Eleven a.m.",
        "Ten past two.",
        "Can we make it two thirty?",
    ],
    "choice": ["The second one, please.", "I'll take the last one.", "At nine fifteen.", "A root canal."],
    "name": ["My name is John Smith.", "Kevin Clark.", "It's Maria Lopez.", "This is Daniel Evans.", "Emily Davis."],
    "phone": ["My number is five five five zero one two three four five six.", "Five five five, two three four six."],
}
NONSENSE = [
    "The quick brown fox jumps over the lazy dog.",
    "Quantum physics is deeply confusing to elephants.",
    "Blah blah wibble wobble.",
    "Mississippi riverboats carry cotton.",
]
INTENTS = {
    "cancel": r"cancel",
    "move": r"reschedule|move|change",
    "ask": r"^(hi )?(what|how|are you|do you)|question",
    "again": r"again|repeat",
    "bye": r"bye|that's (all|it|everything)",
    "message": r"message",
    "book": r"book|schedule|make an|appointment|come in|need|want|like|can i get",
}


@dataclass(frozen=True)
class Meaning:
    """What matters of a sentence: the intent and the values in it."""

    intent: str
    yes: bool
    no: bool
    days: tuple[date, ...]
    times: tuple[time, ...]
    phones: tuple[str, ...]
    names: tuple[str, ...]
    picked: tuple[int, ...]
    things: tuple[str, ...]


def meaning(text, expected):
    said = words(text)
    plain = " ".join(said)
    days, numbers = dates(said, TODAY), phones(said)
    picked = [found.value for at in range(len(said)) if (found := ordinal_at(said, at)) and "one" in said]
    return Meaning(
        intent=next((intent for intent, pattern in INTENTS.items() if re.search(pattern, plain)), ""),
        yes=bool(YES & set(said)) or "go ahead" in plain or "sounds good" in plain,
        no=bool(NO & set(said)),
        days=tuple(found.value for found in days),
        times=tuple(found.value for found in times(said, [*days, *numbers], bare=expected == "time")),
        phones=tuple(found.value for found in numbers),
        names=tuple(found.value for found in names(said, bare=expected == "name")) if expected == "name" else (),
        picked=tuple(picked),
        things=tuple(thing for thing in (*SERVICES, *STAFF, "morning", "afternoon") if thing in plain),
    )


@pytest.fixture(scope="module")
def ear():
    return Ear()


def grammar(expected="anything"):
    return Grammar.from_tools(TOOLS, INSTRUCTION, expected)


def phoned(text, voice="en-us"):
    """s16le at 16 kHz, as it comes out of a telephone line."""
    speech = Voice().speak(text, rate=RATE, voice=voice)
    return over_the_telephone(np.frombuffer(speech, "<i2")).astype("<i2").tobytes()


@pytest.mark.parametrize("voice", VOICES)
def test_nine_of_ten_sentences_of_a_booking_call_are_understood(ear, voice):
    wrong = []
    for expected, sentences in SAID.items():
        for text in sentences:
            heard = ear.hear(phoned(text, voice), grammar(expected))
            if meaning(heard, expected) != meaning(text, expected):
                wrong.append(f"{text!r}: {heard!r}")
    count = sum(map(len, SAID.values()))
    assert count >= 60
    assert len(wrong) <= count // 10, "\n".join(wrong)


def test_most_nonsense_is_not_taken_for_words(ear):
    heard = [ear.hear(phoned(text, voice), grammar()) for text in NONSENSE for voice in VOICES]
    assert heard.count("") >= len(heard) * 3 // 4, heard


@pytest.mark.parametrize(
    "samples",
    [np.zeros(RATE), np.zeros(0), np.random.default_rng(1).normal(0, 5, RATE), np.full(RATE // 20, 9000)],
    ids=["silence", "nothing", "a quiet line", "a click"],
)
def test_where_nobody_speaks_nothing_is_heard(ear, samples):
    assert ear.hear(samples.astype("<i2").tobytes(), grammar()) == ""


def test_the_same_sound_is_always_the_same_words_whatever_was_heard_before(ear):
    sentence = phoned("I'd like to book a cleaning on Tuesday at three.")
    first = ear.listen(sentence, grammar())
    ear.hear(phoned("My name is John Smith."), grammar("name"))
    assert ear.listen(sentence, grammar()) == first
    assert Ear().listen(sentence, grammar()) == first


def test_several_calls_may_be_heard_at_once(ear):
    sentences = ["Yes please.", "No.", "That's all, goodbye."]
    sounds = [phoned(text) for text in sentences]
    with ThreadPoolExecutor(3) as pool:
        heard = list(pool.map(lambda speech: ear.hear(speech, grammar()), sounds))
    assert heard == ["yes please", "no", "that's all goodbye"]


def test_more_grammars_than_it_keeps_prepared(ear):
    def colours(number):
        colour = {"type": "STRING", "enum": [f"cleaning {number}"]}
        return Grammar.from_tools([{"name": "paint", "parameters": {"type": "OBJECT", "properties": {"c": colour}}}])

    yes = phoned("Yes please.")
    assert [ear.hear(yes, colours(number)) for number in range(7)] == ["yes please"] * 7


def test_words_that_no_dictionary_knows_are_heard(ear):
    plans = {"type": "STRING", "enum": ["zorbex"]}
    exotic = Grammar.from_tools([{"name": "order", "parameters": {"type": "OBJECT", "properties": {"plan": plans}}}])
    assert "zorbex" in ear.hear(phoned("I would like a zorbex."), exotic)


def test_an_odd_number_of_bytes_is_survived(ear):
    assert ear.hear(phoned("Yes please.") + b"\x01", grammar()) == "yes please"


def test_human_telephone_speech_is_heard(ear):
    soundfile = pytest.importorskip("soundfile", reason="soundfile reads the recordings")
    folder = Path(__file__).parents[3] / "shared/data/audio/fsdd"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/audio (human 8 kHz digits)")
    digits = UNITS[:10]
    only_digits = Grammar(f"#JSGF V1.0;\ngrammar digits;\npublic <utterance> = {' | '.join(digits)};\n")
    right = []
    for file in sorted(folder.glob("*.wav"))[::2]:
        samples, rate = soundfile.read(file, dtype="int16")
        assert rate == sound.RATE
        wide = soxr.resample(samples, rate, RATE).astype("<i2")
        right.append(ear.hear(wide.tobytes(), only_digits) == digits[int(file.name[0])])
    assert len(right) >= 30
    assert sum(right) >= 0.6 * len(right)


def test_the_front_end_gives_a_row_of_thirteen_every_ten_ms_without_mean():
    rows = cepstra(np.random.default_rng(1).normal(0, 3000, RATE).astype("<i2"))
    assert rows.shape == (98, 13)
    assert np.abs(rows.mean(0)).max() < 1e-3
