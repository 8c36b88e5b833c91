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
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import phonenumbers
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

import desk.business
from bot.errors import FlowError
from bot.flow_checks import references
from bot.flow_yaml import Document, Problem, nearest, problems_of, schema_of
from bot.phrases import Phrases, default_phrases
from bot.steps import Step, Steps
from bot.tools.briefing import too_long_by
from bot.tools.registry import DEFAULT_TIMEOUT_SECONDS
from desk.business import Period

VOICES = tuple(
    "Zephyr Puck Charon Kore Fenrir Leda Orus Aoede Callirrhoe Autonoe Enceladus Iapetus Umbriel "  # noqa: SIM905
    "Algieba Despina Erinome Algenib Rasalgethi Laomedeia Achernar Alnilam Schedar Gacrux Pulcherrima Achird "
    "Zubenelgenubi Vindemiatrix Sadachbia Sadaltager Sulafat".split()
)
"""Gemini's prebuilt voices (ai.google.dev, speech generation)."""

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


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


def _wrong(problem: str, cure: str) -> PydanticCustomError:
    return PydanticCustomError("flow", "{problem}", {"problem": problem, "cure": cure})


def _voice(value: str) -> str:
    if value not in VOICES:
        raise _wrong(f"there is no voice {value!r}.", nearest(value.capitalize(), VOICES, "Voices"))
    return value


def _language(value: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?", value):
        raise _wrong(f"{value!r} is not a language code.", "Use a BCP-47 code such as en-US, de-DE or es-419.")
    return value


def _zone(value: str) -> str:
    if value not in available_timezones():
        close = nearest(value, sorted(available_timezones()), "").rstrip(":")
        cure = close if close.startswith("Did") else "Use an IANA name such as America/Chicago or Europe/Berlin."
        raise _wrong(f"{value!r} is not a time zone.", cure)
    return value


def _country(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise _wrong(f"{value!r} is not a country.", "Use the two capital letters of ISO 3166, such as US, GB or DE.")
    return value


def _period(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})", value.strip())
    if not match:
        raise _wrong(f"{value!r} is not a stretch of time.", "Write it as 8:30-17:00, in 24 hours; `closed` for none.")
    opens_h, opens_m, closes_h, closes_m = map(int, match.groups())
    try:
        midnight = (closes_h, closes_m) == (24, 0)
        return time(opens_h, opens_m), time() if midnight else time(closes_h, closes_m)
    except ValueError:
        raise _wrong(f"{value!r} has a time that no clock shows.", "Use 0:00 to 24:00, as in 8:30-17:00.") from None


def _periods(value: Any) -> Any:
    if value == "closed":
        return ()
    return (value,) if isinstance(value, str) else value


_PERIOD_PATTERN = r"^\d{1,2}:\d{2}\s*[-–]\s*\d{1,2}:\d{2}$"
_PERIOD_SCHEMA = {"type": "string", "pattern": _PERIOD_PATTERN}
Words = Annotated[str, StringConstraints(min_length=1)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Instruction = Annotated[str, StringConstraints(min_length=1, max_length=1200)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Minutes = Annotated[int, Field(ge=0, le=24 * 60, multiple_of=desk.business.CELL_MINUTES)]
OpenPeriod = Annotated[Period, BeforeValidator(_period)]
Periods = Annotated[
    tuple[OpenPeriod, ...],
    BeforeValidator(_periods),
    WithJsonSchema({"anyOf": [{"const": "closed"}, _PERIOD_SCHEMA, {"type": "array", "items": _PERIOD_SCHEMA}]}),
]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, use_attribute_docstrings=True)


class Week(_Block):
    """Opening hours by weekday: `closed`, one stretch such as 8:00-17:00, or a list of them. Not named means closed."""

    monday: Periods = ()
    """Hours on Mondays."""
    tuesday: Periods = ()
    """Hours on Tuesdays."""
    wednesday: Periods = ()
    """Hours on Wednesdays."""
    thursday: Periods = ()
    """Hours on Thursdays."""
    friday: Periods = ()
    """Hours on Fridays."""
    saturday: Periods = ()
    """Hours on Saturdays."""
    sunday: Periods = ()
    """Hours on Sundays."""

    def by_weekday(self) -> dict[int, tuple[Period, ...]]:
        """The hours as the desk reads them."""
        return {number: hours for number, day in enumerate(WEEKDAYS) if (hours := getattr(self, day))}


class ServiceEntry(_Block):
    """Something that can be booked."""

    id: Name
    """Lower-case name under which staff refer to the service; stored with appointments, so do not change it."""
    name: Words
    """What it is called on the phone."""
    minutes: Annotated[int, Field(ge=5, le=24 * 60, multiple_of=desk.business.CELL_MINUTES)]
    """How long it takes, in steps of 5 minutes."""
    buffer_minutes: Minutes = 0
    """Minutes kept free afterwards, in steps of 5."""
    price: str = ""
    """The price in words, as it should be said."""
    description: str = ""
    """One sentence about it, for the model."""
    also_called: tuple[Words, ...] = ()
    """Other words callers use for it."""


class StaffEntry(_Block):
    """Somebody who can be booked."""

    id: Name
    """Lower-case name stored with appointments, so do not change it."""
    name: Words
    """What they are called on the phone."""
    services: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Ids of the services they give."""
    hours: Week | None = None
    """When they work, within the business's hours; left out, all of them."""


class HolidayEntry(_Block):
    """A day that is not like its weekday."""

    day: Annotated[date, Field(strict=False)]
    """The day, as 2026-12-25."""
    name: Words
    """What it is called on the phone."""
    hours: Periods = ()
    """Hours on that day; left out, closed."""


class FaqEntry(_Block):
    """A question callers ask."""

    question: Words
    """The question, in a caller's words."""
    answer: Words
    """The answer, as it may be said."""


class Booking(_Block):
    """Rules for appointments."""

    window_days: Annotated[int, Field(ge=1, le=730)] = 60
    """How many days ahead can be booked."""
    slot_step_minutes: Annotated[int, Field(ge=5, le=240, multiple_of=desk.business.CELL_MINUTES)] = 30
    """Appointments start every so many minutes from opening."""
    min_notice_minutes: Annotated[int, Field(ge=0, le=14 * 24 * 60)] = 60
    """How long before its start an appointment can still be booked."""


class BusinessEntry(_Block):
    """The business behind the phone."""

    name: Words
    """The business's name, as it is said."""
    timezone: Annotated[str, AfterValidator(_zone)]
    """IANA name of the zone in which hours and appointments are meant."""
    phone_country: Annotated[str, AfterValidator(_country)] = "US"
    """Country of phone numbers that are said without a country code: two capital letters."""
    address: Words
    """Where it is, as it should be said."""
    phone: str = ""
    """The number people call, as it should be said."""
    hours: Week
    """When the business is open."""
    holidays: tuple[HolidayEntry, ...] = ()
    """Days that are not like their weekday."""
    services: Annotated[tuple[ServiceEntry, ...], Field(min_length=1)]
    """What can be booked."""
    staff: Annotated[tuple[StaffEntry, ...], Field(min_length=1)]
    """Who can be booked."""
    faq: tuple[FaqEntry, ...] = ()
    """Questions and answers, found by full-text search."""
    booking: Booking = Booking()
    """Rules for appointments."""


class Speech(_Block):
    """How the model decides that the caller begins and stops to speak."""

    start_sensitivity: Literal["low", "high"] = "high"
    """`high` notices speech sooner, `low` is fooled less by noise."""
    end_sensitivity: Literal["low", "high"] = "high"
    """`high` answers sooner, `low` lets callers think longer."""
    silence_ms: Annotated[int, Field(ge=100, le=5000)] | None = None
    """Silence that ends the caller's turn, in milliseconds; left out, the model's own default."""
    prefix_ms: Annotated[int, Field(ge=0, le=2000)] | None = None
    """Speech needed before it counts as a turn, in milliseconds; left out, the model's own default."""


class Grounding(_Block):
    """Where answers may come from besides the business."""

    google_search: bool = False
    """Let the model search the web with Google."""


class ToolUse(_Block):
    """A tool of this flow: its name alone, or a block with its name and timeout."""

    name: Name
    """Name of a tool in bot/tools/."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = DEFAULT_TIMEOUT_SECONDS
    """How long the model waits for its answer."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class StepEntry(_Block):
    """One stretch of the conversation."""

    instruction: Instruction
    """What the model is to do now."""
    allows: tuple[Name, ...] = ()
    """Tools that may run in this step, besides those of `anytime`."""
    on: dict[str, Name] = {}
    """The next step after a tool succeeded: `tool: step`, or `tool:outcome: step` for one outcome only."""


class Limits(_Block):
    """How far a call may go."""

    max_call_minutes: Annotated[float, Field(gt=0, le=120)] = 20
    """The longest call, in minutes; the caller hears `phrases.goodbye` at its end."""
    caller_silence_seconds: Annotated[float, Field(ge=3, le=120)] = 10
    """Silence of the caller, in seconds, after which `phrases.still_there` is asked."""
    still_there_times: Annotated[int, Field(ge=0, le=5)] = 2
    """How often it is asked in a row; after one more silence the caller hears `phrases.goodbye` and the call ends."""


class Flow(_Block):
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

    _content_hash: str = PrivateAttr("")

    @model_validator(mode="before")
    @classmethod
    def _fill_phrases(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not isinstance(value.get("phrases", {}), Mapping):
            return value
        defaults = default_phrases(str(value.get("language", "en-US")))
        return {**value, "phrases": {**defaults, **value.get("phrases", {})}}

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

    def new_steps(self) -> Steps:
        """The steps of a new call, standing at the first one."""
        steps = [Step(name, step.instruction, step.allows, step.on) for name, step in self.steps.items()]
        return Steps(self.first_step, steps, self.anytime)

    def desk_business(self) -> desk.business.Business:
        """The business as the desk knows it. Raises ValueError, in words, if its parts do not fit together."""
        entry = self.business
        return desk.business.Business(
            id=self.id,
            name=entry.name,
            timezone=entry.timezone,
            phone_country=entry.phone_country,
            address=entry.address,
            phone=entry.phone,
            hours=entry.hours.by_weekday(),
            holidays=tuple(desk.business.Holiday(day.day, day.name, day.hours) for day in entry.holidays),
            services=tuple(desk.business.Service(**dict(service)) for service in entry.services),
            staff=tuple(
                desk.business.Staff(
                    person.id, person.name, person.services, person.hours.by_weekday() if person.hours else None
                )
                for person in entry.staff
            ),
            faq=tuple(desk.business.Faq(entry.question, entry.answer) for entry in entry.faq),
            booking_window_days=entry.booking.window_days,
            slot_step_minutes=entry.booking.slot_step_minutes,
            min_notice_minutes=entry.booking.min_notice_minutes,
        )


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
