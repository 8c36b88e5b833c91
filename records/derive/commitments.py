"""The commitment check: every spoken promise against what the tools committed, and every result against what was heard.

A promise nobody kept, a result nobody heard of, and a day or time told otherwise than it was committed are the ways in
which a caller and the business's books part. All are flagged on the call.

Promises and results are matched one to one. The same promise told again is still one: of the same kind, and naming no
other day or time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from records.derive.languages import rules_for
from records.derive.spoken_deeds import Deed, Saying, sayings, spoken_moments, tells_a_result
from records.derive.spoken_times import Moment, any_agrees
from records.derive.transcript import SpokenTurn
from records.record import CommitmentCheck, Flag, ToolUse

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
"""What each of the tools does that do more than look things up. No tool sends texts or e-mails."""

_KEPT_BY: dict[Deed, frozenset[Deed]] = {
    "booking": frozenset({"booking", "change"}),
    "change": frozenset({"change", "booking"}),
    "cancellation": frozenset({"cancellation"}),
    # A remark in the caller's record reaches the staff as well.
    "message": frozenset({"message", "record"}),
    "record": frozenset({"record", "booking", "message"}),
    "transfer": frozenset({"transfer"}),
    "text": frozenset({"text"}),
    "email": frozenset({"email"}),
    "anything": frozenset({"booking", "change", "cancellation", "message", "record", "transfer", "text", "email"}),
}
_SENT_BY_OTHERS: dict[Deed, re.Pattern[str]] = {
    "text": re.compile(r"\b(?:text messages?|by text|sms|textnachricht|kurznachricht|mensaje de texto|texto)\b", re.I),
    "email": re.compile(r"\b(?:e-?mails?|correo electrónico|courriel)\b", re.I),
}
_IN_THE_CALENDAR = frozenset({"booking", "change", "cancellation"})
_LATE_MS = 5_000.0
"""A tool that runs beside the talk may end this long after the words."""
_SHARED_WORDS = 3


def check(
    turns: Sequence[SpokenTurn],
    tools: Sequence[ToolUse],
    otherwise: Collection[Deed] = (),
    *,
    today: date | None = None,
    sends: Collection[Deed] = (),
) -> list[Flag]:
    """The flags of one call, in the order of its turns, then of its results.

    `otherwise` was done without a tool: the caller was put through, or left a message with the carrier. `today` is the
    day of the call at the business, for words like "tomorrow". `sends`: what the business sends by itself (`sent_by`).
    """
    call = _Call(turns, tools, otherwise, today, sends)
    return [*call.unkept(), *(call.untold() if checked(turns) == "made" else ())]


def sent_by(flow: str) -> set[Deed]:
    """The messages to callers that a flow's own words speak of: the bot may announce what others send."""
    return {deed for deed, words in _SENT_BY_OTHERS.items() if words.search(flow)}


def checked(turns: Sequence[SpokenTurn]) -> CommitmentCheck:
    """How far the check can be made: only in languages that have rules.

    Where some turns are in another language, promises in the others are checked, and results are not: the words for
    them may be in that language.
    """
    known = [rules_for(each.turn.language) is not None for each in _of_the_bot(turns) if each.turn.language]
    if all(known):
        return "made"
    return "partly" if any(known) else "not_made"


def _of_the_bot(turns: Sequence[SpokenTurn]) -> list[SpokenTurn]:
    return [each for each in turns if each.turn.speaker == "bot" and each.turn.source != "clip"]


@dataclass(eq=False)
class _Done:
    """A committed result. `start` is the local moment of its appointment; None where it has none."""

    use: ToolUse
    deed: Deed | None
    start: datetime | None
    told_ms: float | None = None
    """When it was first told as done."""
    contradicted: bool = False

    @property
    def ms(self) -> float:
        return self.use.at_ms + self.use.duration_ms

    @property
    def what(self) -> str:
        return f"{self.use.name}: {', '.join(self.use.committed)}"


@dataclass(frozen=True)
class _Claim:
    """A saying and the turn it was heard in."""

    saying: Saying
    spoken: SpokenTurn

    @property
    def start_ms(self) -> float:
        return self.spoken.turn.start_ms

    @property
    def said_ms(self) -> float:
        return self.spoken.turn.end_ms


@dataclass
class _Call:
    """What was said and done in one call."""

    turns: Sequence[SpokenTurn]
    tools: Sequence[ToolUse]
    otherwise: Collection[Deed]
    today: date | None
    sends: Collection[Deed]
    done: list[_Done] = field(init=False)
    bot: list[SpokenTurn] = field(init=False)
    claims: list[_Claim] = field(init=False)

    def __post_init__(self) -> None:
        self.done = [_Done(use, DEEDS.get(use.name), _start(use.result)) for use in self.tools if use.committed]
        self.bot = _of_the_bot(self.turns)
        self.claims = [_Claim(saying, each) for each in self.bot for saying in sayings(each.turn.text)]

    # -- promises -----------------------------------------------------------------------------------------------------

    def unkept(self) -> list[Flag]:
        """The promises that no result keeps, one of a kind for each turn."""
        flags: dict[tuple[int, str, Deed], Flag] = {}
        earlier: set[Deed] = set()
        for claim in self.claims:
            saying = claim.saying
            is_theirs = saying.deed in self.sends and not saying.done
            if _KEPT_BY[saying.deed].isdisjoint(self.otherwise) and not is_theirs:
                flag = self._of_what_is(claim, earlier) if saying.done else self._of_what_will_be(claim)
                if flag:
                    flags.setdefault((claim.spoken.turn.number, flag.kind, saying.deed), flag)
            if saying.done:
                earlier.add(saying.deed)
        return list(flags.values())

    def _of_what_is(self, claim: _Claim, earlier: Collection[Deed]) -> Flag | None:
        """Something is told as done, or as how things stand."""
        saying = claim.saying
        results = [each for each in self._keeping(saying) if each.ms <= claim.said_ms + _LATE_MS]
        known = self._known_before(claim) if saying.state else []
        for told in _one_by_one(saying):
            fitting = [each for each in results if self._fits(told, each.start)]
            if fitting:
                first = next((each for each in fitting if each.told_ms is None), fitting[0])
                first.told_ms = claim.start_ms if first.told_ms is None else first.told_ms
            elif not any(self._fits(told, start) for start in known):
                return self._broken(claim, results)
        wanted = max(saying.count, 2 if saying.further and saying.deed in earlier else 1)
        if saying.deed in _IN_THE_CALENDAR and len(results) + len(known) < wanted:
            return _without_result(claim)
        return None

    def _of_what_will_be(self, claim: _Claim) -> Flag | None:
        """Something is announced: it may be done at any time, and may fail if the caller is told."""
        saying, said_ms = claim.saying, claim.said_ms
        results = self._keeping(saying)
        fitting = [each for each in results if self._fits(saying.moments, each.start)]
        if any(saying.moments or not _was_told_before(each, claim) for each in fitting):
            return None
        if self._was_tried_and_told(saying, said_ms):
            return None
        later = [each for each in results if each.ms >= said_ms - _LATE_MS]
        if any(self._caller_spoke(said_ms - _LATE_MS, each.use.at_ms) for each in later):
            # They wanted something else.
            return None
        return self._broken(claim, later)

    def _keeping(self, saying: Saying) -> list[_Done]:
        kept_by = _KEPT_BY[saying.deed]
        return [each for each in self.done if each.deed is None or each.deed in kept_by]

    def _fits(self, told: Sequence[Moment], start: datetime | None) -> bool:
        return start is None or any_agrees([told], start, self.today)

    def _broken(self, claim: _Claim, results: Sequence[_Done]) -> Flag:
        """A promise without a result; with another one where that is what the promise was about."""
        meant = [each for each in results if not self._is_told_rightly(each)]
        if not claim.saying.moments or not meant:
            return _without_result(claim)
        for each in meant:
            each.contradicted = True
        instead = "; ".join(f"{each.what}, {each.start:%Y-%m-%d %H:%M}" for each in meant if each.start)
        detail = f"{claim.saying.deed}: {claim.saying.words}; committed: {instead}"
        return Flag("promise_contradicts_result", detail, claim.spoken.turn.number)

    def _is_told_rightly(self, result: _Done) -> bool:
        """Whether some words name the day or time of a result as it is."""
        return any(
            claim.saying.done and claim.saying.moments and self._fits(claim.saying.moments, result.start)
            for claim in self.claims
            if result in self._keeping(claim.saying)
        )

    def _known_before(self, claim: _Claim) -> list[datetime | None]:
        """The appointments that were looked up before something was said."""
        if claim.saying.deed not in ("booking", "change"):
            return []
        looked_up = [use for use in self.tools if use.status in ("ok", "repeated") and use.at_ms <= claim.said_ms]
        return [start for use in looked_up for start in _listed(use)]

    def _was_tried_and_told(self, saying: Saying, said_ms: float) -> bool:
        """Whether what was announced was tried and refused, and the caller was told more afterwards."""
        tried = [
            use
            for use in self.tools
            if DEEDS.get(use.name) in _KEPT_BY[saying.deed] and use.at_ms >= said_ms - _LATE_MS and not use.committed
        ]
        return any(each.turn.text and each.turn.start_ms >= use.at_ms for use in tried for each in self.bot)

    def _caller_spoke(self, from_ms: float, to_ms: float) -> bool:
        return any(
            each.turn.speaker == "caller" and from_ms <= each.turn.start_ms and each.turn.start_ms <= to_ms
            for each in self.turns
        )

    # -- results ------------------------------------------------------------------------------------------------------

    def untold(self) -> list[Flag]:
        """The results that the caller did not hear of. Call it after `unkept`."""
        flags = []
        free = {id(claim): _how_many(claim.saying) for claim in self.claims}
        for result in self.done:
            if result.contradicted or self._is_told(result, free):
                continue
            after = [each for each in self.bot if each.turn.end_ms >= result.ms]
            cut = next((each for each in after if self._would_tell(each, result)), None)
            if cut is not None:
                flags.append(Flag("unheard_result", result.what, cut.turn.number))
            else:
                flags.append(Flag("result_without_words", result.what))
        return flags

    def _is_told(self, result: _Done, free: dict[int, float]) -> bool:
        """Whether the caller heard of a result; the words that told it are used up, where they name one day or time."""
        after = [each for each in self.bot if each.turn.end_ms >= result.ms and each.turn.text.strip()]
        if not after:
            return False
        if result.deed in (None, "record"):
            # Nobody says more than "thank you" for a name or a remark.
            return True
        for claim in self.claims:
            if claim.said_ms < result.ms or not free[id(claim)] or self._is_of_another(claim, result):
                continue
            if self._tells(claim.saying, result):
                free[id(claim)] -= 1
                return True
        return any(self._tells_in_other_words(each.turn.text, result) for each in after)

    def _is_of_another(self, claim: _Claim, result: _Done) -> bool:
        """Whether words that name no moment stand beside one that is another result's, and not this one's."""
        if claim.saying.moments or result.start is None:
            return False
        beside = spoken_moments(claim.spoken.turn.text)
        starts = [each.start for each in self.done if each.start and each is not result]
        return not any_agrees(beside, result.start, self.today) and any(
            any_agrees(beside, start, self.today) for start in starts
        )

    def _would_tell(self, each: SpokenTurn, result: _Done) -> bool:
        if not each.turn.unheard:
            return False
        whole = f"{each.turn.text} {each.turn.unheard}"
        told = any(self._tells(saying, result) for saying in sayings(whole))
        return told or result.deed in (None, "record") or self._tells_in_other_words(whole, result)

    def _tells(self, saying: Saying, result: _Done) -> bool:
        # A message is passed on after the call, so the words for it lie in the future.
        is_told = saying.done or saying.deed == "message"
        return is_told and result.deed in _KEPT_BY[saying.deed] and self._fits(saying.moments, result.start)

    def _tells_in_other_words(self, text: str, result: _Done) -> bool:
        if result.start is not None and not any_agrees(spoken_moments(text), result.start, self.today):
            return False
        shared = _content(text) & _content(str(result.use.result.get("say", "")))
        if len(shared) >= _SHARED_WORDS:
            return True
        said = any(saying.done or saying.deed == "message" for saying in sayings(text))
        return not said and tells_a_result(text)


def _one_by_one(saying: Saying) -> Iterator[Sequence[Moment]]:
    """What each deed of a saying is told for; of one that was moved the old day may be named beside the new."""
    if saying.deed == "change" or not saying.moments:
        yield saying.moments
    else:
        for moment in saying.moments:
            yield (moment,)


def _how_many(saying: Saying) -> float:
    """How many results the words may tell: as many as they name days and times for, any number where they name none."""
    if saying.deed in ("change", "anything") or not saying.moments:
        return float("inf")
    return max(saying.count, len(saying.moments))


def _was_told_before(result: _Done, claim: _Claim) -> bool:
    """Whether a result had been told as done when something was announced, so that it must be something else."""
    if claim.saying.deed not in _IN_THE_CALENDAR:
        return False
    return result.told_ms is not None and result.told_ms < claim.start_ms


def _without_result(claim: _Claim) -> Flag:
    return Flag("promise_without_result", f"{claim.saying.deed}: {claim.saying.words}", claim.spoken.turn.number)


def _listed(use: ToolUse) -> list[datetime | None]:
    """The appointments that a tool looked up."""
    found: list[datetime | None] = []
    for key in ("appointments", "upcoming_appointments"):
        listed = use.result.get(key)
        found += [_start(entry) for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return found


def _start(result: Mapping[str, object]) -> datetime | None:
    """The ``start`` of a result, in the business's local time as the tools tell it."""
    try:
        return datetime.fromisoformat(str(result.get("start"))).replace(tzinfo=None)
    except ValueError:
        return None


_EMPTY = frozenset({"the", "and", "with", "for", "you", "your", "that", "this", "will", "have", "has", "been", "our"})


def _content(text: str) -> set[str]:
    words = set(re.findall(r"\w+", text.casefold()))
    return {word for word in words if (len(word) > 2 or word.isdigit()) and word not in _EMPTY}
