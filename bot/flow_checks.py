"""What a flow file says in one place about another: step, tool, service and staff names, and its notice.

Runs on the plain values, not on the `Flow`, so that a wrong reference is told even where the file has other problems;
whatever does not have the right shape is left to the model's own complaints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bot.flow_yaml import Document, Place, Problem, nearest
from bot.phrases import missing_from_notice
from bot.tools import TOOLS


def references(document: Document) -> Iterator[Problem]:
    """Every reference of the file that leads nowhere, with line and cure."""
    for check in (_tools, _steps, _reach, _services_and_staff, _notice):
        yield from check(document)


def _block(value: Any) -> dict[str, Any]:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tool_names(document: Document) -> list[str]:
    tools = _list(document.values.get("tools"))
    return [str(tool.get("name") if isinstance(tool, dict) else tool) for tool in tools]


def _tools(document: Document) -> Iterator[Problem]:
    names = _tool_names(document)
    for position, name in enumerate(names):
        line = document.line(("tools", position))
        if name not in TOOLS:
            yield Problem(line, f"there is no tool `{name}`.", nearest(name, sorted(TOOLS), "Tools"))
        elif name in names[:position]:
            yield Problem(line, f"`{name}` is in the list twice.", "Keep one of them.")
    if "transfer_to_human" in names and not _block(document.values.get("handover")).get("number"):
        line = document.line(("tools", names.index("transfer_to_human")))
        yield Problem(line, "`transfer_to_human` has nobody to ring.", "Add `handover:` with the `number` of a person.")
    yield from _named(document, ("anytime",), names, "tool")


def _named(document: Document, place: Place, known: Sequence[str], what: str) -> Iterator[Problem]:
    """Entries of the list at `place` that are not among the `known` names."""
    value: Any = document.values
    for part in place:
        value = value[part] if isinstance(value, list) and isinstance(part, int) else _block(value).get(str(part))
    for position, name in enumerate(_list(value)):
        if isinstance(name, str) and name not in known:
            problem = f"`{name}` is not a {what} of this flow."
            yield Problem(document.line((*place, position)), problem, nearest(name, known, f"Its {what}s"))


def _steps(document: Document) -> Iterator[Problem]:
    steps, tools = _block(document.values.get("steps")), _tool_names(document)
    anytime = _list(document.values.get("anytime"))
    first = document.values.get("first_step")
    if isinstance(first, str) and steps and first not in steps:
        yield Problem(
            document.line(("first_step",)), f"there is no step `{first}`.", nearest(first, list(steps), "Steps")
        )
    for name, step in steps.items():
        yield from _named(document, ("steps", name, "allows"), tools, "tool")
        open_tools = [*_list(_block(step).get("allows")), *anytime]
        for key, target in _block(_block(step).get("on")).items():
            place = ("steps", name, "on", key)
            for problem, cure in _move(key, target, list(steps), tools, open_tools):
                yield Problem(document.line(place), f"step `{name}`, on `{key}`: {problem}", cure)


def _move(
    key: str, target: Any, steps: Sequence[str], tools: Sequence[str], open_tools: Sequence[Any]
) -> Iterator[tuple[str, str]]:
    tool, _, outcome = key.partition(":")
    if tool not in tools:
        yield f"`{tool}` is not a tool of this flow.", nearest(tool, tools, "Its tools")
    elif tool not in open_tools:
        yield f"the step does not allow `{tool}`.", f"Add `{tool}` to its `allows`, or take the move out."
    elif outcome and tool in TOOLS and outcome not in TOOLS[tool].outcomes:
        outcomes = TOOLS[tool].outcomes
        yield f"`{tool}` never ends with `{outcome}`.", nearest(outcome, outcomes, f"Outcomes of {tool}")
    if isinstance(target, str) and target not in steps:
        yield f"there is no step `{target}`.", nearest(target, steps, "Steps")


def _reach(document: Document) -> Iterator[Problem]:
    """Steps that nothing leads to and tools that no step allows: most likely a slip."""
    steps, first = _block(document.values.get("steps")), document.values.get("first_step")
    reached, waiting = set[str](), [first]
    while waiting:
        name = waiting.pop()
        if isinstance(name, str) and name in steps and name not in reached:
            reached.add(name)
            waiting += _block(_block(steps[name]).get("on")).values()
    if first in steps:
        for name in steps.keys() - reached:
            line = document.line(("steps", name), of_key=True)
            yield Problem(
                line, f"nothing leads to step `{name}`.", "Name it in the `on` of another step, or take it out."
            )
    usable = list(_list(document.values.get("anytime")))
    usable += [tool for step in steps.values() for tool in _list(_block(step).get("allows"))]
    for position, name in enumerate(_tool_names(document)):
        if steps and name in TOOLS and name not in usable:
            cure = "Add it to `anytime` or to a step's `allows`, or take it out of `tools`."
            yield Problem(document.line(("tools", position)), f"no step allows `{name}`.", cure)


def _services_and_staff(document: Document) -> Iterator[Problem]:
    business = _block(document.values.get("business"))
    services = [_block(service) for service in _list(business.get("services"))]
    staff = [_block(person) for person in _list(business.get("staff"))]
    ids = [str(service.get("id")) for service in services]
    for position in range(len(staff)):
        yield from _named(document, ("business", "staff", position, "services"), ids, "service")
    given = {service for person in staff for service in _list(person.get("services")) if isinstance(service, str)}
    for position, service in enumerate(ids):
        if staff and service not in given:
            line = document.line(("business", "services", position, "id"))
            yield Problem(line, f"nobody gives service `{service}`.", "Add it to the `services` of a member of staff.")
    holidays = [_block(day) for day in _list(business.get("holidays"))]
    lists = {"services": services, "staff": staff, "holidays": holidays}
    for which, key in (("services", "id"), ("staff", "id"), ("staff", "name"), ("holidays", "day")):
        yield from _repeated(document, which, key, [entry.get(key) for entry in lists[which]])
    yield from _same_words(document, services)


def _repeated(document: Document, which: str, key: str, values: Sequence[Any]) -> Iterator[Problem]:
    for position, value in enumerate(values):
        if isinstance(value, str) and value in values[:position]:
            line = document.line(("business", which, position, key))
            yield Problem(line, f"`{value}` is the {key} of two entries of {which}.", "Give each its own.")


def _same_words(document: Document, services: Sequence[dict[str, Any]]) -> Iterator[Problem]:
    """Two services that are called the same could not be told apart on the phone."""
    owner: dict[str, int] = {}
    for position, service in enumerate(services):
        names = [service.get("name"), *_list(service.get("also_called"))]
        for number, name in enumerate(names):
            if isinstance(name, str) and owner.setdefault(_fold(name), position) != position:
                place: Place = ("name",) if number == 0 else ("also_called", number - 1)
                line = document.line(("business", "services", position, *place))
                other = services[owner[_fold(name)]].get("id")
                yield Problem(line, f"service `{other}` is called {name!r} too.", "Give each word to one service only.")


def _fold(words: str) -> str:
    return " ".join(words.casefold().split())


def _notice(document: Document) -> Iterator[Problem]:
    notice, language = document.values.get("notice"), document.values.get("language", "en-US")
    if isinstance(notice, str) and (lack := missing_from_notice(notice, str(language))):
        cure = "Write for example: I'm an automated assistant, and this call is recorded."
        yield Problem(document.line(("notice",)), f"`notice`: {lack}.", cure)
