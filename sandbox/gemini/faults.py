"""Fault switches: what can go wrong with the real service, on demand.

`Faults` is what goes wrong in one session; `FaultPlan` says which session gets which. Both may be replaced while calls
are up. From YAML::

    every: {setup_seconds: 2.0}            # every session that is not listed
    sessions:
      1: {drop_at_bot_ms: 1500}            # the first session of the stand-in
      "2-4": {drop_after_ms: 0}            # three drops in a row
      5: {empty_turn: [2], go_away_at_seconds: 20, go_away_close: {code: 1008, reason: gone}}
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sandbox.gemini.wire import INTERNAL, Close

INTERNAL_ERROR = Close(1011, INTERNAL)


class FaultError(ValueError):
    """A fault file or mapping is wrong; the message says where and what would be right."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong in one session. Turn and utterance numbers count from 1; an empty tuple means never.

    A switch that is set while the session is up counts from then on, but for those that say when in the session's life
    (`setup_seconds`, `drop_after_ms`, `go_away_at_seconds`): these are read once, when it begins.
    Drops close the socket without a close frame unless `drop_close` says how: `drop_after_ms` of the session,
    `drop_at_bot_ms` of speech sent in it, `drop_at_caller_ms` of one utterance (its closing silence included).
    From `stall_at_bot_ms` of one turn's speech on, what is left of it comes `stall_seconds` late.
    """

    # before the session is up
    refuse_connect: bool = False
    upgrade_status: int | None = None
    setup_seconds: float = 0.0
    wrong_key: bool = False
    model_gone: bool = False
    setup_close: Close | None = None
    expired_handle: bool = False

    # drops
    drop_close: Close | None = None
    drop_after_ms: int | None = None
    drop_at_bot_ms: int | None = None
    drop_at_caller_ms: int | None = None
    drop_in_tool_call: bool = False
    close_before_first_word: tuple[int, ...] = ()
    first_word_close: Close = INTERNAL_ERROR

    # ageing
    go_away_at_seconds: float | None = None
    go_away_left_seconds: float = 50.0
    go_away_close: Close | None = None
    no_handle: bool = False

    # hearing
    mute: bool = False
    swallowed_utterance: tuple[int, ...] = ()
    duplicate_transcript: tuple[int, ...] = ()
    missing_transcript: tuple[int, ...] = ()
    pause_split_ms: int | None = None

    # turns
    empty_turn: tuple[int, ...] = ()
    refused_turn: tuple[int, ...] = ()
    missing_turn_complete: tuple[int, ...] = ()
    stall_at_bot_ms: int | None = None
    stall_seconds: float = 5.0
    two_parts: bool = False
    usage_alone: bool = False

    # tools
    cancel_tool_call_ms: int | None = None
    unknown_function_call: tuple[int, ...] = ()
    refuse_audio_in_tool_call: bool = False

    @classmethod
    def from_mapping(cls, mapping: Any, where: str = "faults") -> Faults:
        """From parsed YAML. Raises FaultError naming the key."""
        if not isinstance(mapping, dict):
            raise FaultError(f"{where}: expected a mapping of fault switches, got {type(mapping).__name__}.")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in mapping.items():
            if key not in fields:
                raise FaultError(f"{where}: no fault switch {key!r}. Known: {', '.join(sorted(fields))}.")
            values[key] = _value(str(fields[key].type), value, f"{where}.{key}")
        return cls(**values)


@dataclass
class FaultPlan:
    """Which session (counted from 1 in the order of connecting) gets which faults."""

    every: Faults = Faults()
    sessions: dict[int, Faults] = field(default_factory=dict)

    def of(self, session: int) -> Faults:
        """The faults of one session, as they are now."""
        return self.sessions.get(session, self.every)

    @classmethod
    def from_file(cls, path: Path) -> FaultPlan:
        """Reads the YAML described in this module. Raises FaultError naming file and key."""
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise FaultError(f"{path}: {error}") from error
        if not isinstance(loaded, dict) or not set(loaded) <= {"every", "sessions"}:
            raise FaultError(f"{path}: expected a mapping with 'every' and/or 'sessions'.")
        plan = cls(Faults.from_mapping(loaded.get("every") or {}, f"{path}: every"))
        for key, mapping in (loaded.get("sessions") or {}).items():
            faults = Faults.from_mapping(mapping, f"{path}: sessions.{key}")
            plan.sessions.update(dict.fromkeys(_numbers(str(key), str(path)), faults))
        return plan


def _numbers(key: str, where: str) -> range:
    first, _, last = key.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(first) < 1:
        raise FaultError(f"{where}: session {key!r} is neither a number from 1 nor a range such as 2-4.")
    return range(int(first), int(last or first) + 1)


def _value(kind: str, value: Any, where: str) -> Any:
    if "Close" in kind:
        if not isinstance(value, dict) or not isinstance(value.get("code"), int):
            raise FaultError(f"{where}: expected {{code: 1011, reason: text}}.")
        return Close(value["code"], str(value.get("reason", "")))
    if kind.startswith("tuple"):
        numbers = value if isinstance(value, list) else [value]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers):
            raise FaultError(f"{where}: expected turn numbers from 1, such as [1, 3].")
        return tuple(numbers)
    if kind == "bool":
        if not isinstance(value, bool):
            raise FaultError(f"{where}: expected true or false.")
        return value
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise FaultError(f"{where}: expected a number, 0 or more.")
    return int(value) if "int" in kind else float(value)
