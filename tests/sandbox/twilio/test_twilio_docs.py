"""docs/sandbox-twilio.md names tests and knobs that exist."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

from sandbox.conversation import Habits, Turn
from sandbox.twilio import Faults, terminal

PAGE = (Path(__file__).parents[3] / "docs" / "sandbox-twilio.md").read_text("utf-8")


def test_every_test_named_in_the_table_exists() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"\b(test_[a-z0-9_]+|Test[A-Z]\w+)\b(?!\.py)", PAGE))
    assert len(named) > 80
    assert {name for name in named if not re.search(rf"(def|class) {name}\b", tests)} == set()


def test_every_fault_has_its_line_and_its_option() -> None:
    parser = argparse.ArgumentParser()
    terminal.add_arguments(parser)
    options = parser.format_help()
    for field in dataclasses.fields(Faults):
        if field.name != "seed":
            assert f"| `{field.name}` | `--{field.name.replace('_', '-')}` |" in PAGE
            assert f"--{field.name.replace('_', '-')}" in options


def test_every_word_of_a_script_is_explained() -> None:
    example = PAGE[PAGE.index("```yaml") : PAGE.index("## In a test")]
    for field in (*dataclasses.fields(Habits), *dataclasses.fields(Turn)):
        assert f"{field.name}:" in example
