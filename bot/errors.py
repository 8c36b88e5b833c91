"""Errors of Switchboard.

::

    SwitchboardError
    ├── ConfigurationError      a setting is missing or wrong: stops the start, names the variable
    ├── FlowError               a flow file is wrong: names file, line and cure
    │   └── FlowProblems        (bot/flow.py) it is wrong in several places
    ├── CarrierError            the telephone side
    │   ├── SignatureRejected   a request or upgrade was not signed by the carrier
    │   ├── StreamRejected      a media stream may not be opened (token, format, second socket)
    │   └── CarrierUnreachable  the carrier's REST API refused, failed or timed out
    ├── ModelError              the model side; ``kind`` names the cause, ``cure`` what to do
    ├── DeskRefusal             the business says no; ``reason`` and ``hint`` are words for the model
    │   ├── NotOffered          unknown service, staff or appointment
    │   ├── NotOpen             outside opening hours, holiday, too soon, too far ahead, in the past
    │   ├── SlotTaken           somebody has that time; ``alternatives`` are free ones
    │   └── NotUnderstood       a value that is not a phone number, a name, a date
    ├── TapeError               a tape cannot be read or written
    ├── RecordingsError         the store of recordings refuses or cannot be reached
    └── BackupError             a copy of the database was not made

A failure on the call path is never only an exception: whoever catches it records an event, counts it and lets the
caller hear words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

ModelFailure = Literal[
    "unreachable",
    "bad_key",
    "unknown_model",
    "quota",
    "no_live_access",
    "rejected_setup",
    "timeout",
    "dropped",
    "internal",
]

StreamRefusal = Literal[
    "no_start",
    "media_format",
    "unknown_call",
    "call_over",
    "second_stream",
    "bad_token",
]


class SwitchboardError(Exception):
    """Base of all errors that Switchboard raises on purpose."""


class ConfigurationError(SwitchboardError):
    """A setting is missing or wrong. The message names the variable, the problem and the cure."""

    def __init__(self, variable: str, problem: str, cure: str) -> None:
        super().__init__(f"{variable}: {problem} {cure}")
        self.variable = variable
        self.problem = problem
        self.cure = cure


class FlowError(SwitchboardError):
    """A flow file is wrong. ``line`` counts from 1; 0 where the whole file is meant."""

    def __init__(self, file: str, line: int, problem: str, cure: str) -> None:
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}: {problem} {cure}")
        self.file = file
        self.line = line
        self.problem = problem
        self.cure = cure


class CarrierError(SwitchboardError):
    """Something went wrong between us and the telephone network."""


class SignatureRejected(CarrierError):
    """A request does not carry the signature that the carrier would have made."""


class StreamRejected(CarrierError):
    """A media stream may not be opened. ``kind`` is the counter's label."""

    def __init__(self, kind: StreamRefusal, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind


class CarrierUnreachable(CarrierError):
    """The carrier's REST API refused, failed or did not answer in time."""


class ModelError(SwitchboardError):
    """The model cannot be used. ``kind`` is the counter's label, ``cure`` a sentence for the operator."""

    def __init__(self, kind: ModelFailure, problem: str, cure: str = "") -> None:
        super().__init__(f"{problem} {cure}".strip())
        self.kind = kind
        self.problem = problem
        self.cure = cure


class DeskRefusal(SwitchboardError):
    """The business says no, in words that the model can act on.

    ``reason`` tells what is wrong, ``hint`` what to do next; ``alternatives`` are offers in the shape of the call that
    was refused (free slots for a booking, service names for an unknown service).
    """

    def __init__(self, reason: str, hint: str = "", alternatives: Sequence[Any] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.alternatives = tuple(alternatives)


class NotOffered(DeskRefusal):
    """Unknown service, member of staff, customer or appointment."""


class NotOpen(DeskRefusal):
    """Outside opening hours, on a holiday, in the past, too soon or too far ahead."""


class SlotTaken(DeskRefusal):
    """Somebody else has that time."""


class NotUnderstood(DeskRefusal):
    """A value is not what it should be (a phone number, a name, a date)."""


class TapeError(SwitchboardError):
    """A tape cannot be read or written."""


class RecordingsError(SwitchboardError):
    """The store of recordings refuses, fails or cannot be reached."""


class BackupError(SwitchboardError):
    """A copy of the database was not made."""
