"""What a caller's words mean to somebody who knows the declared functions: values, yes and no, goodbyes, questions.

Pure. The words come from a recogniser that errs, in lower case and without punctuation, or are typed.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

from sandbox.declarations import Choice, Function, Parameter
from sandbox.english import (
    FIRST_NAMES,
    LAST_NAMES,
    MONTHS,
    NO,
    WEEKDAYS,
    YES,
    Found,
    dates,
    names,
    number_at,
    ordinal_at,
    phones,
    times,
    word_set,
    words,
)

_HEDGES = word_set("um uh well so oh okay ok hi hello hey there good morning afternoon evening and but yes yeah please")
_TURNS = word_set("actually sorry wait i'm hold on")
_NAME_STOPS = (
    YES | NO | word_set("morning afternoon evening emergency urgent free later soon book make o'clock half past")
)
_GENERIC = word_set(
    "visit appointment booking service services day time half new first free one the and for with other any regular "
    "annual order item check your my"
)
_ANY = (
    r"\b(as soon as possible|soonest|earliest|first available|next available|any ?(time|day|thing|one)?"
    r"|whenever|whatever|either|doesn't matter|don't (mind|care|know)|up to you|you choose)\b"
)
_BEFORE_ONE = word_set("the that this last earliest any other which either next")
_REQUESTS = word_set("want would like need can could may book cancel move reschedule change leave forget when how why")
_BYES = (
    r"\b(good ?bye|bye|that's all|that is all|that will be all|that's it|that is it|nothing else|nothing more"
    r"|that's everything|i'm done|i am done|have a (nice|good|great) (day|evening|one)|hang up)\b"
)
_YES = (
    r"\b(go ahead|please do|sounds good|that works|works for me|that's (right|correct|fine|good|perfect|ok|okay)"
    r"|i'll take it|book it|do it)\b"
)
_NO_THAT_IS_RIGHT = r"^no that's (right|correct|fine|perfect)"
_QUESTION = (
    r"^(what|what's|when|where|where's|who|who's|which|why|how|do you|does|did|are you|are there|is there|is it|is the"
    r"|is my|can you tell|could you tell|can i ask|may i ask|tell me|i have a question|i've got a question|have you"
    r"|what about|do i|should i|must i)\b"
)
_AGAIN = (
    r"^(what|pardon|sorry|excuse me|(can|could) you (please )?repeat( that)?|please repeat that|say that again"
    r"|what did you say|come again)$"
)


@dataclass(frozen=True)
class Day:
    """A day that was named, and in which words: "next tuesday" means different days to different people."""

    value: date
    said: str

    @property
    def ambiguous(self) -> bool:
        """Whether the words have two readings."""
        return bool(re.match(r"next (\w+days?|week)$", self.said))


@dataclass(frozen=True)
class Heard:
    """One utterance, understood. `choices` has, by name of a parameter, the values that fit best (several: a tie)."""

    text: str
    words: tuple[str, ...] = ()
    days: tuple[Day, ...] = ()
    times: tuple[time, ...] = ()
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    ordinal: int = 0
    choices: dict[str, tuple[Choice, ...]] = field(default_factory=dict)

    def says(self, pattern: str) -> bool:
        """Whether `pattern` occurs in the words."""
        return bool(re.search(pattern, self.text))

    @property
    def core(self) -> str:
        """The words without what people begin a sentence with."""
        said = list(self.words)
        while said and said[0] in _HEDGES:
            said.pop(0)
        return " ".join(said)

    @property
    def no(self) -> bool:
        """A refusal: "no", "not really", "that's wrong"."""
        if self.says(_NO_THAT_IS_RIGHT):
            return False
        if self.says(r"\b(that's|is) (wrong|not)\b|\bdon't\b"):
            return True
        opening = (word for word in self.words if word in YES or word not in _HEDGES | _TURNS)
        return next(opening, "") in ("no", "nope", "nah", "not")

    @property
    def yes(self) -> bool:
        """A consent."""
        if self.no or ("no" in self.words and not self.says(_NO_THAT_IS_RIGHT)):
            return False
        return bool(YES & set(self.words)) or self.says(_YES) or self.text in ("please", "yes please")

    @property
    def corrects(self) -> bool:
        """Whether it sounds like another value in place of one that was said: "actually", "make it", "I'd rather"."""
        return self.says(
            r"\b(actually|instead|rather|make|change|sorry|wait|no|but|meant|wrong|want|like|need|prefer)\b"
        )

    @property
    def plain_yes(self) -> bool:
        """A consent and nothing else, whatever the ear made of the rest: "yes that's right"."""
        opening = next((word for word in self.words if word not in _HEDGES - YES), "")
        return self.yes and opening in YES | {"yes", "yeah"} and not self.corrects

    @property
    def bye(self) -> bool:
        """The caller takes leave."""
        return self.says(_BYES)

    @property
    def thanks(self) -> bool:
        """Thanks and nothing that asks for more."""
        return self.says(r"\b(thanks|thank you)\b") and len(self.words) <= 8

    @property
    def any(self) -> bool:
        """The caller has no preference."""
        return self.says(_ANY)

    @property
    def again(self) -> bool:
        """The caller did not hear."""
        return self.says(_AGAIN)

    @property
    def question(self) -> bool:
        """Whether it is worded as a question about something."""
        return bool(re.search(_QUESTION, self.core)) and not self.again

    @property
    def has_values(self) -> bool:
        """Whether anything was said that could fill a parameter."""
        return bool(self.days or self.times or self.phones or self.names or self.emails or self.choices)

    def choice(self, name: str) -> tuple[Choice, ...]:
        """The values of parameter `name` that were said."""
        return self.choices.get(name, ())


def listen(text: str, functions: Sequence[Function], today: date, expected: str = "") -> Heard:
    """Understand `text`; `expected` is the kind of value that was asked for ("name", "time", "date", ...) or ""."""
    said = words(text)
    emails = re.findall(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", text.lower())
    found_phones = phones(said)
    taken: list[Found[Any]] = [*found_phones]
    found_days = [each for each in dates(said, today) if _is_free(each, taken)]
    taken += found_days
    bare = expected in ("time", "datetime")
    found_times = [
        each for each in times(said, found_days, bare=bare) if _is_free(each, taken) and not _means_a_thing(said, each)
    ]
    taken += found_times
    values = bool(found_days or found_times or found_phones)
    found_names = _names(said, taken, bare=expected == "name" and not values)
    led = [each for each in found_names if each.start and said[each.start - 1] in ("is", "name", "name's")]
    choices = _choices(said, functions, [*taken, *led])
    plain = " ".join(said)
    found_names = [each for each in found_names if each in led or not _inside_a_choice(each.value, choices)]
    return Heard(
        text=plain,
        words=tuple(said),
        days=tuple(Day(each.value, " ".join(said[each.start : each.end])) for each in _kept(said, found_days)),
        times=tuple(each.value for each in _kept(said, found_times)),
        phones=tuple(each.value for each in found_phones),
        emails=tuple(emails),
        names=tuple(each.value for each in found_names),
        numbers=tuple(_numbers(said, taken)),
        ordinal=_ordinal(said),
        choices=choices,
    )


def _is_free(found: Found[Any], taken: Iterable[Found[Any]]) -> bool:
    return all(found.end <= other.start or found.start >= other.end for other in taken)


def _means_a_thing(said: Sequence[str], found: Found[time]) -> bool:
    """ "The second one" names no hour."""
    before = said[found.start - 1] if found.start else ""
    alone = said[found.start : found.end] == ["one"]
    return alone and (before in _BEFORE_ONE or ordinal_at(said, found.start - 1) is not None)


def _kept(said: Sequence[str], found: list[Found[Any]]) -> list[Found[Any]]:
    """Without what was ruled out: "not ten, eleven"."""
    kept = [each for each in found if "not" not in said[max(0, each.start - 2) : each.start]]
    return kept or found


def _names(said: Sequence[str], taken: Sequence[Found[Any]], *, bare: bool) -> list[Found[str]]:
    found = []
    bare = bare and not set(said) & _REQUESTS
    for each in [*names(said, bare=bare), *_first_and_last(said)]:
        spoken = each.value.lower().split()
        if not set(spoken) & (_NAME_STOPS | set(WEEKDAYS) | set(MONTHS) - FIRST_NAMES) and _is_free(each, taken):
            found.append(each)
    return found


def _first_and_last(said: Sequence[str]) -> list[Found[str]]:
    """Two well-known names in a row, which need no "my name is"."""
    return [
        Found(f"{first} {last}".title(), at, at + 2)
        for at, (first, last) in enumerate(itertools.pairwise(said))
        if first in FIRST_NAMES and last in LAST_NAMES
    ]


def _inside_a_choice(name: str, choices: dict[str, tuple[Choice, ...]]) -> bool:
    spoken = set(name.lower().split())
    phrases = (phrase for each in choices.values() for choice in each for phrase in choice.phrases)
    return any(spoken & set(phrase.split()) for phrase in phrases)


def _numbers(said: Sequence[str], taken: Sequence[Found[Any]]) -> list[int]:
    found = []
    at = 0
    while at < len(said):
        here = number_at(said, at)
        if here and _is_free(here, taken):
            found.append(here.value)
        at = here.end if here else at + 1
    return found


def _ordinal(said: Sequence[str]) -> int:
    """The place in a list that was named, from 1; -1 for the last; 0 for none."""
    for at, word in enumerate(said):
        if word == "last":
            return -1
        if word == "earliest":
            return 1
        if (found := ordinal_at(said, at)) and not set(said[found.end : found.end + 2]) & set(MONTHS):
            return found.value
    return 0


# -- choices -----------------------------------------------------------------------------------------------------------


def _choices(
    said: Sequence[str], functions: Sequence[Function], taken: Sequence[Found[Any]]
) -> dict[str, tuple[Choice, ...]]:
    used = {at for span in taken for at in range(span.start, span.end)}
    left = ["" if at in used else word for at, word in enumerate(said)]
    found: dict[str, tuple[Choice, ...]] = {}
    for parameter in (each for function in functions for each in function.parameters if each.choices):
        if parameter.name not in found and (best := best_choices(left, parameter)):
            found[parameter.name] = best
    return found


def best_choices(said: Sequence[str], parameter: Parameter) -> tuple[Choice, ...]:
    """The values of `parameter` that fit `said` best; nothing where none fits."""
    scores = [(_fit(said, choice, parameter.choices), choice) for choice in parameter.choices]
    best = max((score for score, _ in scores), default=0.0)
    return tuple(choice for score, choice in scores if score == best and score > 0)


def _fit(said: Sequence[str], choice: Choice, others: Sequence[Choice]) -> float:
    return max((_phrase_fit(said, phrase.split(), choice, others) for phrase in choice.phrases), default=0.0)


def _phrase_fit(said: Sequence[str], phrase: list[str], choice: Choice, others: Sequence[Choice]) -> float:
    starts = range(len(said) - len(phrase) + 1)
    if any(all(map(alike, said[at : at + len(phrase)], phrase)) for at in starts):
        return 2.0 * len(phrase)
    telling = [word for word in phrase if len(word) > 3 and word not in _GENERIC]
    hits = [word for word in telling if any(alike(each, word) for each in said)]
    if not hits:
        return 0.0
    if len(hits) == len(telling) and len(hits) > 1:
        return 1.5 * len(hits)
    rivals = sum(
        any(alike(word, each) for phrase in other.phrases for each in phrase.split() for word in hits)
        for other in others
        if other is not choice
    )
    return 1.0 if not rivals else 0.5


def alike(said: str, word: str) -> bool:
    """Whether two words are the same but for an ending or a slip."""
    if said == word:
        return bool(said)
    if min(len(said), len(word)) < 4:
        return False
    shorter, longer = sorted((said, word), key=len)
    if longer.startswith(shorter) and longer[len(shorter) :] in ("s", "es", "ing", "ed", "er", "'s"):
        return True
    return len(shorter) >= 6 and difflib.SequenceMatcher(None, said, word).ratio() >= 0.88
