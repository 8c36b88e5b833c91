"""Where the time of an answer went, beside what was put into the tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.made_tapes import Heard, Network, Says, any_call, at, loud_ms, silence, tone
from bot.events import ToolCalled, ToolReturned
from records.derive.waterfall import STAGES


def stages(waterfall: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for stage in waterfall.stages:
        found[stage.name] = found.get(stage.name, 0.0) + stage.ms
    return found


def test_each_stage_has_its_time(made: Callable[..., Any]) -> None:
    """30 ms up, 50 ms down; 1.5 ms to the model; end of speech after 600, a function of 300, audio 250 after that."""
    stopped = 2_000.0
    arrived = stopped + 20 + 30  # the frame is complete 20 ms after it began, and 10 ms of it are left
    call = made(
        caller=at((1_000, tone(1_000 - 10, 300)), ms=8_000),
        bot=[Says(arrived + 1_190, silence(160) + tone(2_000), "Here you are.", model_ms=40)],
        heard=[Heard(arrived + 610, "please")],
        frames=[
            (arrived + 600.0, "model.out", {"voiceActivity": {"type": "ACTIVITY_END"}}),
            (arrived + 700.0, "model.out", {"toolCall": {"functionCalls": [{"id": "a", "name": "f", "args": {}}]}}),
            (arrived + 1_000.0, "model.in", {"tool_response": {"functionResponses": [{"id": "a", "name": "f"}]}}),
        ],
        events=[
            (arrived + 700.5, ToolCalled("a", "f", {}, "")),
            (arrived + 999.5, ToolReturned("a", "f", "ok", {}, 299.0)),
        ],
        network=Network(up_ms=30, down_ms=50),
    )
    (waterfall,) = call.record.waterfalls
    (said,), (answer,) = loud_ms(call.truth.said), loud_ms(call.truth.heard)
    assert waterfall.caller_stopped_ms == pytest.approx(said[1], abs=1)
    assert waterfall.total_ms == pytest.approx(answer[0] - said[1], abs=3)
    found = stages(waterfall)
    # Half of the round trip, and the rest of the frame.
    assert found.pop("to_us") == pytest.approx(40 + 10, abs=3)
    assert found == {
        "to_model": pytest.approx(1.5, abs=0.5),
        "endpointing": pytest.approx(618.5, abs=25),
        "model": pytest.approx(100 + 150, abs=3),
        "tools": pytest.approx(300, abs=1),
        "to_carrier": pytest.approx(40, abs=1),
        "playout": pytest.approx(40, abs=3),
        "lead_in": pytest.approx(160, abs=1),
    }
    names = [stage.name for stage in waterfall.stages]
    assert names == ["to_us", "to_model", "endpointing", "model", "tools", "model", "to_carrier", "playout", "lead_in"]


@pytest.mark.parametrize("seed", range(100))
def test_the_stages_add_up_to_what_was_heard(made: Callable[..., Any], seed: int) -> None:
    """Against the truth: from the caller's last loud sample on the line to the first loud one played."""
    call = made(**any_call(seed))
    said, heard = loud_ms(call.truth.said), loud_ms(call.truth.heard, join_ms=250)
    truths = [answer[0] - question[1] for question, answer in zip(said, heard, strict=True)]
    waterfalls = call.record.waterfalls
    assert len(waterfalls) == len(truths)
    for waterfall, truth in zip(waterfalls, truths, strict=True):
        assert all(stage.ms >= 0 and stage.name in STAGES for stage in waterfall.stages)
        assert abs(sum(stage.ms for stage in waterfall.stages) - truth) <= 20
        assert abs(sum(stage.ms for stage in waterfall.stages) - waterfall.total_ms) < 0.05


def test_what_answers_nobody_has_no_waterfall(made: Callable[..., Any]) -> None:
    call = made(
        caller=at((4_000, tone(800, 300)), ms=12_000),
        bot=[
            Says(200, tone(1_000), "Hello.", clip=True),
            Says(2_000, tone(1_000), "Are you there?"),
            Says(5_500, tone(800), "One moment.", clip=True),
            Says(7_000, tone(800), "The answer."),
            Says(9_000, tone(800), "And another thing."),
        ],
        heard=[Heard(5_300, "yes")],
    )
    answers = {turn.number: turn.text for turn in call.record.turns}
    assert [answers[waterfall.turn] for waterfall in call.record.waterfalls] == ["The answer."]


def test_the_figures_of_a_call(made: Callable[..., Any]) -> None:
    call = made(
        caller=at((1_000, tone(1_000, 300)), (5_000, tone(2_000, 300)), ms=14_000),
        bot=[Says(3_000, tone(6_000), "A long answer.", cut_ms=5_400), Says(9_000, tone(2_000), "A short one.")],
        heard=[Heard(2_500, "first"), Heard(8_000, "second")],
        network=Network(20, 20),
    )
    figures = call.record.figures
    cut_ms, started_ms = call.truth.stops_ms[0], call.truth.starts_ms
    assert figures.interruptions == 1
    assert figures.barge_in_reaction_p95_ms == pytest.approx(cut_ms - 5_000, abs=20)
    assert figures.talk_over_ms == pytest.approx(cut_ms - 5_000, abs=20)
    assert figures.caller_talk_ms == pytest.approx(3_000, abs=20)
    assert figures.bot_talk_ms == pytest.approx(cut_ms - started_ms[0] + 2_000, abs=20)
    assert figures.talk_ratio == pytest.approx(figures.bot_talk_ms / (figures.bot_talk_ms + 3_000), abs=0.01)
    assert figures.longest_silence_ms == pytest.approx(started_ms[1] - 7_000, abs=20)
    assert figures.silences == ()
    waits = [started_ms[0] - 2_000, started_ms[1] - 7_000]
    assert figures.voice_to_voice_p50_ms == pytest.approx(sum(waits) / 2, abs=20)
    assert figures.voice_to_voice_p95_ms == pytest.approx(waits[0] + 0.95 * (waits[1] - waits[0]), abs=20)


def test_every_long_silence_is_told(made: Callable[..., Any]) -> None:
    talk = [(ms, tone(1_000, 300)) for ms in (1_000, 6_000, 8_900, 12_900)]
    figures = made(caller=at(*talk, ms=20_000)).record.figures
    # Not the 1.9 s in between, nor what follows the last sound.
    assert [(silence.start_ms, silence.end_ms) for silence in figures.silences] == [
        (pytest.approx(2_000, abs=20), pytest.approx(6_000, abs=20)),
        (pytest.approx(9_900, abs=20), pytest.approx(12_900, abs=20)),
    ]
    assert figures.longest_silence_ms == pytest.approx(4_000, abs=20)


def test_nothing_to_measure_gives_no_figures(made: Callable[..., Any]) -> None:
    figures = made(caller=silence(2_000)).record.figures
    assert figures.voice_to_voice_p50_ms is None
    assert figures.barge_in_reaction_p95_ms is None
    assert figures.talk_ratio is None
    assert figures.longest_silence_ms == 0
