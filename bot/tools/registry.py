"""A typed async function with a docstring is a tool: the decorator that makes it one, its declaration, its arguments.

The first parameter of a tool is its `Work`; the others are what the model fills in. A parameter's type is plain
(``str``, ``int``, ``float``, ``bool``, ``Literal[...]``) or ``Annotated`` with a `Spoken`, which understands words as
people say them. A default makes it optional. The docstring's text is the tool's description, its ``Args:`` section
describes each parameter.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

import phonenumbers
from pydantic import TypeAdapter, ValidationError

from bot.errors import DeskRefusal, NotUnderstood
from desk.business import Business
from desk.desk import Customer, Desk

if typing.TYPE_CHECKING:
    from bot.handover import StaffLine

DEFAULT_TIMEOUT_SECONDS = 8.0

_KEYPAD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")
_WITHHELD = frozenset(
    "+" + word.translate(_KEYPAD) for word in ("ANONYMOUS", "RESTRICTED", "BLOCKED", "UNKNOWN", "UNAVAILABLE")
)
"""What arrives for a withheld number where only digits can: +266696687 spells ANONYMOUS on a keypad."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class CallFacts:
    """What the carrier says about a call. `from_number` is E.164, or a word such as ``anonymous`` if withheld."""

    call_sid: str
    from_number: str
    to_number: str

    @property
    def caller_number(self) -> str | None:
        """The caller's number in E.164; None where it is withheld or is no number but a SIP name."""
        if self.from_number in _WITHHELD:
            return None
        try:
            parsed = phonenumbers.parse(self.from_number, None)
        except phonenumbers.NumberParseException:
            return None
        possible = phonenumbers.is_possible_number(parsed)
        return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) if possible else None


@dataclass(frozen=True)
class Here:
    """Where and when words are said: what "tomorrow", "three" or "this number" mean. `now` is aware, in the zone."""

    business: Business
    now: datetime
    caller_number: str | None = None
    """The caller's number in E.164, or None if it is withheld."""


@dataclass(frozen=True)
class Spoken:
    """Makes words into a value. `understand` raises `bot.errors.DeskRefusal`; `choices` are offered to the model."""

    understand: Callable[[str, Here], Any]
    choices: Callable[[Business], Sequence[str]] | None = None


@dataclass
class CallMemory:
    """What the tools of one call have found out. `customer`: whom it is about, once known beyond doubt."""

    customer: Customer | None = None


@dataclass(frozen=True)
class Work:
    """What a tool works with.

    `key` is the idempotency key for its writes: the same for the same wish in one call. `staff_line`: whom the call can
    be handed over to, if the flow names anybody.
    """

    desk: Desk
    call: CallFacts
    here: Here
    memory: CallMemory
    key: str
    staff_line: StaffLine | None = None

    @property
    def business(self) -> Business:
        """The business behind the phone."""
        return self.here.business

    async def at_desk(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Run a (blocking) function of the desk in a thread."""
        return await asyncio.to_thread(function, *args, **kwargs)


@dataclass(frozen=True)
class Answer:
    """What a tool found or did. `say` are words the model may speak, `data` what it may need besides.

    With `hang_up` the call ends after the model's last words; with `hand_over` a person takes it, and hears these.
    """

    say: str
    data: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "ok"
    hang_up: bool = False
    hand_over: str = ""


@dataclass(frozen=True)
class ToolDeclaration:
    """A function as Gemini is told about it. `parameters` is a JSON Schema object of plain types."""

    name: str
    description: str
    parameters: dict[str, Any]
    writes: bool


class NotValid(Exception):
    """Arguments are not what they should be: what is wrong with each, and what to do, in words for the model."""

    def __init__(self, problems: Mapping[str, str], hints: Sequence[str]) -> None:
        self.reason = "; ".join(f"{name}: {words}" for name, words in problems.items())
        self.hint = " ".join(dict.fromkeys(hints))
        super().__init__(self.reason)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a tool."""

    name: str
    description: str
    required: bool
    spoken: Spoken | None
    adapter: TypeAdapter[Any]

    def schema(self, business: Business) -> dict[str, Any]:
        """Its JSON Schema."""
        if self.spoken is None:
            plain = self._plain_schema
            words = {"enum": plain.get("enum", [plain.get("const")])} if plain.keys() & {"enum", "const"} else {}
            return {"type": plain["type"], "description": self.description, **words}
        schema: dict[str, Any] = {"type": "string", "description": self.description}
        if self.spoken.choices:
            schema["enum"] = list(self.spoken.choices(business))
        return schema

    @cached_property
    def _plain_schema(self) -> dict[str, Any]:
        return self.adapter.json_schema()

    def value(self, said: Any, here: Here) -> Any:
        """The value meant by what the model passed. Raises `DeskRefusal` or pydantic's `ValidationError`."""
        if self.spoken is None:
            return self.adapter.validate_python(said.strip() if isinstance(said, str) else said)
        if isinstance(said, bool | list | dict):
            raise NotUnderstood("This must be words.")
        return self.spoken.understand(str(said).strip(), here)


@dataclass(frozen=True)
class Tool:
    """A registered tool. `undoes` are tools that may be wanted again after this one succeeded."""

    name: str
    description: str
    function: Callable[..., Awaitable[Answer]]
    parameters: tuple[Parameter, ...]
    writes: bool
    outcomes: tuple[str, ...]
    undoes: tuple[str, ...]

    def declaration(self, business: Business) -> ToolDeclaration:
        """The tool as Gemini is told about it."""
        schema: dict[str, Any] = {"type": "object", "properties": {p.name: p.schema(business) for p in self.parameters}}
        if required := [p.name for p in self.parameters if p.required]:
            schema["required"] = required
        return ToolDeclaration(self.name, self.description, schema, self.writes)

    def understand(self, args: Mapping[str, Any], here: Here) -> dict[str, Any]:
        """The values meant by the model's arguments; an empty optional one counts as left out. Raises `NotValid`."""
        problems: dict[str, str] = {}
        hints: list[str] = []
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            said = args.get(parameter.name)
            if said is None or (isinstance(said, str) and not said.strip()):
                if parameter.required:
                    problems[parameter.name] = f"missing. It should be: {parameter.description}"
                    hints.append("Ask the caller for what is missing, then call again.")
                continue
            try:
                values[parameter.name] = parameter.value(said, here)
            except DeskRefusal as error:
                problems[parameter.name] = error.reason
                hints.append(error.hint)
            except (ValidationError, OverflowError):
                problems[parameter.name] = f"not understood. It should be: {parameter.description}"
                hints.append("Correct it, asking the caller if need be, and call again.")
        known = [parameter.name for parameter in self.parameters]
        for name in args:
            if name not in known:
                problems[name[:40]] = "no such argument."
                hints.append(f"Call again with only: {', '.join(known) or 'no arguments'}.")
        if problems:
            raise NotValid(problems, hints)
        return values


TOOLS: dict[str, Tool] = {}
"""Every tool there is, by name."""

Function = TypeVar("Function", bound=Callable[..., Awaitable[Answer]])


def tool(
    *, writes: bool = False, outcomes: Sequence[str] = ("ok",), undoes: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """Make an async function a tool.

    `writes`: it changes something; it then runs to its end even if the caller interrupts, and once for the same wish.
    `outcomes`: the `Answer.outcome` values that flows can branch on. `undoes`: tools whose earlier success this one
    takes back, so that the same wish later is a new one. Raises TypeError for a function that cannot be declared.
    """

    def register(function: Function) -> Function:
        description, described = _docstring(function)
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        if missing := [p.name for p in parameters if p.name not in described]:
            raise TypeError(f"{function.__name__}: Args: does not describe {', '.join(missing)}.")
        entries = tuple(
            _parameter(p.name, hints[p.name], described[p.name], p.default is inspect.Parameter.empty)
            for p in parameters
        )
        TOOLS[function.__name__] = Tool(
            function.__name__, description, function, entries, writes, tuple(outcomes), tuple(undoes)
        )
        return function

    return register


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    text, _, section = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    if not text:
        raise TypeError(f"{function.__name__}: a tool needs a docstring; it is what the model reads.")
    entries = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", section, re.MULTILINE)
    return " ".join(text.split()), {name: " ".join(words.split()) for name, words in entries}


def _parameter(name: str, annotation: Any, description: str, required: bool) -> Parameter:
    options = [option for option in typing.get_args(annotation) if option is not type(None)]
    if type(None) in typing.get_args(annotation):
        if len(options) != 1:
            raise TypeError(f"{name}: Gemini is told plain types only, not unions.")
        annotation = options[0]
    spoken = next((mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Spoken)), None)
    adapter = TypeAdapter[Any](Any if spoken else annotation)
    if spoken is None and adapter.json_schema().get("type") not in ("string", "integer", "number", "boolean"):
        raise TypeError(
            f"{name}: a parameter is str, int, float, bool, Literal[...] of words, or Annotated with Spoken."
        )
    return Parameter(name, description, required, spoken, adapter)


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can carry it: broken Unicode, numbers that JSON has not and endless nesting are replaced."""
    match value:
        case str():
            return value[:4000].encode("utf-8", "replace").decode()
        case bool() | None:
            return value
        case int():
            return (
                value if abs(value) < 2**53 else str(value)[:40] if abs(value) < 10**40 else "a number beyond measure"
            )
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping() if depth < 8:
            return {plain(str(k)): plain(v, depth + 1) for k, v in list(value.items())[:100]}
        case list() | tuple() if depth < 8:
            return [plain(entry, depth + 1) for entry in value[:100]]
        case _:
            return "nested too deep" if depth >= 8 else str(value)[:4000]
