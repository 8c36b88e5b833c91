"""What a call costs, reconciled with figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made_tapes import Says, silence, tone
from bot.events import CallEvent, Grounded, HandedOver, HandoverAnswered, HandoverFailed, MessageRecorded
from records.derive.cost import PricesError, charge, load_prices, tokens
from records.record import CostLine, TextUsage

# As recorded from gemini-3.8-live: the details do not add up to the prompt, thoughts are not in the total.
USAGE = {
    "promptTokenCount": 626,
    "responseTokenCount": 63,
    "totalTokenCount": 689,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 312}, {"modality": "AUDIO", "tokenCount": 287}],
    "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 63}],
    "thoughtsTokenCount": 40,
}


def test_tokens_are_counted_by_modality() -> None:
    assert tokens(USAGE) == {"text_in": 312 + 27, "audio_in": 287, "audio_out": 63, "text_out": 40}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, {}),
        ({"promptTokenCount": 10, "responseTokenCount": 5}, {"text_in": 10, "audio_out": 5}),
        (
            {"candidatesTokenCount": 4, "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 4}]},
            {"text_out": 4},
        ),
        ({"promptTokenCount": 9, "promptTokensDetails": [{"modality": "VIDEO", "tokenCount": 9}]}, {"image_in": 9}),
        ({"toolUsePromptTokenCount": 7}, {"text_in": 7}),
        ({"promptTokenCount": 3, "promptTokensDetails": [{"modality": "SMELL", "tokenCount": 3}]}, {"smell_in": 3}),
        ({"promptTokenCount": "many", "responseTokensDetails": None}, {}),
    ],
)
def test_whatever_a_usage_message_holds(usage: dict[str, Any], expected: dict[str, int]) -> None:
    assert tokens(usage) == expected


def test_one_call_by_hand(made: Callable[..., Any]) -> None:
    """Two answers, one search of two queries, 70 s on the line.

    First answer: 339 text in, 287 audio in, 63 audio out, 40 text out (thoughts):
    339 x 0.75 + 287 x 3 + 63 x 12 + 40 x 4.50 = 254.25 + 861 + 756 + 180 = 2,051.25 millionths of a dollar.
    Second: 700 text, 400 audio in, 80 audio out: 525 + 1,200 + 960 = 2,685 millionths.
    Search: 2 x 14 / 1,000 = 0.028. Carrier: two started minutes x (0.0085 + 0.0040) = 0.025.
    """
    second = {
        "promptTokenCount": 1_100,
        "responseTokenCount": 80,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 700}, {"modality": "AUDIO", "tokenCount": 400}],
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 80}],
    }
    record = made(
        caller=silence(70_000),
        bot=[
            Says(1_000, tone(2_000), "Hello.", clip=True),
            Says(5_000, tone(2_000), "One.", usage=USAGE),
            Says(15_000, tone(2_000), "Two.", usage=second),
        ],
        events=[(16_000, Grounded(["opening hours", "holiday"], []))],
    ).record
    assert record.cost.usd == pytest.approx(0.00205125 + 0.002685 + 0.028 + 0.025, abs=1e-9)
    assert record.cost.complete
    assert record.cost.price_date == "2026-11-21"
    by_turn: dict[int | None, float] = {}
    for line in record.cost.lines:
        assert line.usd is not None
        by_turn[line.turn] = by_turn.get(line.turn, 0.0) + line.usd
    assert by_turn == {
        2: pytest.approx(0.00205125),
        3: pytest.approx(0.002685 + 0.028),
        None: pytest.approx(0.025),
    }


def usage_frame(prompt: int, response: int, *, complete: bool) -> dict[str, Any]:
    usage = {"promptTokenCount": prompt, "responseTokenCount": response}
    return {"usageMetadata": usage} | ({"serverContent": {"turnComplete": True}} if complete else {})


@pytest.mark.parametrize(
    ("messages", "billed"),
    [
        # One message a turn: all count.
        ([(100, 10, True), (150, 20, True)], (250, 30)),
        # More of the same answer: the last one counts.
        ([(100, 4, False), (100, 9, False), (100, 10, True)], (100, 10)),
        # Another prompt within the turn, after a function: another answer.
        ([(100, 4, False), (140, 10, True)], (240, 14)),
        # The same count in another turn is another turn.
        ([(100, 10, True), (100, 10, True)], (200, 20)),
    ],
)
def test_usage_is_billed_turn_by_turn(
    made: Callable[..., Any], messages: list[tuple[int, int, bool]], billed: tuple[int, int]
) -> None:
    frames = [
        (1_000.0 + n, "model.out", usage_frame(prompt, response, complete=complete))
        for n, (prompt, response, complete) in enumerate(messages)
    ]
    cost = made(caller=silence(3_000), frames=frames).record.cost
    lines = {"text_in": 0.0, "audio_out": 0.0}
    for line in cost.lines:
        if line.what in lines:
            lines[line.what] += line.quantity
    assert tuple(lines.values()) == billed


def test_an_unknown_model_says_so_and_costs_not_nothing(made: Callable[..., Any]) -> None:
    frames = [
        (500.0, "model.in", {"setup": {"model": "models/gemini-9-live"}}),
        (1_000.0, "model.out", usage_frame(100, 10, complete=True)),
    ]
    record = made(caller=silence(3_000), frames=frames).record
    assert not record.cost.complete
    assert [line.usd for line in record.cost.lines if line.of == "gemini-9-live"] == [None, None]
    assert [(flag.kind, flag.detail) for flag in record.flags] == [
        ("unknown_price", "gemini-9-live: no price for text_in"),
        ("unknown_price", "gemini-9-live: no price for audio_out"),
    ]
    assert record.cost.usd == pytest.approx(0.0125)


RANG = HandedOver("asked", "a bill", "+12075550123")
UNKNOWN_TALK = [("voice", 0, None), ("transfer", 0, None)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # Somebody took the call after 70 s: two minutes of their leg have begun, and the talk is on no tape.
        ([RANG, HandoverAnswered(70_000.0)], [("transfer", 2, 0.028), *UNKNOWN_TALK]),
        ([RANG, HandoverFailed("busy")], []),
        ([RANG, HandoverFailed("failed")], []),
        # A machine may have picked up.
        ([RANG, HandoverFailed("no-answer")], [("transfer", 0, None)]),
        ([RANG, HandoverFailed("completed")], [("transfer", 1, 0.014)]),
        # The server died, or stopped, while it rang.
        ([RANG], UNKNOWN_TALK),
        ([RANG, HandoverFailed("busy"), MessageRecorded("RE1", "", 61_000.0)], [("recording", 2, 0.005)]),
        ([HandedOver("asked", "a bill", ""), MessageRecorded("RE1", "", 9_000.0)], [("recording", 1, 0.0025)]),
        ([HandedOver("asked", "a bill", "")], []),
    ],
)
def test_a_handover_costs_what_is_known_and_says_what_is_not(
    made: Callable[..., Any], events: list[CallEvent], expected: list[tuple[str, float, float | None]]
) -> None:
    record = made(caller=silence(3_000), events=[(1_000.0 + n, event) for n, event in enumerate(events)]).record
    stream = [("voice", 1, 0.0085), ("media_stream", 1, 0.004)]
    assert [(line.of, line.quantity, line.usd) for line in record.cost.lines] == stream + expected
    unknown = [of for of, _, usd in expected if usd is None]
    assert record.cost.complete is not bool(unknown)
    assert record.cost.usd == pytest.approx(0.0125 + sum(usd or 0.0 for _, _, usd in expected))
    assert [flag.detail for flag in record.flags] == [f"{of}: how many carrier_minutes is not known" for of in unknown]


def test_a_table_without_the_handovers_prices_says_so(made: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text("date: 2026-11-21\ncarrier: {voice: 0.01, media_stream: 0.01}")
    events = [(1_000.0, HandedOver("asked", "", "")), (2_000.0, MessageRecorded("RE1", "", 9_000.0))]
    record = made(caller=silence(3_000), events=events, prices=load_prices(table)).record
    assert record.cost.lines[-1] == CostLine("carrier_minutes", "recording", 1, None)
    assert [flag.detail for flag in record.flags] == ["recording: no price for carrier_minutes"]


@pytest.mark.parametrize(
    ("asked", "usd", "flags"),
    [
        # 1,000 x 0.30 + 200 x 2.50 millionths.
        (TextUsage("summary", "gemini-3.5-flash-lite", {"text_in": 1_000, "text_out": 200}), 0.0008, []),
        (TextUsage("summary", "gemini-9", {"text_in": 5}), 0.0, ["gemini-9: no price for text_in"]),
        (TextUsage("summary", "gemini-9", {}), 0.0, ["gemini-9: how many tokens is not known"]),
    ],
)
def test_what_the_text_model_used_up_is_charged(
    made: Callable[..., Any], asked: TextUsage, usd: float, flags: list[str]
) -> None:
    before = made(caller=silence(3_000)).record
    record = charge(before, asked, load_prices())
    assert record.cost.usd == pytest.approx(before.cost.usd + usd)
    assert record.cost.complete is not bool(flags)
    assert [flag.detail for flag in record.flags] == flags
    assert record.text_usage == (asked,)


def test_the_longest_name_prices_a_model() -> None:
    prices = load_prices()
    assert prices.token("models/gemini-3.1-flash-live-preview", "audio_out") == pytest.approx(12e-6)
    assert prices.token("gemini-3.8-live-extended-thinking", "text_in") == pytest.approx(0.75e-6)
    assert prices.token("gemini-2.0-flash-live-001", "text_in") is None


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("models: [", "while parsing"),
        ("models: {}", "date"),
        ("date: soon", "soon"),
        ("date: 2026-11-21\nmodels: {gemini: {text_in: cheap}}", "cheap"),
        ("date: 2026-11-21\ncarrier: {voice: -1}", "-1"),
        ("[]", "list"),
    ],
)
def test_a_broken_table_is_refused_with_the_reason(tmp_path: Path, table: str, reason: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(table)
    with pytest.raises(PricesError, match=reason) as failed:
        load_prices(path)
    assert str(path) in str(failed.value)
