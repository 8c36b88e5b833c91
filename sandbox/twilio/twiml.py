"""TwiML: reads a document, gives its verbs one by one, and keeps the trace of what was executed. No I/O.

Source of the rules: Twilio documentation, "TwiML for Programmable Voice" and the pages of the errors named here.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

INLINE_LIMIT = 4000
PARAMETER_LIMIT = 500
TRACKS = {"inbound_track": ("inbound",), "outbound_track": ("outbound",), "both_tracks": ("inbound", "outbound")}

# Verb -> nouns that it may hold. An empty set: text or nothing.
VERBS: dict[str, frozenset[str]] = {
    "Say": frozenset(),
    "Play": frozenset(),
    "Pause": frozenset(),
    "Gather": frozenset({"Say", "Play", "Pause"}),
    "Redirect": frozenset(),
    "Hangup": frozenset({"Parameter"}),
    "Reject": frozenset({"Parameter"}),
    "Connect": frozenset({"Stream"}),
    "Start": frozenset({"Stream", "Recording"}),
    "Stop": frozenset({"Stream", "Recording"}),
    "Dial": frozenset({"Number", "Conference", "Queue", "Sip", "Client"}),
    "Enqueue": frozenset({"Task"}),
    "Leave": frozenset(),
    "Refer": frozenset({"Sip", "ReferSip"}),
    "Record": frozenset(),
    "Pay": frozenset({"Prompt", "Parameter"}),
}


class TwimlError(Exception):
    """A document or verb that cannot be executed. `code` is Twilio's error number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Verb:
    """An element of TwiML with its attributes, its text and its nouns."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    nouns: tuple[Verb, ...] = ()

    def get(self, attribute: str, default: str = "") -> str:
        """An attribute, or `default` where it is not given."""
        return self.attributes.get(attribute, default)

    def number(self, attribute: str, default: float) -> float:
        """A numeric attribute. Raises TwimlError (12200) if it is not a number."""
        value = self.attributes.get(attribute)
        try:
            return default if value is None else float(value)
        except ValueError:
            raise TwimlError(12200, f"<{self.name} {attribute}> is {value!r}, not a number") from None

    def noun(self, name: str) -> Verb | None:
        """The first noun of that name."""
        return next((noun for noun in self.nouns if noun.name == name), None)

    def __str__(self) -> str:
        attributes = "".join(f" {name}={value!r}" for name, value in self.attributes.items())
        inner = " ".join([*([self.text] if self.text else []), *map(str, self.nouns)])
        return f"<{self.name}{attributes}>{inner}"


@dataclass(frozen=True)
class Stream:
    """A checked `<Stream>`."""

    url: str
    name: str
    tracks: tuple[str, ...]
    parameters: dict[str, str]
    status_callback: str
    status_callback_method: str


def parse(document: str | bytes) -> list[Verb]:
    """The verbs of a document in order, unknown ones included. Raises TwimlError 12100 if it is not TwiML."""
    text = document.decode("utf-8", "replace") if isinstance(document, bytes) else document
    if "<!DOCTYPE" in text:
        raise TwimlError(12100, "a document type declaration is not allowed")
    try:
        root = ET.fromstring(text.strip())
    except ET.ParseError as problem:
        raise TwimlError(12100, f"the document is not XML: {problem}") from None
    if root.tag != "Response":
        raise TwimlError(12100, f"the root element is <{root.tag}>, not <Response>")
    return [_verb(child) for child in root]


def _verb(element: ET.Element) -> Verb:
    text = re.sub(r"\s+", " ", element.text or "").strip()
    return Verb(element.tag, dict(element.attrib), text, tuple(_verb(child) for child in element))


def check_inline(document: str) -> None:
    """Raises TwimlError 21218 if TwiML given by REST is longer than 4000 characters, 12100 if it is not TwiML."""
    if len(document) > INLINE_LIMIT:
        raise TwimlError(21218, f"inline TwiML has {len(document)} characters; {INLINE_LIMIT} are allowed")
    parse(document)


def stream_of(verb: Verb) -> Stream:
    """The `<Stream>` in a `<Connect>` or `<Start>`.

    Raises TwimlError: 12200 without one or with a parameter that is incomplete or too long, 31922 where the URL is
    not wss, 31923 where it is malformed, 31920 where it has a query string, 31941 for a track that the verb does
    not allow.
    """
    stream = verb.noun("Stream")
    if stream is None:
        raise TwimlError(12200, f"<{verb.name}> holds no <Stream>")
    url = stream.get("url")
    parts = urlsplit(url)
    if not parts.netloc:
        raise TwimlError(31923, f"the stream's url {url!r} is not a full URL")
    if parts.scheme != "wss":
        raise TwimlError(31922, f"the stream's url begins with {parts.scheme!r}, not wss")
    if parts.query:
        raise TwimlError(31920, "the stream's url has a query string; use <Parameter>")
    track = stream.get("track", "inbound_track")
    if track not in TRACKS or (verb.name == "Connect" and track != "inbound_track"):
        raise TwimlError(31941, f"track {track!r} is not allowed in <{verb.name}>")
    method = stream.get("statusCallbackMethod", "POST")
    parameters = dict(_parameter(noun) for noun in stream.nouns if noun.name == "Parameter")
    return Stream(url, stream.get("name"), TRACKS[track], parameters, stream.get("statusCallback"), method)


def _parameter(noun: Verb) -> tuple[str, str]:
    name, value = noun.get("name"), noun.get("value")
    if not name:
        raise TwimlError(12200, "a <Parameter> has no name")
    if len(name) + len(value) >= PARAMETER_LIMIT:
        raise TwimlError(12200, f"<Parameter name={name!r}>: name and value must be under {PARAMETER_LIMIT} characters")
    return name, value


def task_of(verb: Verb) -> dict[str, object]:
    """The attributes in the `<Task>` of an `<Enqueue>`. Raises TwimlError 14220 if they are not a JSON object."""
    task = verb.noun("Task")
    try:
        attributes = json.loads(task.text) if task and task.text else {}
    except ValueError:
        attributes = None
    if not isinstance(attributes, dict):
        raise TwimlError(14220, "the <Task> does not hold a JSON object")
    return attributes


class Interpreter:
    """Steps through documents. `trace` has every executed verb of the call, `warnings` what was skipped and why."""

    def __init__(self) -> None:
        self.trace: list[Verb] = []
        self.warnings: list[TwimlError] = []
        self._verbs: Iterator[Verb] = iter(())

    def load(self, document: str | bytes) -> None:
        """Go on with another document; the rest of the one before is dropped. Raises TwimlError 12100."""
        self._verbs = iter(parse(document))

    def next(self) -> Verb | None:
        """The next verb to execute; None at the end of the document, which hangs up."""
        for verb in self._verbs:
            if self._known(verb):
                self.trace.append(verb)
                return verb
        return None

    def _known(self, verb: Verb) -> bool:
        allowed = VERBS.get(verb.name)
        if allowed is None:
            self.warnings.append(TwimlError(12200, f"<{verb.name}> is not a verb; skipped"))
            return False
        strangers = sorted({noun.name for noun in verb.nouns} - allowed)
        if strangers:
            self.warnings.append(TwimlError(12200, f"<{verb.name}> may not hold {strangers}; they are ignored"))
        return True

    @property
    def executed(self) -> list[str]:
        """The trace in short: `Say`, `Connect/Stream`, `Dial/Number`."""
        return ["/".join([verb.name, *(noun.name for noun in verb.nouns[:1])]) for verb in self.trace]
