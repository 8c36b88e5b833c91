"""What a client's `setup` declares: the functions, their parameters and how a person would say the values.

Reads both ways of the Live API to give a schema: `parameters` (OpenAPI subset, types in capitals) and
`parametersJsonSchema` (JSON Schema, with `$ref`, `anyOf` and type lists as pydantic writes them).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.english import word_set, words

Kind = Literal["choice", "date", "datetime", "time", "phone", "name", "email", "id", "number", "boolean", "text"]
_CHANGES = word_set(
    "book create cancel reschedule update save add take delete remove move change send order reserve make register "
    "place submit schedule arrange buy pay set put"
)
_ENDINGS = word_set("end hang hangup finish terminate close")


@dataclass(frozen=True)
class Choice:
    """One value of an enumeration and the ways to say it, the plainest first."""

    value: str
    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function. `kind` is what a person would say for it."""

    name: str
    kind: Kind
    required: bool
    description: str
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Function:
    """One declared function."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]

    @property
    def verbs(self) -> list[str]:
        """The words of its name."""
        return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower())

    @property
    def writes(self) -> bool:
        """Whether it sounds like changing something that the caller should confirm first."""
        return bool(_CHANGES & set(self.verbs[:1]))

    @property
    def ends_call(self) -> bool:
        """Whether it hangs up."""
        verbs = set(self.verbs)
        return bool(verbs & _ENDINGS) and bool(verbs & {"call", "conversation", "up", "session", "hangup"})

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name."""
        return next((each for each in self.parameters if each.name == name), None)


def declared_functions(setup: dict[str, Any]) -> tuple[Function, ...]:
    """The functions of a camelCase `setup`, in the order declared; what is malformed in a schema is left out."""
    instruction = instruction_text(setup)
    declarations = [
        declaration
        for tool in setup.get("tools") or ()
        for declaration in tool.get("functionDeclarations") or ()
        if declaration.get("name")
    ]
    return tuple(read_function(declaration, instruction) for declaration in declarations)


def instruction_text(setup: dict[str, Any]) -> str:
    """The system instruction: a Content with text parts, or a plain string."""
    content = setup.get("systemInstruction") or {}
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content.get("parts") or () if part.get("text"))


def read_function(declaration: dict[str, Any], instruction: str = "") -> Function:
    """One function declaration; `instruction` helps to find how choices are said."""
    schema = declaration.get("parametersJsonSchema") or declaration.get("parameters") or {}
    required = set(schema.get("required") or ())
    parameters = tuple(
        _parameter(name, _plain(part, schema), name in required, instruction)
        for name, part in (schema.get("properties") or {}).items()
    )
    return Function(declaration["name"], declaration.get("description") or "", parameters)


def _plain(part: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """`part` without references and optional alternatives."""
    if reference := part.get("$ref"):
        target: Any = whole
        for key in str(reference).removeprefix("#/").split("/"):
            target = target.get(key, {}) if isinstance(target, dict) else {}
        return {**_plain(target, whole), **{key: part[key] for key in part if key != "$ref"}}
    for alternative in part.get("anyOf") or part.get("oneOf") or ():
        if str(alternative.get("type", "")).lower() != "null":
            return {**_plain(alternative, whole), **{k: v for k, v in part.items() if k not in ("anyOf", "oneOf")}}
    return part


def _parameter(name: str, part: dict[str, Any], required: bool, instruction: str) -> Parameter:
    description = part.get("description") or ""
    values = [str(value) for value in part.get("enum") or () if value is not None] or _listed_values(description)
    if "const" in part:
        values = [str(part["const"])]
    choices = tuple(Choice(value, _phrases(value, description, instruction)) for value in values)
    kind = "choice" if choices else _kind(name, part, description)
    return Parameter(name, kind, required, description, choices)


def _kind(name: str, part: dict[str, Any], description: str) -> Kind:
    types = part.get("type") or ""
    type_name = next((t for t in ([types] if isinstance(types, str) else types) if t != "null"), "").lower()
    form = str(part.get("format") or "").lower()
    own = set(words(re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)))
    text = description.lower()
    if type_name in ("boolean",):
        return "boolean"
    if own & {"id", "ids", "identifier", "reference"}:
        return "id"
    if type_name in ("integer", "number"):
        return "number"
    if form == "date-time" or re.search(r"yyyy-mm-dd\s?[t ]|datetime|date and time", text):
        return "datetime"
    if form == "date" or own & {"date", "day"} or "yyyy-mm-dd" in text:
        return "date"
    if form == "time" or "hh:mm" in text or own & {"time"}:
        return "time"
    if own & {"start", "when", "datetime"}:
        return "datetime"
    if own & {"phone", "telephone", "mobile", "number"}:
        return "phone"
    if own & {"email", "mail"} or form == "email":
        return "email"
    return "name" if own & {"name", "caller", "customer"} else "text"


def _listed_values(description: str) -> list[str]:
    """The values of "One of: cleaning, filling, check_up." where a schema has no enum."""
    match = re.search(r"\bone of:?\s+([^.\n]+)", description, re.IGNORECASE)
    if not match:
        return []
    values = [value.strip(" '\"`") for value in re.split(r",|\bor\b|\|", match[1])]
    return [value for value in values if re.fullmatch(r"[\w -]{2,40}", value)]


def _phrases(value: str, *texts: str) -> tuple[str, ...]:
    """How `value` is said: its own words, and what `texts` put beside it: "check_up: Check-up, also called exam"."""
    own = " ".join(words(re.sub(r"[_-]", " ", value)))
    found = [own]
    for text in texts:
        for line in re.split(r"[\n;]", text):
            match = re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])['\"`)]*\s*(?:[:=(]|–|—|-\s)\s*(.+)", line)
            if match:
                found += _also_called(match[1])
    return tuple(dict.fromkeys(phrase for phrase in found if phrase))


def _also_called(text: str) -> list[str]:
    """Names at the beginning of a line about a value: up to the first parenthesis or sentence, and after "also"."""
    head = re.split(r"[(.]|\balso\b|\d|\$", text)[0]
    also = re.search(r"\balso (?:called|known as)?:?\s*([^.);]+)", text)
    phrases = [
        " ".join(words(name)) for name in [*re.split(r",|/", head), *re.split(r",|\bor\b", also[1] if also else "")]
    ]
    return [phrase for phrase in phrases if 0 < len(phrase.split()) <= 4]


def vocabulary(functions: Sequence[Function]) -> frozenset[str]:
    """Every word of the functions' names and descriptions."""
    texts = [text for each in functions for text in (each.description, " ".join(each.verbs))]
    return frozenset(word for text in texts for word in words(text) if word.isalpha())
