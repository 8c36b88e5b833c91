"""Steps: only a success moves the conversation, and never anywhere undeclared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.steps import Step, Steps

SALES = [
    Step("greet", "Ask what it is about.", ["look"], {"look": "offer", "look:nothing": "apologise"}),
    Step("offer", "Offer it.", ["buy", "look"], {"buy": "done"}),
    Step("apologise", "Say sorry.", ["look"], {"look:found": "offer"}),
    Step("done", "Say goodbye."),
]


def test_starts_at_the_first_step_with_its_tools() -> None:
    steps = Steps("greet", SALES, ["leave"])
    assert steps.current.name == "greet"
    assert steps.allowed == ("look", "leave")


def test_success_moves_on_and_returns_the_new_step() -> None:
    steps = Steps("greet", SALES)
    assert steps.advance("look").instruction == "Offer it."
    assert steps.current.name == "offer"


def test_outcome_decides_before_the_bare_tool() -> None:
    steps = Steps("greet", SALES)
    assert steps.advance("look", "nothing").name == "apologise"
    assert steps.advance("look", "nothing") is None
    assert steps.current.name == "apologise"


def test_tool_without_a_move_stays() -> None:
    steps = Steps("offer", SALES)
    assert steps.advance("look") is None
    assert steps.current.name == "offer"


def test_move_to_the_same_step_is_no_move() -> None:
    steps = Steps("loop", [Step("loop", "Again.", ["spin"], {"spin": "loop"})])
    assert steps.advance("spin") is None


def test_refusal_names_the_way() -> None:
    steps = Steps("greet", SALES)
    assert steps.refusal("look") is None
    assert "First use look." in (steps.refusal("buy") or "")


def test_refusal_without_a_way_lists_what_is_open() -> None:
    steps = Steps("done", SALES, ["leave"])
    assert "Available now: leave." in (steps.refusal("buy") or "")


def test_a_long_way_is_told_whole() -> None:
    steps = Steps("a", [Step("a", "", ["x"], {"x": "b"}), Step("b", "", ["y"], {"y": "c"}), Step("c", "", ["z"])])
    assert "First use x and then y." in (steps.refusal("z") or "")


@pytest.mark.parametrize(("first", "steps"), [("nowhere", SALES), ("a", [Step("a", "", ["x"], {"x": "b"})])])
def test_undeclared_steps_are_refused(first: str, steps: list[Step]) -> None:
    with pytest.raises(ValueError, match="No such step"):
        Steps(first, steps)


NAMES = st.sampled_from(["a", "b", "c", "d"])
TOOLS = st.sampled_from(["t", "u", "v", "w"])
OUTCOMES = st.sampled_from(["ok", "some", "none"])


@st.composite
def machines(draw: st.DrawFn) -> Steps:
    names = draw(st.lists(NAMES, min_size=1, unique=True))
    moves = st.dictionaries(
        st.one_of(TOOLS, st.builds("{}:{}".format, TOOLS, OUTCOMES)), st.sampled_from(names), max_size=4
    )
    steps = [Step(name, f"Do {name}.", draw(st.lists(TOOLS, max_size=3)), draw(moves)) for name in names]
    return Steps(draw(st.sampled_from(names)), steps, draw(st.lists(TOOLS, max_size=1)))


@given(machines(), st.lists(st.tuples(st.one_of(TOOLS, st.text(max_size=5)), OUTCOMES), max_size=30))
def test_any_sequence_stays_among_the_declared_steps(steps: Steps, calls: list[tuple[str, str]]) -> None:
    for tool, outcome in calls:
        before, refused = steps.current, steps.refusal(tool)
        moved = steps.advance(tool, outcome)
        assert steps.current in steps._steps.values()
        if refused:
            assert moved is None
            assert steps.current is before
        if moved:
            assert moved is steps.current
            assert moved.name == before.after(tool, outcome)
        else:
            assert steps.current is before


@given(machines(), TOOLS)
def test_asking_changes_nothing_and_agrees_with_the_list(steps: Steps, tool: str) -> None:
    before = steps.current
    assert (steps.refusal(tool) is None) == (tool in steps.allowed)
    assert steps.current is before
