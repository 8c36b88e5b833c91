"""Records of calls that never happened: seeded, with words as common and as rare as in real talk."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from records.record import (
    CallRecord,
    Change,
    Cost,
    CostLine,
    Disposition,
    Figures,
    Flag,
    FlagKind,
    Outcome,
    Stage,
    ToolUse,
    Turn,
    Waterfall,
    Word,
)

TURNS = 24
FIRST_CALL = datetime(2025, 1, 6, 8, tzinfo=UTC)
SECONDS_BETWEEN = 600
FLOWS = ("dental", "salon", "clinic", "garage")
MODEL = "gemini-3.1-flash-live-preview"
DISPOSITIONS: dict[Disposition, int] = {
    "booked": 45,
    "answered": 20,
    "rescheduled": 10,
    "cancelled": 8,
    "message_taken": 7,
    "abandoned": 6,
    "transferred": 3,
    "failed": 1,
}
TOOLS = {
    "book_appointment": 45,
    "reschedule_appointment": 10,
    "cancel_appointment": 8,
    "take_message": 7,
    "export": 0.1,
}
FLAGS: dict[FlagKind, float] = {"voice_without_words": 4, "unheard_result": 2, "promise_without_result": 0.1}
"""How many calls in a hundred have it."""

SCORES = {100: 70, 80: 20, 60: 9, 40: 1}
"""How many calls in a hundred have this score."""

_SERVICES = ("cleaning", "check-up", "root canal", "whitening", "haircut", "oil change", "consultation", "X-ray")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_NAMES = ("Maria", "José", "Emma", "Zoë", "Liam", "Noah", "Ava", "Björn", "Chloé", "Omar", "Priya", "Mei")
_PLACES = (
    "parking",
    "insurance",
    "address",
    "price",
    "reminder",
    "window",
    "elevator",
    "invoice",
    "referral",
    "waitlist",
)
_SYLLABLES = (
    "ber",
    "lan",
    "mor",
    "ket",
    "sta",
    "vin",
    "dor",
    "hal",
    "ri",
    "no",
    "sel",
    "gar",
    "tom",
    "wick",
    "ley",
    "son",
)
_BOT = (
    "Thank you for calling, how can I help you today?",
    "Of course, I can help you with a {service}. Which day suits you?",
    "I have {day} at {hour} or {day} at {later}, which of them would you like?",
    "Could you spell your last name for me, please?",
    "You are booked for {day} at {hour}. Is there anything else?",
    "The {place} is explained on our website, and I can send it to you.",
    "One moment, I am looking at the calendar for you.",
)
_CALLER = (
    "Hi, I would like to make an appointment for a {service}, please.",
    "My name is {first} {last}, that is {last} with a {letter}.",
    "Do you have anything on {day} in the afternoon, maybe around {hour}?",
    "Yes, {hour} on {day} works for me, thank you.",
    "And what about the {place}? Last time there was a question about {odd}.",
    "No, that is all. Goodbye!",
    "Could you tell {first} that I called about the {place}?",
)


def calls(count: int, start: int = 0, seed: int = 1) -> Iterator[CallRecord]:
    """`count` records from the `start`-th on, ten minutes apart; the same for the same seed."""
    vocabulary = _vocabulary(random.Random(seed))
    for number in range(start, start + count):
        yield _call(number, random.Random(f"{seed}/{number}"), vocabulary)


def score_of(record: CallRecord) -> int:
    """What a call was judged by its rules."""
    return random.Random(f"score/{record.call_id}").choices(list(SCORES), list(SCORES.values()))[0]


def _vocabulary(chance: random.Random) -> tuple[list[str], list[float]]:
    """Invented words and their cumulated weights: the n-th is n times rarer than the first (Zipf's law)."""
    words = sorted({"".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))) for _ in range(6000)})
    chance.shuffle(words)
    return words, list(accumulate(1 / (place + 1) for place in range(len(words))))


def _call(number: int, chance: random.Random, vocabulary: tuple[list[str], list[float]]) -> CallRecord:
    disposition = chance.choices(list(DISPOSITIONS), list(DISPOSITIONS.values()))[0]
    tools = [name for name, percent in TOOLS.items() if chance.random() * 100 < percent]
    bot_turns = range(0, TURNS, 2)
    call_id = f"CA{chance.getrandbits(128):032x}"
    latency = chance.lognormvariate(6.6, 0.35)
    duration = chance.lognormvariate(5.0, 0.5) * 1000
    lines = tuple(
        CostLine(what, MODEL, float(chance.randint(50, 900)), chance.random() / 1000, turn)
        for turn in bot_turns
        for what in ("text_in", "audio_in", "audio_out")
    )
    record = CallRecord(
        call_id=call_id,
        call_sid=call_id,
        account="AC" + "0" * 32,
        flow=chance.choices(FLOWS, (70, 20, 9, 1))[0],
        flow_hash="0" * 64,
        from_number=f"+1{chance.choice((212, 312, 415, 503))}{chance.randint(2_000_000, 9_999_999)}",
        to_number="+12125550199",
        began_at=FIRST_CALL + timedelta(seconds=SECONDS_BETWEEN * number + chance.random()),
        duration_ms=duration,
        stream_offset_ms=800.0,
        code="0.1.0",
        model=MODEL,
        language="en-US",
        tape_sha256="0" * 64,
        tape_bytes=400_000,
        derived_by=1,
        outcome=Outcome(disposition, "goodbye", (), ("greeting", "booking"), f"The call ended {disposition}.", {}),
        figures=Figures(latency * 0.7, latency, 180.0, 1, 90.0, 2000.0, 0.4 * duration, 0.5 * duration, 0.55),
        cost=Cost(sum(line.usd or 0 for line in lines), True, "2026-11-01", lines),
        turns=tuple(_turn(place, duration / TURNS, chance, vocabulary) for place in range(TURNS)),
        tools=tuple(
            ToolUse(place, f"fc-{place}", name, {"service": "cleaning"}, "ok", {"say": "Done."}, "booking", 9000, 20)
            for place, name in enumerate(["find_slots", *tools])
        ),
        waterfalls=tuple(
            Waterfall(
                turn, 1000.0 * turn, latency, (Stage("endpointing", latency * 0.6), Stage("model", latency * 0.4))
            )
            for turn in bot_turns
        ),
        flags=tuple(Flag(kind, "at turn 3", 3) for kind, percent in FLAGS.items() if chance.random() * 100 < percent),
    )
    changes = tuple(Change("appointment", str(number), "fc-1", "Booked") for _ in range("book_appointment" in tools))
    return replace(record, outcome=replace(record.outcome, changes=changes))


def _turn(number: int, length_ms: float, chance: random.Random, vocabulary: tuple[list[str], list[float]]) -> Turn:
    form = chance.choice(_CALLER if number % 2 else _BOT)
    text = form.format(
        service=chance.choice(_SERVICES),
        day=chance.choice(_DAYS),
        hour=f"{chance.randint(8, 12)}:{chance.choice(('00', '15', '30', '45'))}",
        later=f"{chance.randint(1, 5)} o'clock",
        first=chance.choice(_NAMES),
        last="".join(chance.choices(_SYLLABLES, k=3)).title(),
        letter=chance.choice("abcdefghijklmnopqrstuvwxyz"),
        place=chance.choice(_PLACES),
        odd=" ".join(chance.choices(vocabulary[0], cum_weights=vocabulary[1], k=4)),
    )
    start = number * length_ms
    words = text.split()
    step = length_ms / len(words)
    times = tuple(
        Word(word, round(start + place * step, 1), round(start + (place + 0.9) * step, 1))
        for place, word in enumerate(words)
    )
    speaker = "caller" if number % 2 else "bot"
    return Turn(number, speaker, start, start + length_ms, text, language="en-US", words=times)
