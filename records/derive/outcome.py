"""How a call ended and what came of it, by rules: disposition, changes, steps, a summary and a few fields.

A text model may write a better summary later (`Outcome.summarised_by` tells); these rules need none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from bot.events import (
    CallRefused,
    EndReason,
    HandedOver,
    KeyPressed,
    MessageRecorded,
    StepEntered,
    ToolCalled,
    ToolCancelled,
    ToolReturned,
    WriteFound,
)
from records.derive.spoken_deeds import Deed
from records.derive.timeline import Timeline
from records.derive.transcript import SpokenTurn
from records.record import Change, Disposition, KeyPress, Outcome, ToolUse

_KINDS = {
    "book_appointment": "booking",
    "reschedule_appointment": "reschedule",
    "cancel_appointment": "cancellation",
    "take_message": "message",
    "save_customer": "customer",
    "update_customer": "customer",
    "add_note": "note",
}
_TOOL_OF = {
    "book": ("book_appointment", "An appointment was booked"),
    "reschedule": ("reschedule_appointment", "An appointment was moved"),
    "cancel": ("cancel_appointment", "An appointment was cancelled"),
    "take_message": ("take_message", "A message was taken"),
    "create_customer": ("save_customer", "The caller was saved as a customer"),
    "update_customer": ("update_customer", "The caller's record was corrected"),
    "add_note": ("add_note", "A note was saved"),
}
"""Which tool gives the desk a command, and what it does."""
_WRITES_TO = {"booking": "appointment", "reschedule": "appointment", "cancellation": "appointment"}
_DISPOSITIONS: dict[str, Disposition] = {
    "booking": "booked",
    "reschedule": "rescheduled",
    "cancellation": "cancelled",
    "message": "message_taken",
}
_FAILURES = {"failed", "model_lost", "model_silent", "stream_lost", "shutdown", "interrupted"}
_REFUSALS = {"refused_busy", "refused_draining", "refused_model"}
_SETTLES = ("answer_question", "list_appointments")
_FIELDS = {"name": "name", "service": "service", "with": "with", "when": "when", "start": "start"}


def tool_uses(timeline: Timeline) -> tuple[ToolUse, ...]:
    """Every function call with its result, and every write that only the business's books told of.

    ``status``: as in `ToolReturned`; or ``withdrawn``, ``unanswered``, or ``found`` in the books at recovery.
    """
    uses = _Uses()
    for moment in timeline.of(ToolCalled, ToolReturned, ToolCancelled, WriteFound):
        match moment.event:
            case ToolCalled() as called:
                uses.called(moment.ms, called)
            case ToolReturned() as returned:
                uses.returned(moment.ms, returned)
            case ToolCancelled() as cancelled:
                uses.withdrawn(cancelled)
            case WriteFound() as write:
                uses.found(moment.ms, write)
    return tuple(uses.all)


class _Uses:
    """The function calls of a call, as its events tell of them."""

    def __init__(self) -> None:
        self.all: list[ToolUse] = []
        self._waiting: dict[str, list[int]] = {}
        self._late: dict[str, int] = {}
        self._keys: set[str] = set()

    def called(self, ms: float, event: ToolCalled) -> None:
        self._waiting.setdefault(event.call_id, []).append(len(self.all))
        self._add(event.call_id, event.name, event.arguments, event.step, ms)

    def returned(self, ms: float, event: ToolReturned) -> None:
        """A result; one may follow after the model was told that it takes too long."""
        if places := self._waiting.get(event.call_id):
            place = places.pop(0)
        elif event.call_id in self._late:
            place = self._late.pop(event.call_id)
        else:
            return
        if event.status == "timeout":
            self._late[event.call_id] = place
        self.all[place] = replace(
            self.all[place],
            status=event.status,
            result=event.result,
            duration_ms=round(event.duration_ms, 3),
            committed=self._committed(event),
        )

    def withdrawn(self, event: ToolCancelled) -> None:
        if places := self._waiting.get(event.call_id):
            self.all[places[0]] = replace(self.all[places[0]], status="withdrawn")

    def found(self, ms: float, event: WriteFound) -> None:
        """A write whose result is not on the tape: the call for it may be, without an answer."""
        name, result = _as_tool(event)
        waiting = (place for places in self._waiting.values() for place in places if self.all[place].name == name)
        place = min(waiting, default=None)
        if place is None:
            place = self._add(event.key, name, {}, "", ms)
        else:
            self._waiting[self.all[place].call_id].remove(place)
        self.all[place] = replace(
            self.all[place], status="found", result=result, committed=_written(name, result, self.all[place].call_id)
        )

    def _add(self, call_id: str, name: str, arguments: Mapping[str, Any], step: str, ms: float) -> int:
        self.all.append(
            ToolUse(
                number=len(self.all) + 1,
                call_id=call_id,
                name=name,
                arguments=arguments,
                status="unanswered",
                result={},
                step=step,
                at_ms=round(ms, 1),
                duration_ms=0.0,
            )
        )
        return len(self.all) - 1

    def _committed(self, event: ToolReturned) -> tuple[str, ...]:
        """What a result wrote. Of a wish that was asked again only the first result tells, or the first that came."""
        is_first = event.status == "ok" or (event.status == "repeated" and event.key and event.key not in self._keys)
        if not is_first or event.name not in _KINDS:
            return ()
        self._keys.add(event.key)
        return _written(event.name, event.result, event.call_id)


def _written(name: str, result: Mapping[str, Any], call_id: str) -> tuple[str, ...]:
    kind = _KINDS[name]
    return (f"{_WRITES_TO.get(kind, kind)}:{result.get('number', call_id)}",)


def _as_tool(event: WriteFound) -> tuple[str, dict[str, Any]]:
    """The tool that writes so, and the desk's result as the tool would have told it."""
    name, done = _TOOL_OF[event.command]
    result: dict[str, Any] = {"say": f"{done}; this was found in the books after the server had died."}
    if event.command in ("book", "reschedule", "cancel"):
        start = datetime.fromisoformat(str(event.result["start"]))
        when = f"{start:%Y-%m-%d %H:%M}"
        result = {
            "say": f"{done} for {when}; this was found in the books after the server had died.",
            "number": event.result["id"],
            "start": f"{start:%Y-%m-%dT%H:%M}",
        }
    return name, result


def key_presses(timeline: Timeline) -> tuple[KeyPress, ...]:
    """The keys that the caller pressed."""
    return tuple(
        KeyPress(round(moment.ms, 1), moment.event.digit)
        for moment in timeline.of(KeyPressed)
        if isinstance(moment.event, KeyPressed)
    )


def conclude(
    timeline: Timeline, turns: Sequence[SpokenTurn], tools: Sequence[ToolUse], keys: Sequence[KeyPress]
) -> Outcome:
    """The outcome of a call."""
    reason = _end_reason(timeline)
    changes = (*_changes(tools), *_recorded(timeline))
    disposition = _disposition(reason, changes, turns, tools, keys)
    return Outcome(
        disposition=disposition,
        end_reason=reason,
        changes=changes,
        steps=tuple(m.event.step for m in timeline.of(StepEntered) if isinstance(m.event, StepEntered)),
        summary=_summary(disposition, reason, changes, turns),
        fields=_fields(tools),
    )


def done_otherwise(timeline: Timeline) -> set[Deed]:
    """What was done for the caller without a tool that writes."""
    deeds: set[Deed] = {"message"} if _recorded(timeline) else set()
    if any(isinstance(m.event, HandedOver) and m.event.number for m in timeline.of(HandedOver)):
        deeds.add("transfer")
    return deeds


def _changes(tools: Sequence[ToolUse]) -> list[Change]:
    return [
        Change(_KINDS[use.name], committed.partition(":")[2], use.call_id, str(use.result.get("say", "")))
        for use in tools
        for committed in use.committed
    ]


def _recorded(timeline: Timeline) -> list[Change]:
    """Messages that the caller spoke to the carrier's recorder."""
    return [
        Change("message", moment.event.recording_sid, "", "The caller's spoken message was recorded.")
        for moment in timeline.of(MessageRecorded)
        if isinstance(moment.event, MessageRecorded)
    ]


def _end_reason(timeline: Timeline) -> EndReason | Literal["interrupted"]:
    ended = timeline.ended()
    if ended is not None:
        return ended.reason
    # A server that died had perhaps refused the call already.
    for moment in timeline.of(CallRefused):
        if isinstance(moment.event, CallRefused):
            return moment.event.reason
    return "interrupted"


def _disposition(
    reason: str,
    changes: Sequence[Change],
    turns: Sequence[SpokenTurn],
    tools: Sequence[ToolUse],
    keys: Sequence[KeyPress],
) -> Disposition:
    if reason in _REFUSALS:
        return "refused"
    if reason == "transferred":
        return "transferred"
    if (standing := _standing(changes)) is not None:
        return standing
    if reason in _FAILURES:
        return "failed"
    caller = [each.turn for each in turns if each.turn.speaker == "caller"]
    if not any(turn.text or turn.gap for turn in caller) and not keys:
        return "no_conversation"
    if reason == "nobody_there":
        return "abandoned"
    settled = any(use.name in _SETTLES and use.status == "ok" for use in tools)
    if reason == "caller_hung_up" and not settled and _left_open(turns):
        return "abandoned"
    return "answered"


def _standing(changes: Sequence[Change]) -> Disposition | None:
    """What stands at the end of the call: an appointment that was booked and cancelled again is neither."""
    last: dict[str, list[str]] = {}
    for change in changes:
        key = f"{_WRITES_TO.get(change.kind, change.kind)}:{change.id}"
        last.setdefault(key, []).append(change.kind)
    standing: list[str] = []
    for kinds in last.values():
        if kinds[0] == "booking" and kinds[-1] == "cancellation":
            continue
        standing.append("booking" if kinds[0] == "booking" else kinds[-1])
    for kind, disposition in _DISPOSITIONS.items():
        if kind in standing:
            return disposition
    return None


def _left_open(turns: Sequence[SpokenTurn]) -> bool:
    """Whether the last word heard was the caller's, or a question of the bot's."""
    said = [each.turn for each in turns if each.turn.text or each.turn.gap]
    if not said:
        return True
    last = said[-1]
    return last.speaker == "caller" or last.interrupted or last.text.rstrip().endswith("?")


def _fields(tools: Sequence[ToolUse]) -> Mapping[str, Any]:
    """What the tools took for true, the latest first: the caller's name, the service, the time."""
    fields: dict[str, Any] = {}
    for use in tools:
        if use.status in ("ok", "repeated", "found"):
            given = {key: use.arguments[key] for key in ("name", "phone", "email", "service") if use.arguments.get(key)}
            fields |= given if use.committed else {k: v for k, v in given.items() if k not in fields}
        if use.committed:
            fields |= {field: use.result[key] for key, field in _FIELDS.items() if use.result.get(key)}
    return fields


_SAID = {
    "booked": "An appointment was booked",
    "rescheduled": "An appointment was moved",
    "cancelled": "An appointment was cancelled",
    "message_taken": "A message was taken",
    "transferred": "The caller was handed to a person",
    "answered": "Questions were answered",
    "abandoned": "The caller hung up before anything was settled",
    "no_conversation": "The caller did not speak",
    "refused": "The call was not taken",
    "failed": "The call ended by a failure",
}
_LONGEST_WORDS = 160


def _summary(disposition: Disposition, reason: str, changes: Sequence[Change], turns: Sequence[SpokenTurn]) -> str:
    parts = [change.text.rstrip(".") for change in changes if change.text] or [_SAID[disposition]]
    asked = next((each.turn.text for each in turns if each.turn.speaker == "caller" and each.turn.text), "")
    if asked:
        parts.append(f'The caller began with: "{asked[:_LONGEST_WORDS]}"')
    parts.append(f"The call ended: {reason.replace('_', ' ')}")
    return ". ".join(parts) + "."
