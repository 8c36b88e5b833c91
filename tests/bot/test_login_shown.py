"""What the start says about the console: where it is, and where its password lies."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bot.terminal import show_login

KEPT = Path("data/console-password")


@pytest.mark.parametrize(
    ("terminal", "kept", "made", "password"),
    [
        (True, KEPT, "1a2b-3c4d", "1a2b-3c4d (kept in data/console-password)"),
        (True, KEPT, None, "in data/console-password"),
        (False, KEPT, "1a2b-3c4d", "in data/console-password"),
        (True, None, None, "CONSOLE_PASSWORD"),
    ],
)
def test_the_password_is_shown_once_and_to_a_terminal_only(
    terminal: bool, kept: Path | None, made: str | None, password: str
) -> None:
    console = Console(file=StringIO(), force_terminal=terminal, color_system=None, width=80)
    show_login(console, "https://bot.example.com", kept, made)
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue().splitlines() == [
        "Console   https://bot.example.com/console",
        f"Password  {password}",
    ]
