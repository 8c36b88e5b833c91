"""YAML with line numbers, and pydantic's complaints told as file, line, problem and cure.

The reader keeps the nodes that PyYAML composes, so that a place in the values (``("steps", "offer", "on")``) can be
turned into a line of the file. Scalars follow YAML 1.2: ``on`` is a word and 8:30 is not 510, as editors see it too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]
"""Keys and list positions that lead to a value."""


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong in a file. ``line`` counts from 1; 0 means the whole file."""

    line: int
    problem: str
    cure: str


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own name and type)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?(?:0|[1-9][0-9]{0,17})$"), list("-0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^-?[0-9]+\.[0-9]+$"), list("-0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


class Document:
    """One YAML file: its `values`, and the line of each of them.

    `problems` holds what is wrong with the YAML itself; where it cannot be read at all `values` is empty.
    """

    def __init__(self, text: bytes) -> None:
        self.problems: list[Problem] = []
        self.values: dict[str, Any] = {}
        self._root: yaml.Node | None = None
        try:
            loader = _Loader(text)
            self._root = loader.get_single_node()
            if not isinstance(self._root, yaml.MappingNode):
                self.problems.append(Problem(1, "the file holds no keys.", "Start it with id: and title:."))
                return
            self.problems += _repeated_keys(self._root)
            values = loader.construct_document(self._root)
        except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
            self.problems.append(_unreadable(error))
            return
        self.values = values

    def line(self, place: Place, *, of_key: bool = False) -> int:
        """The line of the value at `place` (or of its key); where it does not exist, of the nearest part above it."""
        node, line = self._root, 1
        for position, part in enumerate(place):
            last = position == len(place) - 1
            found = _child(node, part)
            if found is None:
                return line
            key, node = found
            line = (key if last and of_key else _visible(key, node)).start_mark.line + 1
        return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((k, v) for k, v in node.value if k.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _visible(key: yaml.Node, value: yaml.Node) -> yaml.Node:
    """A scalar is shown where it stands; a block under a key is shown at its key."""
    return value if isinstance(value, yaml.ScalarNode) and not value.style else key


def _repeated_keys(root: yaml.Node) -> Iterator[Problem]:
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if isinstance(key.value, str) and first.setdefault(key.value, line) != line:
                    yield Problem(
                        line,
                        f"`{key.value}` stands here again.",
                        f"Keep one of them; the other is on line {first[key.value]}.",
                    )
                waiting.append(value)


def _unreadable(error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    words = getattr(error, "problem", None) or str(error).splitlines()[0]
    cure = "Check indentation, colons and quotes; text with a colon in it needs quotes."
    return Problem(mark.line + 1 if mark else 0, f"not readable as YAML: {words}.", cure)


# -- pydantic's complaints ---------------------------------------------------------------------------------------------


def problems_of(error: ValidationError, model: type[BaseModel], document: Document) -> Iterator[Problem]:
    """Every complaint of pydantic about `document`, with its line."""
    for detail in error.errors():
        place = detail["loc"]
        missing = detail["type"] == "missing"
        line = document.line(place[:-1] if missing else place, of_key=detail["type"] == "extra_forbidden")
        yield Problem(line, *_words(detail, place, model))


def nearest(word: str, known: Sequence[str], otherwise: str = "Known here") -> str:
    """A cure for an unknown name: the nearest of the `known` ones, or all of them."""
    close = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"{otherwise}: {', '.join(known) or 'nothing'}."


def _words(detail: ErrorDetails, place: Place, model: type[BaseModel]) -> tuple[str, str]:
    name = ".".join(map(str, place))
    last = str(place[-1]) if place else ""
    fields = _fields_at(model, place[:-1])
    description = fields.get(last, "")
    match detail["type"]:
        case "missing":
            return f"`{name}` is missing.", f"Add `{last}:`. {description}".strip()
        case "extra_forbidden":
            return f"`{name}` is not a key.", nearest(last, list(fields))
        case "flow":  # ours: problem and cure come with it
            context = detail.get("ctx", {})
            return f"`{name}`: {context['problem']}", str(context["cure"])
        case "string_type":
            return f"`{name}` must be text, not {_shown(detail)}.", f"Put it in quotes. {description}".strip()
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"`{name}` must be a block of keys, not {_shown(detail)}.", description or "Indent keys under it."
        case "tuple_type" | "list_type":
            return (
                f"`{name}` must be a list, not {_shown(detail)}.",
                f"Write - before each entry. {description}".strip(),
            )
        case _:
            words = detail["msg"].removeprefix("Input ").removeprefix("String ")
            return f"`{name}` {words[0].lower()}{words[1:]}, not {_shown(detail)}.", description or "Correct the value."


def _shown(detail: ErrorDetails) -> str:
    value = detail.get("input")
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a block of keys"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value)[:60]


def _fields_at(model: type[BaseModel], place: Place) -> dict[str, str]:
    """Keys and their descriptions of the model at `place`; empty where there is none."""
    annotation: Any = model
    for part in place:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and part in annotation.model_fields:
            annotation = annotation.model_fields[str(part)].annotation
        else:
            annotation = next(
                (a for a in reversed(get_args(annotation)) if a is not Ellipsis and a is not type(None)), None
            )
        annotation = _without_none(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.description or "" for name, field in annotation.model_fields.items()}
    return {}


def _without_none(annotation: Any) -> Any:
    arguments = get_args(annotation)
    return next((a for a in arguments if a is not type(None)), annotation) if type(None) in arguments else annotation


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a model, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(model).json_schema()}
