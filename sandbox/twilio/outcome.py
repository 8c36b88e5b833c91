"""How a TwiML verb ends, and so what the call does next."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.twilio.twiml import Verb


@dataclass(frozen=True)
class Next:
    """Go on with the next verb of the document."""


@dataclass(frozen=True)
class Fetch:
    """Ask `url` for another document, with these fields added."""

    url: str
    fields: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


@dataclass(frozen=True)
class Run:
    """Go on with this document."""

    document: str


@dataclass(frozen=True)
class End:
    """The call is over; `status` is its final one."""

    reason: str
    status: str = "completed"


Outcome = Next | Fetch | Run | End


def after(verb: Verb, fields: dict[str, str]) -> Outcome:
    """A verb with an `action` ends with a request to it, one without with the next verb."""
    return Fetch(verb.get("action"), fields, verb.get("method", "POST")) if verb.get("action") else Next()
