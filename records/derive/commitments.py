"""The commitment check: every spoken promise against what the tools committed, and every result against what was heard.

A promise nobody kept, and a result nobody heard of, are the two ways in which a caller and the business's books part.
Both are flagged on the call.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from records.derive.spoken_deeds import Deed, Saying, sayings, tells_a_result
from records.derive.transcript import SpokenTurn
from records.record import Flag, ToolUse

DEEDS: dict[str, Deed] = {
    "book_appointment": "booking",
    "reschedule_appointment": "change",
    "cancel_appointment": "cancellation",
    "take_message": "message",
    "save_customer": "record",
    "update_customer": "record",
    "add_note": "record",
    "transfer_to_human": "transfer",
}
"""What each of the tools does that do more than look things up."""

_KEPT_BY: dict[Deed, frozenset[Deed]] = {
    "booking": frozenset({"booking", "change"}),
    "change": frozenset({"change", "booking"}),
    "cancellation": frozenset({"cancellation"}),
    # A remark in the caller's record reaches the staff as well.
    "message": frozenset({"message", "record"}),
    "record": frozenset({"record", "booking", "message"}),
    "transfer": frozenset({"transfer"}),
}
_LATE_MS = 5_000.0
"""A tool that runs beside the talk may end this long after the words."""
_SHARED_WORDS = 3


@dataclass(frozen=True)
class _Done:
    """A committed result."""

    use: ToolUse
    deed: Deed | None

    @property
    def ms(self) -> float:
        return self.use.at_ms + self.use.duration_ms


def check(turns: Sequence[SpokenTurn], tools: Sequence[ToolUse], otherwise: Collection[Deed] = ()) -> list[Flag]:
    """The flags of one call, in the order of its turns, then of its results.

    `otherwise` was done without a tool: the caller was put through, or left a message with the carrier.
    """
    done = [_Done(use, DEEDS.get(use.name)) for use in tools if use.committed]
    bot = [each for each in turns if each.turn.speaker == "bot" and each.turn.source != "clip"]
    return [*_unkept(bot, done, tools, otherwise), *_untold(bot, done)]


def _unkept(
    bot: Sequence[SpokenTurn], done: Sequence[_Done], tools: Sequence[ToolUse], otherwise: Collection[Deed]
) -> list[Flag]:
    flags = []
    for each in bot:
        broken: dict[Deed, str] = {}
        for saying in sayings(each.turn.text):
            if not _KEPT_BY[saying.deed].isdisjoint(otherwise):
                continue
            if not _is_kept(saying, each.turn.end_ms, done, tools, bot):
                broken.setdefault(saying.deed, saying.words)
        flags += [
            Flag("promise_without_result", f"{deed}: {words}", each.turn.number) for deed, words in broken.items()
        ]
    return flags


def _is_kept(
    saying: Saying, said_ms: float, done: Sequence[_Done], tools: Sequence[ToolUse], bot: Sequence[SpokenTurn]
) -> bool:
    kept_by = _KEPT_BY[saying.deed]
    for result in done:
        in_time = not saying.done or result.ms <= said_ms + _LATE_MS
        if in_time and (result.deed is None or result.deed in kept_by):
            return True
    if saying.state:
        return any(_shows_appointments(use) and use.at_ms <= said_ms for use in tools)
    if saying.done:
        return False
    # Announced, tried, refused, and the caller was told more afterwards.
    tried = [use for use in tools if DEEDS.get(use.name) in kept_by and use.at_ms >= said_ms - _LATE_MS]
    return any(each.turn.text and each.turn.start_ms >= use.at_ms for use in tried for each in bot)


def _shows_appointments(use: ToolUse) -> bool:
    return use.status in ("ok", "repeated") and any(
        use.result.get(key) for key in ("appointments", "upcoming_appointments")
    )


def _untold(bot: Sequence[SpokenTurn], done: Sequence[_Done]) -> list[Flag]:
    flags = []
    for result in done:
        after = [each for each in bot if each.turn.end_ms >= result.ms]
        if any(_tells(each.turn.text, result) for each in after):
            continue
        what = f"{result.use.name}: {', '.join(result.use.committed)}"
        cut = next((each for each in after if _tells(f"{each.turn.text} {each.turn.unheard}", result)), None)
        if cut is not None:
            flags.append(Flag("unheard_result", what, cut.turn.number))
        else:
            flags.append(Flag("result_without_words", what))
    return flags


def _tells(text: str, result: _Done) -> bool:
    if not text.strip():
        return False
    if result.deed in (None, "record"):
        # Nobody says more than "thank you" for a name or a remark.
        return True
    # A message is passed on after the call, so the words for it lie in the future.
    said = {saying.deed for saying in sayings(text) if saying.done or saying.deed == "message"}
    if any(result.deed in _KEPT_BY[deed] for deed in said):
        return True
    shared = _content(text) & _content(str(result.use.result.get("say", "")))
    return len(shared) >= _SHARED_WORDS or (not said and tells_a_result(text))


_EMPTY = frozenset({"the", "and", "with", "for", "you", "your", "that", "this", "will", "have", "has", "been", "our"})


def _content(text: str) -> set[str]:
    words = set(re.findall(r"\w+", text.casefold()))
    return {word for word in words if (len(word) > 2 or word.isdigit()) and word not in _EMPTY}
