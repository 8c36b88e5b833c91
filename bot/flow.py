"""What the bot says and may do on one business line: a YAML file in flows/, read into a frozen `Flow`.

`load_flow` finds everything that is wrong with a file in one go and names file, line and cure for each.
``python -m bot.flow check FILE`` does it from a terminal, ``python -m bot.flow schema`` prints the JSON Schema that
editors use. docs/flows.md explains every key.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import phonenumbers
from pydantic import AfterValidator, Field, PrivateAttr, StringConstraints, ValidationError, model_validator

import desk.business
from bot.errors import FlowError
from bot.flow_business import Block, BusinessEntry, Days, Instruction, Name, Sentence, Week, Words, wrong
from bot.flow_checks import references
from bot.flow_yaml import Document, Problem, nearest, problems_of, schema_of
from bot.handover import StaffLine
from bot.phrases import Phrases, default_handover_words, default_phrases
from bot.steps import Step, Steps
from bot.tools.briefing import too_long_by
from bot.tools.registry import DEFAULT_TIMEOUT_SECONDS

VOICES = tuple(
    "Zephyr Puck Charon Kore Fenrir Leda Orus Aoede Callirrhoe Autonoe Enceladus Iapetus Umbriel "  # noqa: SIM905
    "Algieba Despina Erinome Algenib Rasalgethi Laomedeia Achernar Alnilam Schedar Gacrux Pulcherrima Achird "
    "Zubenelgenubi Vindemiatrix Sadachbia Sadaltager Sulafat".split()
)
"""Gemini's prebuilt voices (ai.google.dev, speech generation)."""


class FlowProblems(FlowError):
    """A flow file is wrong in several places: the first is told as in every `FlowError`, `problems` holds them all.

    As text it has one line for each.
    """

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        first = problems[0]
        super().__init__(file, first.line, first.problem, first.cure)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(FlowError(self.file, p.line, p.problem, p.cure)) for p in self.problems)


def _voice(value: str) -> str:
    if value not in VOICES:
        raise wrong(f"there is no voice {value!r}.", nearest(value.capitalize(), VOICES, "Voices"))
    return value


def _language(value: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?", value):
        raise wrong(f"{value!r} is not a language code.", "Use a BCP-47 code such as en-US, de-DE or es-419.")
    return value


def _e164(value: str) -> str:
    try:
        number = phonenumbers.parse(value, None)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_possible_number(number):
        raise wrong(f"{value!r} is not a telephone number.", "Write it with + and country code, as +12075550123.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


class HandoverEntry(Block):
    """Where callers go whom the assistant cannot help: to a person, and to a recorder where nobody answers."""

    number: Annotated[str, AfterValidator(_e164)] | None = None
    """Number of the person to ring, with + and country code; left out, callers are asked to leave a message."""
    hours: Week | None = None
    """When somebody answers it; left out, the business's hours. Holidays of the business count in both."""
    ring_seconds: Annotated[int, Field(ge=5, le=60)] = 20
    """How long it rings."""
    handing_over: Sentence
    """What the caller hears before it rings."""
    nobody_there: Sentence
    """What the caller hears when nobody answers; a tone follows, and what the caller says then is recorded."""
    briefing: Sentence
    """What the person who picks up hears before pressing a key: {caller} is the number, {reason} why they call."""


class Speech(Block):
    """How the model decides that the caller begins and stops to speak."""

    start_sensitivity: Literal["low", "high"] = "high"
    """`high` notices speech sooner, `low` is fooled less by noise."""
    end_sensitivity: Literal["low", "high"] = "high"
    """`high` answers sooner, `low` lets callers think longer."""
    silence_ms: Annotated[int, Field(ge=100, le=5000)] | None = None
    """Silence that ends the caller's turn, in milliseconds; left out, the model's own default."""
    prefix_ms: Annotated[int, Field(ge=0, le=2000)] | None = None
    """Speech needed before it counts as a turn, in milliseconds; left out, the model's own default."""


class Grounding(Block):
    """Where answers may come from besides the business."""

    google_search: bool = False
    """Let the model search the web with Google."""


class ToolUse(Block):
    """A tool of this flow: its name alone, or a block with its name and timeout."""

    name: Name
    """Name of a tool in bot/tools/."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = DEFAULT_TIMEOUT_SECONDS
    """How long the model waits for its answer."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class StepEntry(Block):
    """One stretch of the conversation."""

    instruction: Instruction
    """What the model is to do now."""
    allows: tuple[Name, ...] = ()
    """Tools that may run in this step, besides those of `anytime`."""
    on: dict[str, Name] = {}  # noqa: RUF012 (pydantic copies it)
    """The next step after a tool succeeded: `tool: step`, or `tool:outcome: step` for one outcome only."""


class Limits(Block):
    """How far a call may go."""

    max_call_minutes: Annotated[float, Field(gt=0, le=120)] = 20
    """The longest call, in minutes; the caller hears `phrases.goodbye` at its end."""
    caller_silence_seconds: Annotated[float, Field(ge=3, le=120)] = 10
    """Silence of the caller, in seconds, after which `phrases.still_there` is asked."""
    still_there_times: Annotated[int, Field(ge=0, le=5)] = 2
    """How often it is asked in a row; after one more silence the caller hears `phrases.goodbye` and the call ends."""


class Retention(Block):
    """How long calls are kept, in days from their beginning; left out, what the server's RETENTION_… settings say."""

    audio_days: Days | None = None
    """The recording."""
    transcript_days: Days | None = None
    """What was said and done: words, arguments and results of functions, summary."""
    number_days: Days | None = None
    """The caller's number."""


class Flow(Block):
    """One business line: who answers, in which voice, with which tools and steps."""

    id: Name
    """Lower-case name of the flow; appointments and customers belong to it, so do not change it."""
    title: Words
    """Name of the flow for operators."""
    language: Annotated[str, AfterValidator(_language)] = "en-US"
    """Language of the conversation, as a BCP-47 code."""
    voice: Annotated[str, AfterValidator(_voice)] = "Aoede"
    """One of Gemini's prebuilt voices."""
    models: tuple[Words, ...] = ()
    """Live models for this flow, first choice first; left out, those of GEMINI_MODELS."""
    persona: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """Who the assistant is and how it speaks."""
    greeting: Sentence
    """First words of every call, spoken as written."""
    notice: Sentence
    """Spoken right after the greeting, as written: that it is an automated assistant and that the call is recorded."""
    phrases: Phrases
    """Ready-made sentences for when no model speaks; defaults for en, de, es and fr."""
    business: BusinessEntry
    """The business behind the phone."""
    speech: Speech = Speech()
    """How the model decides that the caller begins and stops to speak."""
    grounding: Grounding = Grounding()
    """Where answers may come from besides the business."""
    tools: Annotated[tuple[ToolUse, ...], Field(min_length=1)]
    """The tools of this flow; all of them are declared when the call connects."""
    anytime: tuple[Name, ...] = ()
    """Tools that may run in every step."""
    first_step: Name
    """Where the conversation starts."""
    steps: Annotated[dict[Name, StepEntry], Field(min_length=1)]
    """The steps of the conversation, by name."""
    limits: Limits = Limits()
    """How far a call may go."""
    handover: HandoverEntry | None = None
    """Where callers go whom the assistant cannot help; left out, they hear why and the call ends."""

    retention: Retention = Retention()
    """How long calls are kept; left out, what the server's settings say."""

    _content_hash: str = PrivateAttr("")

    @model_validator(mode="before")
    @classmethod
    def _fill_phrases(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not isinstance(value.get("phrases", {}), Mapping):
            return value
        language = str(value.get("language", "en-US"))
        filled = {**value, "phrases": {**default_phrases(language), **value.get("phrases", {})}}
        if isinstance(value.get("handover"), Mapping):
            filled["handover"] = {**default_handover_words(language), **value["handover"]}
        return filled

    @property
    def content_hash(self) -> str:
        """SHA-256 of the file's bytes, hexadecimal: which words this call was given."""
        return self._content_hash

    @property
    def opening(self) -> str:
        """The first words of a call: greeting and notice."""
        return f"{self.greeting} {self.notice}"

    @property
    def zone(self) -> ZoneInfo:
        """The business's time zone."""
        return ZoneInfo(self.business.timezone)

    @property
    def staff_line(self) -> StaffLine | None:
        """Whom a call can be handed over to, if the flow names anybody."""
        entry = self.handover
        if entry is None or entry.number is None:
            return None
        return StaffLine(entry.number, entry.ring_seconds, entry.hours.by_weekday() if entry.hours else None)

    def new_steps(self) -> Steps:
        """The steps of a new call, standing at the first one."""
        steps = [Step(name, step.instruction, step.allows, step.on) for name, step in self.steps.items()]
        return Steps(self.first_step, steps, self.anytime)

    def desk_business(self) -> desk.business.Business:
        """The business as the desk knows it. Raises ValueError, in words, if its parts do not fit together."""
        return self.business.at_desk(self.id)


def load_flow(path: Path) -> Flow:
    """Read a flow file.

    Raises `bot.errors.FlowError`; its text lists all problems of the file, one per line, each with line and cure.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FlowError(
            str(path), 0, f"cannot be read: {error.strerror}.", "Check FLOW and the flows/ folder."
        ) from error
    document = Document(content)
    problems = list(document.problems)
    flow: Flow | None = None
    if document.values:
        try:
            flow = Flow.model_validate(document.values)
        except ValidationError as error:
            problems += problems_of(error, Flow, document)
        problems += references(document)
    if flow is not None and not problems:
        problems += _whole_problems(flow, document)
    if flow is None or problems:
        raise FlowProblems(str(path), tuple(dict.fromkeys(sorted(problems))))
    flow._content_hash = hashlib.sha256(content).hexdigest()
    return flow


def _whole_problems(flow: Flow, document: Document) -> Iterator[Problem]:
    try:
        business = flow.desk_business()
    except ValueError as error:
        yield Problem(document.line(("business",), of_key=True), f"`business`: {error}", "Correct it under business.")
        return
    if (excess := too_long_by(flow, business)) > 0:
        line = document.line(("persona",), of_key=True)
        words = f"persona, services and instructions are {excess} characters too long to be told to the model."
        yield Problem(line, words, "Shorten persona or the longest instruction; move facts into the business's faq.")


def flow_json_schema() -> dict[str, Any]:
    """The JSON Schema of a flow file, for editors (flows/flow.schema.json)."""
    schema = schema_of(Flow)
    schema["required"].remove("phrases")  # the language may have defaults
    parts = schema["$defs"]
    del parts["Phrases"]["required"]
    del parts["HandoverEntry"]["required"]
    parts["ToolUse"] = {"anyOf": [parts["ToolUse"]["properties"]["name"], parts["ToolUse"]]}
    schema["properties"]["voice"]["enum"] = list(VOICES)
    return schema


def main(arguments: list[str]) -> int:
    """``check FILE…`` or ``schema``; the exit status is 1 where a file has problems, 2 for wrong usage."""
    match arguments:
        case ["schema"]:
            print(json.dumps(flow_json_schema(), indent=2, ensure_ascii=False))
            return 0
        case ["check", *files] if files:
            return max(_check(Path(file)) for file in files)
        case _:
            print("usage: python -m bot.flow schema | check FILE…", file=sys.stderr)
            return 2


def _check(path: Path) -> int:
    try:
        flow = load_flow(path)
    except FlowError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: fine. {flow.title}: {len(flow.steps)} steps, {len(flow.tools)} tools.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
