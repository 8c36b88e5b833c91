"""The scorecard that every call gets by rule: five questions to its record, answered without anybody listening.

It is the seam for what people and models will judge: a score is 0 to 100 and each answer stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from records.record import CallRecord

SCORECARD = "basics"
JUDGE = "rules"
LONGEST_SILENCE_MS = 8000.0
SLOWEST_ANSWER_MS = 3000.0
_FLAGS = {"promise_without_result", "promise_contradicts_result", "result_without_words", "unheard_result"}
_UNREACHED = {"failed", "refused", "abandoned"}


@dataclass(frozen=True)
class Scored:
    """The score, and the answer to each question: True, False, or None where there was nothing to judge."""

    score: float
    answers: dict[str, bool | None]


def score(record: CallRecord) -> Scored | None:
    """Judge a call by rule; None where nobody spoke."""
    if record.outcome.disposition in ("no_conversation", "refused"):
        return None
    answers = {name: question(record) for name, question in QUESTIONS.items()}
    given = [answer for answer in answers.values() if answer is not None]
    return Scored(round(100 * sum(given) / len(given), 1), answers)


def _greeted(record: CallRecord) -> bool:
    first = next((turn for turn in record.turns if turn.speaker == "bot"), None)
    return first is not None and first is record.turns[0] and bool(first.text) and not first.unheard


def _kept_its_word(record: CallRecord) -> bool | None:
    if any(flag.kind in _FLAGS for flag in record.flags):
        return False
    return True if record.commitment_check == "made" else None


def _no_slow_answer(record: CallRecord) -> bool | None:
    slowest = record.figures.voice_to_voice_p95_ms
    return None if slowest is None else slowest <= SLOWEST_ANSWER_MS


QUESTIONS: dict[str, Callable[[CallRecord], bool | None]] = {
    "greeted_with_notice": _greeted,
    "kept_its_word": _kept_its_word,
    "no_long_silence": lambda record: record.figures.longest_silence_ms <= LONGEST_SILENCE_MS,
    "answered_in_time": _no_slow_answer,
    "outcome_reached": lambda record: record.outcome.disposition not in _UNREACHED,
}
"""What is asked of every call: the opening with its notice was heard to its end; what was promised was done and what
was done was told; no silence beyond 8 s; 95 of 100 answers within 3 s; the call came to an outcome."""
