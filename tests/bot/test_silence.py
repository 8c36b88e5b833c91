"""Who should be speaking: the watchdog of silences, shown lines that nobody could invent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.silence import FILL_SECONDS, GIVE_UP_SECONDS, GRACE_SECONDS, GRACES, Action, Sight, Silence

TICK = 0.2
CLIP_TICKS = 5
QUIET = Sight(
    line_open=True,
    bot_sounds=False,
    voiced_ms=0.0,
    model_spoke_s=None,
    model_acted_s=None,
    model_owes=False,
    tool_runs=False,
    connected=True,
)


@dataclass
class Line:
    """A line that plays the phrases it is told to, a second each."""

    silence: Silence = field(default_factory=lambda: Silence(0.0, caller_seconds=10.0, questions=2))
    sight: Sight = QUIET
    ticks: int = 0
    did: list[tuple[float, Action]] = field(default_factory=list)
    clip_left: int = 0
    voiced_ms: float = 0.0
    model_spoke_s: float | None = None
    model_acted_s: float | None = None

    @property
    def now(self) -> float:
        return round(self.ticks * TICK, 3)

    def run(
        self, seconds: float, *, voice: bool = False, speech: bool = False, acts: bool = False, **changes: bool
    ) -> None:
        """Let time pass. `voice`: the caller speaks; `speech`: the model does; `acts`: it is busy without a sound."""
        for _ in range(round(seconds / TICK)):
            self.ticks += 1
            self.clip_left = max(0, self.clip_left - 1)
            self.voiced_ms += 1000 * TICK * voice
            if speech:
                self.model_spoke_s = self.now
            if acts or speech:
                self.model_acted_s = self.now
            sight = replace(
                self.sight,
                bot_sounds=speech or self.clip_left > 0,
                voiced_ms=self.voiced_ms,
                model_spoke_s=self.model_spoke_s,
                model_acted_s=self.model_acted_s,
                **changes,
            )
            action = self.silence.see(self.now, sight)
            if action:
                self.did.append((self.now, action))
                self.clip_left = CLIP_TICKS if action in ("one_moment", "still_there") else 0

    @property
    def actions(self) -> list[Action]:
        return [action for _, action in self.did]


def test_a_model_that_does_not_answer_is_filled_in_for_asked_again_and_given_up() -> None:
    line = Line()
    line.run(2.0, voice=True)
    line.run(20.0)
    assert line.did == [(5.0, "one_moment"), (7.0, "nudge"), (10.0, "give_up")]


def test_an_answer_in_time_leaves_nothing_to_do() -> None:
    line = Line()
    for _ in range(3):
        line.run(2.0, voice=True)
        line.run(2.6)
        line.run(3.0, speech=True)
        line.run(4.0)
    assert line.did == []


def test_an_answer_to_the_nudge_ends_the_wait() -> None:
    line = Line()
    line.run(1.0, voice=True)
    line.run(6.0)
    line.run(2.0, speech=True)
    line.run(8.0)
    assert line.actions == ["one_moment", "nudge"]


def test_a_cough_is_no_turn() -> None:
    line = Line()
    line.run(1.0, speech=True)
    for _ in range(4):
        line.run(TICK, voice=True)
        line.run(2.0)
    assert line.did == []


def test_the_echo_of_the_bot_is_no_turn() -> None:
    line = Line()
    line.run(3.0, speech=True, voice=True)
    line.run(TICK, voice=True)
    line.run(8.0)
    assert line.did == []


def test_a_long_function_is_filled_in_for_again_and_again_and_not_given_up() -> None:
    line = Line()
    line.run(1.0, voice=True)
    line.run(40.0, tool_runs=True)
    assert set(line.actions) == {"one_moment"}
    moments = [moment for moment, _ in line.did]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert all(5.0 <= gap <= 6.0 for gap in gaps)
    assert len(moments) == 7


def test_a_connection_that_stays_away_is_given_up_and_one_that_comes_back_gets_its_time() -> None:
    line = Line()
    line.run(20.0, connected=False)
    assert line.actions == ["one_moment", "give_up"]
    assert line.did[-1][0] <= GIVE_UP_SECONDS + 2 * TICK
    line = Line()
    line.run(7.0, connected=False, model_owes=True)
    line.run(2.6, model_owes=True)
    assert "give_up" not in line.actions
    line.run(1.0, model_owes=True)
    assert line.actions[-1] == "give_up"


def test_a_short_gap_in_the_connection_is_not_heard() -> None:
    line = Line()
    line.run(3.0, speech=True)
    line.run(5.0)
    line.run(2.0, connected=False)
    line.run(2.0)
    assert line.did == []


def test_a_caller_who_asks_again_and_again_is_not_kept() -> None:
    line = Line()
    for _ in range(12):
        line.run(0.6, voice=True)
        line.run(1.8)
    assert line.actions[-1] == "give_up"
    assert line.did[-1][0] < 2 * GIVE_UP_SECONDS


def test_a_caller_who_tells_a_long_story_with_a_pause_is_answered_not_given_up() -> None:
    line = Line()
    line.run(5.0, voice=True)
    line.run(1.8)
    line.run(15.0, voice=True)
    line.run(1.2)
    line.run(2.0, speech=True)
    assert line.did == []


def test_a_silent_caller_is_asked_twice_and_then_told_goodbye() -> None:
    line = Line()
    line.run(2.0, speech=True)
    line.run(40.0)
    assert line.did == [(12.0, "still_there"), (22.8, "still_there"), (33.6, "goodbye")]


def test_a_caller_who_answers_is_asked_anew_later() -> None:
    line = Line()
    line.run(2.0, speech=True)
    line.run(12.0)
    line.run(1.0, voice=True)
    line.run(1.0, speech=True)
    line.run(23.0)
    assert line.actions == ["still_there"] * 3


def test_a_turn_that_is_never_ended_is_not_the_callers() -> None:
    line = Line()
    line.run(2.0, speech=True, model_owes=True)
    line.run(20.0, model_owes=True)
    assert line.actions == ["one_moment", "nudge", "give_up"]


def test_nothing_is_done_while_there_is_no_line() -> None:
    line = Line()
    line.run(1.0, voice=True)
    line.run(30.0, line_open=False)
    assert line.did == []
    line.run(4.0)
    assert line.actions[0] == "one_moment"


def test_words_that_only_the_model_has_heard_are_owed_an_answer() -> None:
    line = Line()
    line.run(2.0, speech=True)
    line.run(9.0, model_owes=True)
    assert line.actions == ["one_moment", "nudge", "give_up"]


def test_a_model_that_shows_that_it_is_at_work_is_waited_for() -> None:
    line = Line()
    line.run(1.0, voice=True)
    line.run(4.0)
    line.run(TICK, acts=True)
    line.run(7.0)
    assert "give_up" not in line.actions
    line.run(2.0)
    assert line.actions[-1] == "give_up"


STRETCHES = st.lists(
    st.tuples(
        st.floats(0.2, 12.0),
        st.fixed_dictionaries(
            {},
            optional={
                "voice": st.booleans(),
                "speech": st.booleans(),
                "acts": st.booleans(),
                "model_owes": st.booleans(),
                "tool_runs": st.booleans(),
                "connected": st.booleans(),
                "line_open": st.booleans(),
            },
        ),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(STRETCHES)
def test_whatever_happens_phrases_keep_their_distance_and_nothing_follows_the_end(
    stretches: list[tuple[float, dict[str, bool]]],
) -> None:
    line = Line()
    for seconds, what in stretches:
        line.run(seconds, **what)
    spoken = [moment for moment, action in line.did if action in ("one_moment", "still_there")]
    assert all(later - earlier >= FILL_SECONDS for earlier, later in pairwise(spoken))
    ends = [number for number, action in enumerate(line.actions) if action in ("give_up", "goodbye")]
    assert ends in ([], [len(line.did) - 1])


@settings(max_examples=150)
@given(STRETCHES, st.booleans(), st.booleans(), st.booleans())
def test_whatever_happened_a_line_on_which_nobody_speaks_any_more_is_ended(
    stretches: list[tuple[float, dict[str, bool]]], owes: bool, runs: bool, connected: bool
) -> None:
    line = Line()
    for seconds, what in stretches:
        line.run(seconds, **what)
    if line.actions[-1:] in (["give_up"], ["goodbye"]):
        return
    began = line.now
    line.run(130.0, model_owes=owes, tool_runs=runs, connected=connected)
    assert line.actions[-1] in ("give_up", "goodbye")
    if (owes or not connected) and not runs:
        assert line.did[-1][0] - began <= GIVE_UP_SECONDS + GRACES * GRACE_SECONDS


def test_a_caller_who_cut_the_bot_off_is_owed_an_answer() -> None:
    line = Line()
    line.run(3.0, speech=True)
    line.silence.caller_cut_in(line.now)
    line.run(6.0)
    assert line.actions == ["one_moment", "nudge"]
