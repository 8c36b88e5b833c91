"""What of a call's events tests look at."""

from __future__ import annotations

from typing import Any


def said(events: list[Any]) -> list[str]:
    """The words of the bot's turns."""
    return [event.text for event in events if event.kind == "bot_said"]


def troubles(events: list[Any]) -> list[str]:
    """The failures."""
    return [event.failure for event in events if event.kind == "trouble"]


def kinds(events: list[Any], kind: str) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if event.kind == kind]
