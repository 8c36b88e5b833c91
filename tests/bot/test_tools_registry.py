"""What Gemini is told about the tools, and what the decorator demands of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from bot.flow import load_flow
from bot.tools.registry import TOOLS, Answer, NotValid, Spoken, Work, plain, tool

FLOWS = Path(__file__).parents[2] / "flows"
DENTIST = load_flow(FLOWS / "dental.yaml").desk_business()
NAMES = {
    "find_slots",
    "book_appointment",
    "reschedule_appointment",
    "cancel_appointment",
    "list_appointments",
    "find_customer",
    "save_customer",
    "update_customer",
    "add_note",
    "answer_question",
    "take_message",
    "transfer_to_human",
    "end_call",
}


@pytest.fixture
def registry() -> Any:
    """Lets a test register tools of its own and takes them out again."""
    before = dict(TOOLS)
    yield TOOLS
    TOOLS.clear()
    TOOLS.update(before)


def test_everything_in_the_box_is_there() -> None:
    assert set(TOOLS) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_declaration_is_one_that_gemini_takes(name: str) -> None:
    declaration = TOOLS[name].declaration(DENTIST)
    types.FunctionDeclaration(
        name=declaration.name, description=declaration.description, parameters=declaration.parameters
    )
    assert declaration.description
    assert declaration.parameters["type"] == "object"
    for words in ("$ref", "anyOf", "null", "default", "title", "Args:"):
        assert words not in json.dumps([declaration.description, declaration.parameters])
    for schema in declaration.parameters["properties"].values():
        assert schema.keys() <= {"type", "description", "enum"}
        assert schema["description"]


def test_declaration_shows_the_business_and_what_is_required() -> None:
    parameters = TOOLS["book_appointment"].declaration(DENTIST).parameters
    assert parameters["required"] == ["service", "day", "time", "name"]
    assert "Cleaning" in parameters["properties"]["service"]["enum"]
    assert "Dr. Ngozi Okafor" in parameters["properties"]["staff"]["enum"]
    assert parameters["properties"]["day"] == {"type": "string", "description": "The day as YYYY-MM-DD."}
    assert TOOLS["take_message"].declaration(DENTIST).parameters["properties"]["urgent"]["type"] == "boolean"
    assert "required" not in TOOLS["end_call"].declaration(DENTIST).parameters


def test_writes_are_told_from_reads() -> None:
    reads = {name for name, entry in TOOLS.items() if not entry.writes}
    assert reads == {
        "find_slots",
        "list_appointments",
        "find_customer",
        "answer_question",
        "transfer_to_human",
        "end_call",
    }


def test_undone_tools_exist_and_write() -> None:
    for entry in TOOLS.values():
        for undone in entry.undoes:
            assert TOOLS[undone].writes


def test_plain_types_are_checked(registry: Any) -> None:
    @tool()
    async def measure(work: Work, size: int, kind: Literal["small", "large"], ratio: float = 1.0) -> Answer:
        """Measure.

        Args:
            size: How big, in cm.
            kind: Which kind.
            ratio: How much.
        """
        return Answer("")

    entry = registry["measure"]
    here: Any = None
    assert entry.declaration(DENTIST).parameters["properties"]["kind"] == {
        "type": "string",
        "description": "Which kind.",
        "enum": ["small", "large"],
    }
    assert entry.understand({"size": " 7 ", "kind": "small", "ratio": None}, here) == {"size": 7, "kind": "small"}
    with pytest.raises(NotValid) as wrong:
        entry.understand({"size": "big", "kind": "medium"}, here)
    assert "size: not understood. It should be: How big, in cm." in wrong.value.reason
    assert "kind: not understood" in wrong.value.reason


def test_a_tool_must_be_described(registry: Any) -> None:
    with pytest.raises(TypeError, match="needs a docstring"):

        @tool()
        async def bare(work: Work) -> Answer:
            return Answer("")

    with pytest.raises(TypeError, match="does not describe size"):

        @tool()
        async def half(work: Work, size: int) -> Answer:
            """Do it.

            Args:
                color: Not the parameter.
            """
            return Answer("")


@pytest.mark.parametrize("annotation", [list[str], dict[str, int], int | str])
def test_types_that_gemini_could_not_fill_are_refused(registry: Any, annotation: Any) -> None:
    async def odd(work: Work, value: Any) -> Answer:
        """Do it.

        Args:
            value: The value.
        """
        return Answer("")

    odd.__annotations__["value"] = annotation
    with pytest.raises(TypeError, match="value"):
        tool()(odd)


def test_spoken_types_refuse_structures(registry: Any) -> None:
    @tool()
    async def shout(work: Work, words: Annotated[str, Spoken(lambda said, here: said.upper())]) -> Answer:
        """Shout.

        Args:
            words: What to shout.
        """
        return Answer("")

    here: Any = None
    assert registry["shout"].understand({"words": " hello "}, here) == {"words": "HELLO"}
    assert registry["shout"].understand({"words": 7}, here) == {"words": "7"}
    for structure in ([1], {"a": 1}, True):
        with pytest.raises(NotValid, match="must be words"):
            registry["shout"].understand({"words": structure}, here)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(ANYTHING)
def test_plain_makes_anything_json(value: Any) -> None:
    import orjson

    orjson.dumps(plain(value))


def test_plain_leaves_sane_values_alone() -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"c": "d"}}
    assert plain(value) == value
