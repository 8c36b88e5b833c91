"""docs/flows.md explains every key and every tool, and its examples work."""

from __future__ import annotations

import asyncio
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from bot.flow import Flow, Week, load_flow
from bot.flow_yaml import Document
from bot.tools import TOOLS, ToolBox
from bot.tools import arguments as spoken

PAGE = (Path(__file__).parents[2] / "docs" / "flows.md").read_text()
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def blocks(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and every model inside it."""
    yield model
    for field in model.model_fields.values():
        waiting = [field.annotation]
        while waiting:
            annotation = waiting.pop()
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                yield from blocks(annotation)
            else:
                waiting += get_args(annotation)


KEYS = sorted({(model.__name__, key) for model in blocks(Flow) for key in model.model_fields})


def merged(into: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        into[key] = merged(into[key], value) if isinstance(value, dict) and key in into else value
    return into


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for block in YAML_BLOCKS:
        document = Document(block.encode())
        assert document.problems == []
        merged(whole, document.values)
    return whole


def test_the_walk_finds_the_inner_blocks() -> None:
    assert {"Flow", "Phrases", "Week", "ServiceEntry", "StepEntry", "ToolUse", "Limits"} <= {name for name, _ in KEYS}
    assert len(KEYS) > 70


@pytest.mark.parametrize(("model", "key"), KEYS, ids=[".".join(pair) for pair in KEYS])
def test_key_is_explained_and_shown(model: str, key: str) -> None:
    assert f"`{key}`" in PAGE
    assert any(re.search(rf"(^|[\s{{,-]){key}:", block, re.MULTILINE) for block in YAML_BLOCKS)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_tool_is_in_the_table_with_its_outcomes(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \|.*$", PAGE, re.MULTILINE)
    for outcome in TOOLS[name].outcomes:
        assert outcome == "ok" or f"`{outcome}`" in row


def test_no_tool_is_in_the_table_that_does_not_exist() -> None:
    (table,) = re.findall(r"\| tool \|.*?\n\n", PAGE, re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(TOOLS)


def test_spoken_types_are_named() -> None:
    kinds = [name for name, value in vars(spoken).items() if hasattr(value, "__metadata__")]
    assert len(kinds) >= 10
    for kind in kinds:
        assert f"`{kind}`" in PAGE


def test_the_examples_together_are_a_flow(example: dict[str, Any], tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "barber.yaml"
    path.write_text(yaml.safe_dump(example))
    flow = load_flow(path)
    assert flow.desk_business().find_service("beard trim") is not None
    assert flow.grounding.google_search
    assert flow.steps["wish"].on == {"find_slots": "choose", "list_appointments:some": "change"}
    assert isinstance(flow.business.hours, Week)


@pytest.fixture
def ordering() -> Iterator[Callable[..., Any]]:
    """Runs the page's example of a tool as a module and takes the tool out again."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    module = types.ModuleType("example_tool")
    exec(compile(code, "docs/flows.md", "exec"), module.__dict__)
    yield module.order_product
    del TOOLS["order_product"]


def test_the_example_tool_works(ordering: Callable[..., Any], open_line: Callable[..., Any]) -> None:
    line = open_line()
    from bot.flow import ToolUse

    flow = line.flow.model_copy(
        update={"tools": (*line.flow.tools, ToolUse(name="order_product")), "anytime": ("order_product",)}
    )
    box = ToolBox(flow, line.desk, line.clock, line.facts, line.events.append)

    async def talk() -> list[dict[str, Any]]:
        wish = {"product": "shampoo", "name": "anna bell"}
        calls = [wish, wish, {"product": "wax", "name": "Anna Bell"}, {"product": "soap", "name": "Anna Bell"}]
        return [await box.run(f"x{number}", "order_product", args) for number, args in enumerate(calls)]

    done, again, sold_out, wrong = asyncio.run(talk())
    assert (done["say"], done["ready"]) == ("The shampoo is put aside for Anna Bell.", "today")
    assert again["note"]
    assert sold_out == {"error": "Wax is sold out.", "hint": "Offer shampoo, or to take a message."}
    assert "product: not understood. It should be: Which product." in wrong["error"]
    assert ordering.__name__ in {declaration.name for declaration in box.declarations}
