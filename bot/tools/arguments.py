"""What callers say, made into values: services, staff, names, phone numbers, parts of the day.

Each type here is an annotation for the parameters of a tool; `bot.tools.registry` shows the model its schema and
understands what comes back. What is ambiguous or impossible raises a `bot.errors.DeskRefusal` that says what to ask.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from datetime import date, time
from typing import Annotated, TypeVar

import phonenumbers

from bot.errors import NotOffered, NotUnderstood
from bot.tools.dates import NUMBERS, understand_day, understand_days, understand_time
from bot.tools.registry import Here, Spoken
from desk.business import Business, Service, Staff

Entry = TypeVar("Entry")

_LONGEST_NAME = 80
_LONGEST_TEXT = 2000
_TITLES = frozenset(("dr", "doctor", "mr", "mrs", "ms", "miss", "mister", "prof", "professor", "with", "the", "for"))
_ANYBODY = re.compile(
    r"(any|no|none|whoever|who ever|either|first available)( ?(body|one|staff|preference|matter|doctor|of them))?|"
    r"(it )?(doesn't|does not) matter|no particular.*|don't (care|mind)"
)
_NO_NAME = frozenset(
    ("anonymous", "caller", "customer", "guest", "unknown", "user", "patient", "client", "none", "null", "name", "na")
)
_DIGITS = {word: str(number) for word, number in NUMBERS.items() if number < 10}
_DIGITS |= {"oh": "0", "o": "0", "nought": "0", "plus": "+"}
_THIS_NUMBER = re.compile(
    r"(this|same|that|my|current|the|caller'?s?)( (same|phone|current))?( (number|one|phone|line))|caller ?id"
)

PARTS_OF_DAY = {"morning": (time(0), time(12)), "afternoon": (time(12), time(17)), "evening": (time(17), time(23, 59))}


def understand_service(said: str, here: Here) -> Service:
    """The service that is meant, by id, name, another name, or something close to one. Raises NotOffered."""
    services = here.business.services
    return here.business.find_service(said) or _closest(
        said,
        [(service, [service.name, service.id.replace("_", " "), *service.also_called]) for service in services],
        lambda service: service.name,
        "service",
    )


def understand_staff(said: str, here: Here) -> Staff | None:
    """The member of staff that is meant; None for "anybody". Raises NotOffered."""
    if _ANYBODY.fullmatch(" ".join(said.casefold().split())):
        return None
    staff = here.business.staff
    entries = [(person, [person.name, person.id.replace("_", " ")]) for person in staff]
    return here.business.find_staff(said) or _closest(said, entries, lambda person: person.name, "member of staff")


def _closest(said: str, entries: Sequence[tuple[Entry, list[str]]], name: Callable[[Entry], str], what: str) -> Entry:
    """The one entry that shares most words with what was said; else the one that is spelled most alike."""
    wanted = _meaning(said)
    scores = [(max(_likeness(wanted, _meaning(words)) for words in names), entry) for entry, names in entries]
    best = max((score for score, _ in scores), default=0.0)
    found = [entry for score, entry in scores if score == best] if best >= 0.6 else []
    if len(found) == 1:
        return found[0]
    offered = [name(entry) for entry in found or (entry for entry, _ in entries)]
    problem = f"{said[:60]!r} may mean several" if found else f"There is no {what} {said[:60]!r}"
    choice = ", ".join(offered)
    raise NotOffered(f"{problem}.", f"Ask which is meant: {choice}.", offered)


def _meaning(words: str) -> frozenset[str]:
    found = re.findall(r"[^\W_]+", words.casefold())
    return frozenset(word for word in found if word not in _TITLES) or frozenset(found)


def _likeness(said: frozenset[str], known: frozenset[str]) -> float:
    """Between 0 and 1: how many words of each find one that is spelled almost alike in the other."""
    if not said or not known:
        return 0.0
    alike = sum(bool(difflib.get_close_matches(word, known, 1, 0.8)) for word in said)
    back = sum(bool(difflib.get_close_matches(word, said, 1, 0.8)) for word in known)
    smaller, larger = sorted((alike / len(said), back / len(known)))
    return 0.7 * larger + 0.3 * smaller


def understand_phone(said: str, here: Here) -> str:
    """A phone number in E.164, from digits or digits in words; "this number" is the caller's. Raises NotUnderstood."""
    ask = "Ask for the number again, digit by digit, with area code."
    if _THIS_NUMBER.search(said.casefold()) and not re.search(r"\d", said):
        if here.caller_number is None:
            raise NotUnderstood("The caller's number is withheld.", ask)
        return here.caller_number
    digits = _spoken_digits(said)
    try:
        number = phonenumbers.parse(digits, here.business.phone_country)
    except phonenumbers.NumberParseException:
        raise NotUnderstood("That is not a phone number.", ask) from None
    match phonenumbers.is_possible_number_with_reason(number):
        case phonenumbers.ValidationResult.IS_POSSIBLE:
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        case phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
            raise NotUnderstood("The phone number lacks its area code.", ask)
        case phonenumbers.ValidationResult.TOO_SHORT:
            raise NotUnderstood("The phone number is too short.", ask)
        case phonenumbers.ValidationResult.TOO_LONG:
            raise NotUnderstood("The phone number is too long.", ask)
        case _:
            raise NotUnderstood("That is not a phone number.", ask)


def _spoken_digits(said: str) -> str:
    """Digits of a number said in words: "five, double oh one" is 5001."""
    digits, times = "", 1
    for token in re.findall(r"\d+|\+|[a-z]+", said.casefold()[:200]):
        if token in ("double", "triple"):
            times = 2 if token == "double" else 3
            continue
        digit = _DIGITS.get(token, token if token[0] in "+0123456789" else "")
        digits += digit[:1] * (times - 1) + digit
        times = 1
    return digits


def say_phone(number: str) -> str:
    """The end of a phone number, enough to be recognised: the number ending in 0 1 2 3."""
    return f"the number ending in {' '.join(number[-4:])}"


def understand_name(said: str, here: Here) -> str:
    """A person's name, tidied. Raises NotUnderstood for what can be none."""
    words = re.sub(
        r"(?i)^\s*(hi|hello)?[,. ]*(my name is|my name's|the name is|this is|it's|it is|i am|i'm|name:)\s+", "", said
    )
    words = " ".join(re.sub(r"[^\w\s.,'’-]", " ", words).replace("_", " ").split()).strip(" .,-")
    letters = words.replace(".", "").split()
    if len(letters) > 1 and all(len(letter) == 1 for letter in letters):
        words = "".join(letters)
    ask = "Ask for first and last name."
    if not any(letter.isalpha() for letter in words) or any(letter.isdigit() for letter in words):
        raise NotUnderstood("That is not a name.", ask)
    if len(words) > _LONGEST_NAME or {*re.findall(r"\w+", words.casefold())} <= _NO_NAME:
        raise NotUnderstood("That is not a person's name.", ask)
    return words.title().replace("'S", "'s").replace("’S", "’s") if words.islower() or words.isupper() else words


def same_person(first: str, second: str, likeness: float = 0.75) -> bool:
    """Whether two names may be one person's: one has all words of the other, at least so much alike (0 to 1)."""
    smaller, larger = sorted((_meaning(first), _meaning(second)), key=len)
    return bool(smaller) and all(difflib.get_close_matches(word, larger, 1, likeness) for word in smaller)


def is_full_name(name: str) -> bool:
    """Whether a name has two words or more."""
    return len(_meaning(name)) > 1


def understand_email(said: str, here: Here) -> str:
    """An e-mail address, from "ann at example dot com" too. Raises NotUnderstood."""
    words = said.casefold().strip(" .")
    for spoken, sign in (
        (r"\s*\bat\b\s*", "@"),
        (r"\s*\bdot\b\s*", "."),
        (r"\s*\bunderscore\b\s*", "_"),
        (r"\s*\b(dash|hyphen)\b\s*", "-"),
    ):
        words = re.sub(spoken, sign, words) if " " in words else words
    words = words.replace(" ", "")
    if len(words) > 200 or not re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", words, re.ASCII):
        raise NotUnderstood("That is not an e-mail address.", "Ask for it letter by letter.")
    return words


def understand_part_of_day(said: str, here: Here) -> str | None:
    """`morning`, `afternoon` or `evening`; None for any time. Raises NotUnderstood."""
    words = said.casefold()
    for part, pattern in (
        ("morning", r"morning|before (noon|lunch)|early|\ba\.?m\b"),
        ("evening", r"evening|night|after work|late"),
        ("afternoon", r"afternoon|after (noon|lunch)|midday|lunch|\bp\.?m\b"),
    ):
        if re.search(pattern, words):
            return part
    if re.search(r"any|all|no preference|whenever|doesn't matter", words):
        return None
    raise NotUnderstood(f"{said[:40]!r} is not a part of the day.", "Ask for morning, afternoon or evening.")


def understand_text(said: str, here: Here) -> str:
    """Text of a few sentences. Raises NotUnderstood for an endless one."""
    if len(said) > _LONGEST_TEXT:
        raise NotUnderstood(f"The text is longer than {_LONGEST_TEXT} characters.", "Summarise it.")
    return said


def _service_names(business: Business) -> list[str]:
    return [service.name for service in business.services]


def _staff_names(business: Business) -> list[str]:
    return [person.name for person in business.staff]


ServiceSaid = Annotated[Service, Spoken(understand_service, _service_names)]
StaffSaid = Annotated[Staff, Spoken(understand_staff, _staff_names)]
DaySaid = Annotated[date, Spoken(understand_day)]
DaysSaid = Annotated[tuple[date, date], Spoken(understand_days)]
TimeSaid = Annotated[time, Spoken(understand_time)]
PartOfDay = Annotated[str, Spoken(understand_part_of_day, lambda _: tuple(PARTS_OF_DAY))]
PhoneSaid = Annotated[str, Spoken(understand_phone)]
NameSaid = Annotated[str, Spoken(understand_name)]
EmailSaid = Annotated[str, Spoken(understand_email)]
Text = Annotated[str, Spoken(understand_text)]
