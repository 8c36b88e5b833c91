"""A mind that holds a conversation out of nothing but the declared functions. It is a stand-in, not a language model.

From names, descriptions and parameters it works out what the caller may want, asks for what is missing, reads back and
waits for a yes before anything is changed, calls, and speaks the result. docs/sandbox-mind.md tells how it thinks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from typing import Any, Literal

from sandbox.declarations import declared_functions, instruction_text
from sandbox.english import MONTHS
from sandbox.grammar import Expected, Grammar
from sandbox.mind import Reply, ToolResult, words_to_say
from sandbox.talk.abilities import Abilities, takes_any_words
from sandbox.talk.dialogue import Dialogue
from sandbox.talk.listening import Heard, listen
from sandbox.talk.phrasing import PREFACE

_RETURNED = re.compile(r"(?:Called (\w+); it|(\w+) has finished meanwhile and) returned (?=\{)")
_SPEAK_UP = re.compile(r"\b(carry on|answer|say|tell|ask|acknowledge|apologi[sz]e|repeat|returned)\b", re.IGNORECASE)
_EXPECTED: dict[str, Expected] = {
    "confirm": "yes_or_no",
    "anything_else": "yes_or_no",
    "message": "yes_or_no",
    "offer": "choice",
    "listing": "choice",
    "datetime": "date",
    **{kind: kind for kind in ("name", "phone", "date", "time", "choice")},
}


class SchemaMind:
    """`sandbox.mind.Mind` without a script. `today` is asked only where the system instruction names no date."""

    def __init__(self, today: Callable[[], date] = date.today) -> None:
        self._clock = today
        self._dialogue = Dialogue()
        self._introduced = self._introducing = False
        self._waiting: list[str] = []
        self._taken: list[Reply | str] = []

    def begin(self, setup: dict[str, Any]) -> None:
        """Read functions and instruction; the conversation so far is kept."""
        dialogue = self._dialogue
        dialogue.plan.abilities = Abilities(declared_functions(setup))
        dialogue.plan.instruction = instruction_text(setup)
        dialogue.plan.today = _date_in(dialogue.plan.instruction) or self._clock()

    def grammar(self) -> Grammar:
        """What it expects to hear: the answer to its last question is the likeliest."""
        dialogue = self._dialogue
        expected = _EXPECTED.get(dialogue.plan.asking) or _EXPECTED.get(self._expected_kind(), "anything")
        return Grammar.for_functions(dialogue.plan.abilities.functions, dialogue.plan.instruction, expected)

    def on_user(self, text: str, source: Literal["audio", "text"]) -> Reply:
        """The caller's turn, or, typed in square brackets, a note of the client's."""
        text, self._taken = text.strip(), []
        if (exact := words_to_say(text)) is not None:
            return Reply(exact)
        note, words = _split(text) if source == "text" else ("", text)
        if note:
            reply = self._note(note)
            if not words:
                return self._say(reply)
        text = words
        if not text:
            silence = Reply(self._dialogue.plan.question)
            return self._say(self._dialogue.not_heard() if source == "audio" else silence)
        return self._say(self._dialogue.hear(self._listen(text)))

    def on_tool_results(self, results: list[ToolResult]) -> Reply:
        """Results of the calls of the last reply, or of one that was given up. It speaks when it has them all."""
        for each in results:
            if each.name in self._waiting:
                self._waiting.remove(each.name)
            self._taken.append(self._dialogue.consequences.result(each))
        if self._waiting:
            return Reply()
        taken, self._taken = self._taken, []
        before = " ".join(words for words in taken if isinstance(words, str) and words)
        decided = [reply for reply in taken if isinstance(reply, Reply)]
        if not decided:
            nothing_new = not before and self._dialogue.plan.goal is None
            return Reply() if nothing_new else self._say(self._dialogue.plan.advance(before))
        say = " ".join(part for part in (before, *(reply.say for reply in decided)) if part)
        return self._say(Reply(say, [call for reply in decided for call in reply.calls]))

    def interrupted(self, sent: str) -> None:
        """Who was cut off before saying what it is says so the next time."""
        if self._introducing and PREFACE not in sent:
            self._introduced = False

    def remember(self, turns: list[tuple[Literal["user", "model"], str]]) -> None:
        """Take over a conversation: what the caller said is understood anew, what functions returned is taken in."""
        for role, text in turns:
            if role == "model":
                self._introduced = self._introduced or PREFACE in text
                self._recall(text)
            elif text.strip() and not text.strip().startswith("["):
                self._waiting = []
                self._dialogue.hear(self._listen(text))

    def _say(self, reply: Reply) -> Reply:
        self._waiting = [call.name for call in reply.calls]
        self._introducing = bool(reply.say) and not self._introduced
        if not self._introducing:
            return reply
        self._introduced = True
        return reply if PREFACE in reply.say else Reply(f"{PREFACE} {reply.say}", reply.calls)

    def _listen(self, text: str) -> Heard:
        return listen(text, self._dialogue.plan.abilities.functions, self._dialogue.plan.today, self._expected_kind())

    def _expected_kind(self) -> str:
        if self._dialogue.plan.asking == "offer":
            return "time"
        asked = self._dialogue.plan.asked
        if asked is None:
            return self._dialogue.plan.asking if self._dialogue.plan.asking in ("date", "time") else ""
        return "text" if takes_any_words(asked) else asked.kind

    # -- notes of the client -------------------------------------------------------------------------------------------

    def _note(self, text: str) -> Reply:
        dialogue = self._dialogue
        if key := re.search(r"caller pressed ([0-9*#A-D]+)", text):
            return self._keys(key[1])
        if re.search(r"\bsilen(t|ce)\b", text):
            return Reply(f"Are you still there? {dialogue.plan.question}")
        for words in re.findall(r"\bcaller: ([^;\]]+)", text):
            dialogue.hear(self._listen(words))
        told = self._recall(text)
        if told:
            return told
        if not _SPEAK_UP.search(text):
            return Reply()
        return dialogue.plan.advance() if dialogue.plan.goal else Reply(dialogue.plan.question)

    def _recall(self, text: str) -> Reply | None:
        """Take in the results that a text tells; what follows from the last one."""
        reply = None
        for match in _RETURNED.finditer(text):
            try:
                response, _ = json.JSONDecoder().raw_decode(text[match.end() :])
            except ValueError:
                continue
            reply = self.on_tool_results([ToolResult("", match[1] or match[2], response)])
        return reply

    def _keys(self, keys: str) -> Reply:
        dialogue, asked = self._dialogue, self._dialogue.plan.asked
        number = int(keys) if keys.isdigit() else 0
        if asked and asked.kind in ("phone", "number", "id", "text"):
            return dialogue.hear(self._listen(keys))
        if dialogue.plan.asking in ("confirm", "message", "anything_else") and number in (1, 2):
            return dialogue.hear(self._listen("yes" if number == 1 else "no"))
        if 1 <= number <= len(dialogue.plan.offers):
            return dialogue.hear(Heard(keys, (keys,), ordinal=number))
        if asked and 1 <= number <= len(asked.choices):
            return dialogue.hear(self._listen(asked.choices[number - 1].phrases[0]))
        if asked and asked.kind in ("date", "time", "datetime"):
            return dialogue.hear(self._listen(keys))
        return Reply(f"You pressed {' '.join(keys)}. {dialogue.plan.question}")


def _split(text: str) -> tuple[str, str]:
    """The notes at both ends of a typed text, and the words between: a session joins what came while it was busy."""
    notes = []
    while match := re.match(r"\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]\s*", text):
        notes.append(match[0])
        text = text[match.end() :]
    if match := re.search(r"\s*\[(?:The|Note)\b.*\]$", text, re.DOTALL):
        notes.append(match[0])
        text = text[: match.start()]
    return " ".join(notes), text


def _date_in(instruction: str) -> date | None:
    """The day that an instruction calls today: the first date it names."""
    try:
        if written := re.search(r"\b\d{4}-\d{2}-\d{2}\b", instruction):
            return date.fromisoformat(written[0])
        pattern = rf"\b({'|'.join(MONTHS)}) (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})\b"
        if named := re.search(pattern, instruction, re.IGNORECASE):
            return date(int(named[3]), MONTHS.index(named[1].lower()) + 1, int(named[2]))
    except ValueError:
        pass
    return None
