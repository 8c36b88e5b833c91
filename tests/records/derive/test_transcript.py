"""Turns from made-up tapes: order, words, what was heard, gaps and who fills them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.made_tapes import Heard, Network, Says, at, audio, silence, tone
from bot.audio import pcm_to_ulaw
from bot.events import BargeIn, KeyPressed, PlayoutResumed, StepEntered, ToolCalled, ToolReturned
from records.record import TextUsage
from sandbox.voice import Voice

GOLDEN = Path(__file__).parents[2] / "golden" / "transcript.txt"


def spoken(text: str) -> bytes:
    """Mu-law of a voice."""
    return pcm_to_ulaw(Voice().speak(text, rate=8_000))


def told(record: Any) -> str:
    """A transcript as text: one line for each turn, key and tool call, in the order of time."""
    lines = []
    for turn in record.turns:
        marks = [turn.source, *(["gap"] if turn.gap else []), *(["cut"] if turn.interrupted else [])]
        rest = f" [unheard: {turn.unheard}]" if turn.unheard else ""
        head = (
            f"{turn.start_ms / 1000:7.2f} {turn.end_ms / 1000:7.2f} {turn.speaker:<6} {turn.language} {'/'.join(marks)}"
        )
        lines.append((turn.start_ms, f"{head}: {turn.text}{rest}"))
    lines += [(key.at_ms, f"{key.at_ms / 1000:7.2f}         key    {key.digit}") for key in record.keys]
    lines += [(use.at_ms, f"{use.at_ms / 1000:7.2f}         tool   {use.name} {use.status}") for use in record.tools]
    return "\n".join(line for _, line in sorted(lines)) + "\n"


def whole_call() -> dict[str, Any]:
    """A call with everything in it that a transcript shows."""
    return {
        "caller": at(
            (3_000, spoken("I would like a cleaning")),
            (9_500, spoken("no no, wait")),
            (14_000, spoken("hello, is somebody there")),
            (21_000, spoken("martes por favor")),
            ms=28_000,
        ),
        "bot": [
            Says(200, tone(2_000), "Hello, this call is recorded.", clip=True),
            Says(
                6_000, tone(6_000), "We have nine, ten, eleven and twelve o'clock on Tuesday with June.", cut_ms=10_000
            ),
            Says(18_000, tone(2_000), "Which day would you like?"),
            Says(24_500, tone(1_500), "Very well, Tuesday.", usage=None),
        ],
        "heard": [
            Heard(5_600, "I would like a cleaning"),
            Heard(12_000, "no no, wait"),
            Heard(23_800, "martes por favor", "es-US"),
        ],
        "events": [
            (13_000, KeyPressed("5")),
            (20_500, StepEntered("choose_time")),
            (20_600, ToolCalled("fc_1", "find_slots", {"service": "cleaning"}, "choose_time")),
            (20_640, ToolReturned("fc_1", "find_slots", "ok", {"say": "Free times: nine."}, 38.0)),
        ],
        "network": Network(up_ms=20, down_ms=20),
    }


def test_a_whole_call_reads_as_ever(made: Callable[..., Any]) -> None:
    assert told(made(**whole_call()).record) == GOLDEN.read_text()


def test_every_turn_stands_where_it_sounded(made: Callable[..., Any]) -> None:
    call = made(**whole_call())
    bot = [turn for turn in call.record.turns if turn.speaker == "bot"]
    np.testing.assert_allclose([turn.start_ms for turn in bot], call.truth.starts_ms, atol=5)
    np.testing.assert_allclose([turn.end_ms for turn in bot], call.truth.stops_ms, atol=20)
    assert [turn.number for turn in call.record.turns] == list(range(1, len(call.record.turns) + 1))
    for turn in call.record.turns:
        assert [word.text for word in turn.words] == turn.text.split()
        assert all(turn.start_ms - 1 <= word.start_ms <= word.end_ms <= turn.end_ms + 1 for word in turn.words)


def test_what_an_interruption_cut_off_is_kept_apart(made: Callable[..., Any]) -> None:
    words = " ".join(f"word{n}" for n in range(50))
    call = made(caller=silence(9_000), bot=[Says(1_000, tone(5_000), words, cut_ms=3_000)])
    turn = call.record.turns[0]
    heard_ms = call.truth.stops_ms[0] - call.truth.starts_ms[0]
    assert turn.text.split() + turn.unheard.split() == words.split()
    assert len(turn.text.split()) == pytest.approx(heard_ms / 100, abs=1)
    assert turn.interrupted


class Ear:
    """A recogniser that remembers what it was given."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.given: list[tuple[float, str]] = []
        self.spent: list[TextUsage] = []

    def hear(self, pcm16k: bytes, language: str) -> str:
        loud = np.abs(np.frombuffer(pcm16k, "<i2").astype(int)).max()
        assert loud > 1_000
        self.given.append((len(pcm16k) / 32, language))
        self.spent.append(TextUsage("hearing", "gemini-3.5-flash-lite", {"audio_in": 100, "text_out": 4}))
        return self.words


def test_a_voice_without_words_is_a_gap(made: Callable[..., Any]) -> None:
    voice = spoken("is anybody there at all")
    call = made(caller=at((1_000, voice), ms=6_000))
    (turn,) = call.record.turns
    assert (turn.gap, turn.source, turn.text) == (True, "none", "")
    assert turn.start_ms == pytest.approx(1_000, abs=80)
    assert turn.end_ms == pytest.approx(1_000 + len(voice) / 8, abs=250)
    assert [(flag.kind, flag.turn) for flag in call.record.flags] == [("voice_without_words", 1)]


def test_a_second_recogniser_fills_a_gap(made: Callable[..., Any]) -> None:
    ear = Ear(" is anybody  there ")
    voice = spoken("is anybody there at all")
    call = made(caller=at((1_000, voice), (4_000, spoken("a cleaning please")), ms=9_000), recogniser=ear,
                heard=[Heard(6_500, "a cleaning please")])  # fmt: skip
    gap, other = call.record.turns
    assert (gap.gap, gap.source, gap.text) == (True, "recogniser", "is anybody there")
    assert (other.gap, other.source) == (False, "model")
    assert call.record.flags == ()
    ((length_ms, language),) = ear.given
    assert length_ms == pytest.approx(len(voice) / 8 + 400, abs=300)
    assert language == "en-US"
    assert call.record.text_usage == tuple(ear.spent)
    heard = {line.what: line.usd for line in call.record.cost.lines if line.of == "gemini-3.5-flash-lite"}
    assert heard == {"audio_in": pytest.approx(100 * 0.3e-6), "text_out": pytest.approx(4 * 2.5e-6)}


def test_a_knock_is_no_turn(made: Callable[..., Any]) -> None:
    assert made(caller=at((1_000, tone(60, 200)), (2_000, tone(100, 900)), ms=4_000)).record.turns == ()


def test_words_that_come_late_stand_where_they_were_said(made: Callable[..., Any]) -> None:
    """The model may write down what it heard after it has begun to answer, and while the caller speaks again."""
    caller = at((1_000, tone(800, 300)), (6_000, tone(1_500, 300)), ms=10_000)
    heard = [Heard(6_400, "the first"), Heard(8_500, "the second")]
    record = made(caller=caller, bot=[Says(3_000, tone(1_500), "An answer.")], heard=heard).record
    assert [(turn.speaker, turn.text) for turn in record.turns] == [
        ("caller", "the first"),
        ("bot", "An answer."),
        ("caller", "the second"),
    ]


def test_a_pause_within_a_sentence_makes_no_second_turn(made: Callable[..., Any]) -> None:
    caller = at((1_000, tone(800, 300)), (2_800, tone(900, 300)), ms=6_000)
    (turn,) = made(caller=caller, heard=[Heard(4_500, "I would like to come on Tuesday")]).record.turns
    assert (turn.start_ms, turn.end_ms) == (pytest.approx(1_000, abs=25), pytest.approx(3_700, abs=25))
    on_tuesday = turn.words[-1]
    assert on_tuesday.start_ms > 2_800


def test_words_that_come_piece_by_piece_are_one_turn(made: Callable[..., Any]) -> None:
    caller = at((1_000, tone(2_000, 300)), ms=5_000)
    heard = [Heard(1_900, "I would like"), Heard(3_400, "to come on Tuesday")]
    (turn,) = made(caller=caller, heard=heard).record.turns
    assert turn.text == "I would like to come on Tuesday"


def test_words_without_a_voice_are_kept(made: Callable[..., Any]) -> None:
    (turn,) = made(caller=silence(5_000), heard=[Heard(3_000, "very quiet")]).record.turns
    assert (turn.text, turn.gap) == ("very quiet", False)
    assert turn.end_ms == pytest.approx(3_000, abs=30)


def test_the_language_of_a_turn_is_told_where_the_model_tells_it(made: Callable[..., Any]) -> None:
    caller = at((1_000, tone(800, 300)), (4_000, tone(800, 300)), ms=8_000)
    record = made(caller=caller, heard=[Heard(2_500, "buenos días", "es-ES"), Heard(5_500, "hello")]).record
    assert [turn.language for turn in record.turns] == ["es-ES", "en-US"]


def test_what_the_model_said_and_nobody_heard_is_shown_as_unheard(made: Callable[..., Any]) -> None:
    answer = {"serverContent": {"outputTranscription": {"text": "Too late."}}}
    stopped = {"serverContent": {"interrupted": True}}
    frames = [(2_000.0, "model.out", answer), (2_010.0, "model.out", stopped)]
    (turn,) = made(caller=silence(5_000), frames=frames).record.turns
    assert (turn.text, turn.unheard, turn.interrupted) == ("", "Too late.", True)


def test_a_pause_of_the_bot_is_no_interruption(made: Callable[..., Any]) -> None:
    """It fell silent for 700 ms because of a sound, and went on where it had stopped."""
    call = made(
        caller=at((2_000, tone(100, 900)), ms=9_000),
        bot=[Says(1_000, tone(4_000), "Every word of it was heard.", pause_ms=(2_100, 2_800))],
    )
    (turn,) = call.record.turns
    assert (turn.text, turn.unheard, turn.interrupted) == ("Every word of it was heard.", "", False)
    assert turn.end_ms == pytest.approx(call.truth.stops_ms[0], abs=20)
    assert call.record.figures.interruptions == 0


def test_what_a_caller_cut_off_before_it_began_is_not_taken_for_the_next_answer(made: Callable[..., Any]) -> None:
    """Two responses stood behind each other when the caller spoke on; the model noticed nothing and answered anew."""
    waiting = {"serverContent": {"outputTranscription": {"text": "One more thing."}, "generationComplete": True}}
    call = made(
        caller=silence(12_000),
        bot=[
            Says(1_000, tone(4_000), "A long answer of the bot.", cut_ms=3_000, noticed=False),
            Says(7_000, tone(1_000), "What is it?"),
        ],
        frames=[(2_500.0, "model.out", waiting)],
        events=[(3_000.0, BargeIn(0, 40.0, "caller"))],
    )
    assert [(turn.text, turn.unheard) for turn in call.record.turns] == [
        ("A long", "answer of the bot."),
        ("", "One more thing."),
        ("What is it?", ""),
    ]


def test_what_waited_behind_protected_words_is_dropped_but_for_what_still_comes(made: Callable[..., Any]) -> None:
    waiting = {"serverContent": {"outputTranscription": {"text": "Never said."}, "generationComplete": True}}
    call = made(
        caller=silence(12_000),
        bot=[Says(1_000, tone(3_000), "This call is recorded.", clip=True), Says(5_000, tone(1_000), "Yes?")],
        frames=[(2_000.0, "model.out", waiting)],
        events=[(3_000.0, PlayoutResumed(0, 900.0, "protected"))],
    )
    assert [turn.text for turn in call.record.turns] == ["This call is recorded.", "", "Yes?"]


def test_a_sentence_that_stalled_goes_on_in_a_turn_of_its_own(made: Callable[..., Any]) -> None:
    """The model stopped in its sentence, "One moment" was said, and then the rest of the sentence."""
    rest = {"serverContent": {"outputTranscription": {"text": " seven eight"}, "modelTurn": {"parts": [audio(1_000)]}}}
    ended = {"serverContent": {"generationComplete": True}}
    call = made(
        caller=silence(12_000),
        bot=[
            Says(1_000, tone(3_000), "one two three four five six", generated=False),
            Says(6_000, tone(800), "One moment.", clip=True),
            Says(8_000, tone(1_000), generated=None),
        ],
        frames=[(7_500.0, "model.out", rest), (7_600.0, "model.out", ended)],
    )
    assert [(turn.source, turn.text, turn.unheard) for turn in call.record.turns] == [
        ("model", "one two three four five six", ""),
        ("clip", "One moment.", ""),
        ("model", "seven eight", ""),
    ]
