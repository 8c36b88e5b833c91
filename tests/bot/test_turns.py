"""What the caller heard, and how long the answer took, from marks and moments alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.events import BargeIn, BotSaid, BotStartedSpeaking, BotStoppedSpeaking, CallEvent
from bot.turns import Turns

MS = 1_000_000


def turns() -> tuple[Turns, list[CallEvent]]:
    events: list[CallEvent] = []
    return Turns(events.append), events


def test_a_turn_is_told_when_its_last_mark_was_played() -> None:
    subject, events = turns()
    subject.text("Good ")
    subject.audio_sent(400, 0)
    subject.text("morning.")
    subject.audio_sent(100, 0)
    subject.ended()
    assert events == [BotStartedSpeaking(0, None, None)]
    subject.played(0, 400, is_end=False)
    subject.played(0, 500, is_end=True)
    assert events[1:] == [BotStoppedSpeaking(0), BotSaid("Good morning.", 1.0, False)]


def test_how_much_of_each_speech_was_heard_is_told_once() -> None:
    subject, _ = turns()
    heard: list[tuple[str, float, bool]] = []
    subject.on_heard = lambda *told: heard.append(told)
    subject.text("Good morning.", "speech 1")
    subject.audio_sent(500, 0)
    subject.ended()
    subject.played(0, 500, is_end=True)
    subject.text("We are open.", "speech 2")
    subject.audio_sent(1000, 0)
    subject.played(1, 400, is_end=False)
    subject.interrupted("caller")
    subject.line_lost()
    assert heard == [("speech 1", 500, False), ("speech 2", 400, True)]


def test_the_response_time_counts_from_the_callers_last_voice() -> None:
    subject, events = turns()
    subject.caller_voiced(100 * MS)
    subject.caller_voiced(200 * MS)
    subject.model_spoke(900 * MS)
    subject.model_spoke(950 * MS)
    subject.audio_sent(40, 910 * MS)
    assert events == [BotStartedSpeaking(0, 710.0, 700.0)]


def test_a_second_turn_without_new_speech_answers_nothing() -> None:
    subject, events = turns()
    subject.caller_voiced(0)
    subject.audio_sent(40, 10 * MS)
    subject.ended()
    subject.audio_sent(40, 20 * MS)
    assert [event.response_ms for event in events if isinstance(event, BotStartedSpeaking)] == [10.0, None]


def test_an_interrupted_turn_is_heard_as_far_as_its_last_played_mark() -> None:
    subject, events = turns()
    subject.text("We are open from eight to five.")
    subject.audio_sent(1000, 0)
    subject.played(0, 400, is_end=False)
    subject.interrupted()
    assert events[1:] == [BargeIn(0, 600.0), BotSaid("We are open from eight to five.", 0.4, True)]
    # Marks that a clear gives back, or that arrive late, change nothing any more.
    subject.played(0, 1000, is_end=True)
    assert len(events) == 3


def test_barge_in_after_the_model_has_finished_cuts_what_is_still_playing() -> None:
    subject, events = turns()
    subject.text("First.")
    subject.audio_sent(500, 0)
    subject.ended()
    subject.interrupted()
    assert events[1:] == [BargeIn(0, 500.0), BotSaid("First.", 0.0, True)]
    subject.text("Second.")
    assert subject.audio_sent(100, 0) == 1


def test_words_without_sound_were_not_heard() -> None:
    subject, events = turns()
    subject.text("Nobody hears this.")
    subject.ended()
    assert events == [BotSaid("Nobody hears this.", 0.0, False)]


def test_what_is_left_is_told_when_the_line_goes() -> None:
    subject, events = turns()
    subject.text("Half a sent")
    subject.audio_sent(200, 0)
    subject.played(0, 100, is_end=False)
    subject.line_lost()
    assert events[-1] == BotSaid("Half a sent", 0.5, True)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("text"), st.text(min_size=1, max_size=3)),
            st.tuples(st.just("audio"), st.integers(1, 500)),
            st.tuples(st.just("ended"), st.none()),
            st.tuples(st.just("interrupted"), st.none()),
            st.tuples(st.just("played"), st.tuples(st.integers(0, 5), st.integers(0, 2000), st.booleans())),
        ),
        max_size=60,
    )
)
def test_whatever_happens_no_turn_is_told_twice_or_heard_more_than_whole(steps: list[tuple[str, object]]) -> None:
    subject, events = turns()
    words: list[str] = []
    for name, value in steps:
        match name, value:
            case "text", str(text):
                words.append(text)
                subject.text(text)
            case "audio", int(milliseconds):
                subject.audio_sent(milliseconds, 0)
            case "ended", _:
                subject.ended()
            case "interrupted", _:
                subject.interrupted()
            case "played", (int(number), int(heard), bool(is_end)):
                subject.played(number, heard, is_end)
    subject.line_lost()
    said = [event for event in events if isinstance(event, BotSaid)]
    assert all(0 <= event.heard <= 1 for event in said)
    started = [event.turn for event in events if isinstance(event, BotStartedSpeaking)]
    assert started == sorted(set(started))
    spoken = sorted("".join("".join(event.text.split()) for event in said))
    assert spoken == sorted("".join("".join(words).split()))


def test_who_said_so_stands_in_the_barge_in() -> None:
    subject, events = turns()
    subject.audio_sent(400, 0)
    subject.interrupted("caller")
    assert events[1:] == [BargeIn(0, 400.0, "caller")]


def test_ready_made_words_may_not_be_cut_and_the_next_ones_may() -> None:
    subject, _ = turns()
    assert subject.may_be_cut
    subject.clip("This call is recorded.", aside=False)
    subject.audio_sent(400, 0)
    assert not subject.may_be_cut
    subject.ended()
    assert subject.may_be_cut
