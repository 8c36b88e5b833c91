"""The commitment check on short calls: what was promised, what was committed, what was heard."""

from __future__ import annotations

from typing import Any

import pytest

from records.derive.commitments import check
from records.derive.transcript import SpokenTurn
from records.record import ToolUse, Turn


def bot(at_ms: float, text: str, unheard: str = "", source: Any = "model") -> SpokenTurn:
    turn = Turn(int(at_ms), "bot", at_ms, at_ms + 2_000, text, unheard, interrupted=bool(unheard), source=source)
    return SpokenTurn(turn)


def use(at_ms: float, name: str, status: str = "ok", committed: str = "", **result: Any) -> ToolUse:
    return ToolUse(1, "fc", name, {}, status, result, "", at_ms, 20.0, (committed,) if committed else ())


def kinds(turns: list[SpokenTurn], *tools: ToolUse) -> list[tuple[str, int | None]]:
    return [(flag.kind, flag.turn) for flag in check(turns, tools)]


BOOKED = use(
    1_000, "book_appointment", committed="appointment:1", say="Booked for Ada: Cleaning on Tuesday at 9:00 AM."
)
REFUSED = use(1_000, "book_appointment", "refused", error="That time is taken.")
MESSAGE = use(1_000, "take_message", committed="message:7", say="The message is passed on.")


@pytest.mark.parametrize(
    ("turns", "tools", "expected"),
    [
        ([bot(2_000, "You're booked for Tuesday.")], [BOOKED], []),
        ([bot(2_000, "You're booked for Tuesday.")], [], [("promise_without_result", 2_000)]),
        ([bot(2_000, "You're booked for Tuesday.")], [REFUSED], [("promise_without_result", 2_000)]),
        (
            [bot(2_000, "I've cancelled it.")],
            [BOOKED],
            [("promise_without_result", 2_000), ("result_without_words", None)],
        ),
        ([bot(2_000, "I can book you for Tuesday, shall I?")], [], []),
        # Announced and then done, or told why not.
        ([bot(0, "I'll book that for you."), bot(3_000, "All set!")], [BOOKED], []),
        ([bot(0, "I'll book that for you."), bot(3_000, "I'm sorry, that time is taken.")], [REFUSED], []),
        ([bot(0, "I'll book that for you.")], [REFUSED], [("promise_without_result", 0)]),
        ([bot(0, "I'll pass that on.")], [], [("promise_without_result", 0)]),
        ([bot(2_000, "I'll pass that on. Someone will call you back.")], [MESSAGE], []),
        ([bot(2_000, "Se lo comunicaré. Le llamarán hoy.")], [], [("promise_without_result", 2_000)]),
        # What stood in the books before the call may be told.
        (
            [bot(2_000, "You're booked for Monday with Dr. Okafor.")],
            [use(1_000, "list_appointments", appointments=[{"number": 3}])],
            [],
        ),
        (
            [bot(2_000, "I've booked you for Monday.")],
            [use(1_000, "list_appointments", appointments=[{"number": 3}])],
            [("promise_without_result", 2_000)],
        ),
        # Results and what was heard of them.
        ([bot(2_000, "Anything else?")], [BOOKED], [("result_without_words", None)]),
        ([], [BOOKED], [("result_without_words", None)]),
        ([bot(2_000, "So, a cleaning, Tuesday, nine, for Ada")], [BOOKED], []),
        ([bot(2_000, "Well,", "you're booked for Tuesday.")], [BOOKED], [("unheard_result", 2_000)]),
        ([bot(2_000, "Well,", "you're booked."), bot(6_000, "As I said, you're booked.")], [BOOKED], []),
        # A promise that nobody heard is none.
        ([bot(2_000, "Let me see,", "I've booked it.")], [], []),
        # Ready-made words promise nothing.
        ([bot(2_000, "Someone will call you back.", source="clip")], [], []),
    ],
)
def test_promises_and_results_are_matched(
    turns: list[SpokenTurn], tools: list[ToolUse], expected: list[tuple[str, int | None]]
) -> None:
    assert kinds(turns, *tools) == expected


def test_a_flag_tells_the_words_and_the_id() -> None:
    flags = check([bot(2_000, "Great. I've cancelled it.")], [BOOKED])
    assert [flag.detail for flag in flags] == ["cancellation: i've cancelled it", "book_appointment: appointment:1"]
