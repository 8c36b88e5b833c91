"""What a sentence of the bot's says about deeds: done, announced, or nothing of the kind.

A claim says that something was done ("you're booked", "le he reservado"), an announcement that it will be ("I'll pass
that on", "le llamarán"). Offers, questions, conditions and denials are neither. The rules of every language
(`records.derive.languages`) are tried on every sentence, because a call may change its language in the middle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from records.derive.languages import RULES, Deed, Rules
from records.derive.languages.rules import words_of
from records.derive.spoken_times import Moment, moments

__all__ = ["Deed", "Saying", "sayings", "spoken_moments", "tells_a_result"]


@dataclass(frozen=True)
class Saying:
    """Words about a deed. `done`: it is told as done; `state`: as how things stand, which may have been so before.

    `moments` are the days and times that it is told for, one for each deed; `count` is how many deeds the words say
    there are ("both"), `further`: one more than was told before ("another one").
    """

    deed: Deed
    done: bool
    state: bool
    words: str
    moments: tuple[Moment, ...] = ()
    count: int = 1
    further: bool = False


@dataclass(frozen=True)
class _Found:
    """A deed of a clause and where its words stand."""

    deed: Deed
    done: bool
    state: bool
    start: int
    end: int


_ABBREVIATION = re.compile(r"\b(a|p)\.\s?m\.|\b(dr|dra|mr|mrs|ms|sr|sra|st|no|mme|m)\.", re.IGNORECASE)
_DAY_WORD = "(?:" + "|".join(words_of(each.times.weekdays, each.times.months) for each in RULES.values()) + ")"
_DATE_DOT = re.compile(rf"\b(\d{{1,2}})\.\s+(?=[a-zäöüß]|(?i:{_DAY_WORD})\b)")
"""The dot of "1. Dezember" ends no sentence."""
_COMMA_IN_DATE = re.compile(
    rf"\b({_DAY_WORD}|\d{{1,4}}(?:st|nd|rd|th)?),\s+"
    rf"(?=(?:at|um|à|a las?) \w|(?:on |am |the |den |dem |el |le )?(?:{_DAY_WORD}\b|\d))"
)
_CLAUSE_END = re.compile(r"[,;:—–]\s+|\s+(?:but|so|and then|pero|aber|sondern|mais|y luego|und dann|et puis)\s+|(?=¿)")
_TO_THE_CALLER = {"text", "email"}


def sayings(text: str) -> Iterator[Saying]:
    """What a turn says about deeds, in order."""
    sentences = _sentences(text)
    for number, sentence in enumerate(sentences):
        following = sentences[number + 1] if number + 1 < len(sentences) else ""
        for rules in RULES.values():
            is_offer = (
                sentence.endswith("?")
                or bool(rules.unless.search(sentence))
                or (following.endswith("?") and bool(rules.asks_again.search(following)))
            )
            for clause in _clauses(sentence):
                yield from _of_clause(clause, rules, is_offer=is_offer)


def _of_clause(clause: str, rules: Rules, *, is_offer: bool) -> Iterator[Saying]:
    sure = rules.sure.sub("", clause).strip()
    if sure.endswith("?") or sure.startswith("¿"):
        return
    found = _found(sure, rules, is_offer=is_offer)
    count = max((number for number, words in rules.several.items() if words.search(sure)), default=1)
    for each in found:
        behind = [other.start for other in found if other.start > each.start]
        groups = moments(sure[each.start : min(behind, default=len(sure))], rules.times)
        if not groups and len(found) == 1:
            groups = moments(sure[: each.start], rules.times)
        # What is moved is moved from one day to another: both are named.
        told = groups if each.deed == "change" else groups[:1]
        yield Saying(
            deed=each.deed,
            done=each.done,
            state=each.state,
            words=clause,
            moments=tuple(moment for group in told for moment in group),
            count=count,
            further=bool(rules.further.search(sure)),
        )


def _found(clause: str, rules: Rules, *, is_offer: bool) -> list[_Found]:
    found: dict[Deed, _Found] = {}
    for table, done, state in ((rules.done, True, False), (rules.state, True, True), (rules.announced, False, False)):
        for deed, pattern in table.items():
            match = pattern.search(clause)
            if match is None or (not done and is_offer) or rules.not_so.search(clause[: match.end()]):
                continue
            found.setdefault(deed, _Found(deed, done, state, *match.span()))
    if _TO_THE_CALLER & found.keys():
        # "I've sent the directions to your email" is no message to the staff.
        return [each for deed, each in found.items() if deed not in ("message", "record")]
    return list(found.values())


def _sentences(text: str) -> list[str]:
    plain = _DATE_DOT.sub(r"\1 ", text.replace("\u00a0", " ").replace("\u202f", " "))
    plain = plain.casefold().replace("’", "'").replace("´", "'")
    plain = _ABBREVIATION.sub(lambda match: f"{match[1]}m" if match[1] else match[2], plain)
    plain = _COMMA_IN_DATE.sub(r"\1 ", plain)
    return [sentence.strip() for sentence in re.split(r"(?<=[.!?…])\s+", plain) if sentence.strip()]


def _clauses(sentence: str) -> list[str]:
    """Parts that stand for themselves: what is asked at the end does not make a question of what came before."""
    asked = sentence.endswith("?")
    parts = [part.strip(" .!¡…") for part in _CLAUSE_END.split(sentence)]
    parts = [part for part in parts if part.strip("? ")]
    if asked and len(parts) == 1 and not parts[0].endswith("?"):
        parts[0] += "?"
    return parts


def spoken_moments(text: str) -> list[list[Moment]]:
    """The days and times that a turn names, in whatever language."""
    return [
        group
        for sentence in _sentences(text)
        for clause in _clauses(sentence)
        for rules in RULES.values()
        for group in moments(clause, rules.times)
    ]


def tells_a_result(text: str) -> bool:
    """Whether words may tell the caller that something was done, however they put it."""
    return any(
        rules.generic.search(clause) and not clause.endswith("?") and not rules.not_so.search(clause)
        for sentence in _sentences(text)
        for clause in _clauses(sentence)
        for rules in RULES.values()
    )
