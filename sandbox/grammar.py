"""What a caller may say, as a JSGF grammar, made from the functions that a client declares.

A small recogniser understands speech only when it knows what to expect. A `Grammar` lists it: everyday telephone
English (greetings, yes and no, dates, times, names, numbers, corrections, goodbyes) and the words of
the declared functions (what can be booked, with whom, what the business can be asked).

Source of the format: W3C note "JSpeech Grammar Format" (2000).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from sandbox.declarations import Choice, Function, declared_functions, vocabulary
from sandbox.english import (
    FIRST_NAMES,
    LAST_NAMES,
    MONTHS,
    ORDINALS,
    WEEKDAYS,
    number_words,
    word_set,
    words,
)

Expected = Literal["anything", "yes_or_no", "name", "phone", "date", "time", "choice"]

_TOO_COMMON = word_set(
    "a about above after all always an and any are as ask at available be been before below by call "
    "caller callers calls can current customer date day days do does each every first for from function "
    "functions get give given has have her here his how i if in instead into is it its iso last like line "
    "list may me more must my never new next no not number of on once one only optional or other our out "
    "own phone please possible question questions required result results return returns say says should "
    "so some speak string such tell than that the their them then there these they this those time times "
    "to today tool tools type until up use used user using value via want was we were what when where "
    "which while who will with without you your"
)
_MOST_TOPICS = 60

_FIXED = f"""
<greeting> = hi | hello | hello there | hi there | good morning | good afternoon | good evening | hey;
<hedge> = um | uh | well | so | oh | okay;
<want> = i'd like to | i would like to | i want to | i need to | i wanted to | can i | could i | can you | could
    you | i'm calling to | i have to | may i | i was hoping to | could you please | can you please | let's | please;
<have> = i'm looking for | i am looking for | i'd like | i would like | i want | i need | do you have | have you
    got | can i have | can i get | could i get | could i have | is there | are there | when is | when is your | what
    is your;
<action> = book | schedule | make | arrange | get | have | reserve | set up | cancel | call off | reschedule |
    move | change | postpone | check | confirm | find | come in for | see;
<article> = a | an | the | my | your | another | some | any | the next | the earliest | the first available |
    this;
<thing> = appointment | appointments | booking | visit | slot | opening | openings | time | reservation;
<event> = <thing> | <service> | <service> <thing> | available <thing> | next <thing> | free <thing>;
<request> = <want> <action> [me] [<article>] <event> [for [a | an] <service>] | <want> <action> it | <have>
    [<article>] <event> [for [a | an] <service>] | <want> see <staff> | <want> come in | is <staff> (available |
    free | in) | <want> change the (time | day | date) of my <thing> | <have> [anything | something] available | do
    you have (anything | something | time) | [it's] [<article>] <service>;
<month> = {" | ".join(MONTHS)};
<ordinal> = {" | ".join(ORDINALS)};
<weekday> = {" | ".join(WEEKDAYS)};
<part> = morning | afternoon | evening;
<day> = [next | this] <weekday> [<part>] | today | tomorrow [<part>] | the day after tomorrow | next week | this
    <part> | [<weekday>] <month> [the] <ordinal> | [<weekday>] the <ordinal> [of <month>] | in (two | three) (days |
    weeks) | in a week;
<hour> = one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve;
<minute> = ten | fifteen | twenty | twenty five | thirty | thirty five | forty | forty five | fifty | oh five;
<meridiem> = a m | p m | in the morning | in the afternoon | in the evening;
<exactly> = <hour> o'clock [<meridiem>] | <hour> <meridiem> | <hour> <minute> [<meridiem>] | half past <hour>
    [<meridiem>] | [a] quarter (past | to) <hour> [<meridiem>] | (ten | twenty) (past | to) <hour> | noon | midday;
<clock> = <hour> | <exactly>;
<on> = [on | for | by | to] <day>;
<at> = (at | around | about | after | before | to | for) <clock> | in the <part>;
<times> = <on> [<at> | <exactly>] | <at> [<on>] | <clock> <on> | any (day | time) [<on> | is fine | works] | as
    soon as possible | the earliest possible;
<first> = {" | ".join(sorted(FIRST_NAMES))};
<last> = {" | ".join(sorted(LAST_NAMES))};
<person> = <first> [<last>];
<name> = [<turn>] (my name is | the name is | this is | it's | i'm | i am | it is | under | under the name | i
    meant) <person> [speaking] | <first> <last> (here | speaking);
<digit> = zero | oh | one | two | three | four | five | six | seven | eight | nine;
<digits> = (<digit> | double <digit>)+;
<number> = (my (phone | telephone | mobile | cell) number is | my number is | it's | the number is | call me at
    | plus) <digits>;
<yes> = yes | yeah | yes please | yes please book it | yes book it | sure | okay | correct | right | that's
    right | that's correct | exactly | perfect | sounds good | that sounds good | that works | that works for me |
    great | fine | that's fine | please do | go ahead | absolutely | yes that's right | yes that's correct | that
    would be great | yes go ahead;
<no> = no | no thanks | no thank you | not really | that's wrong | that's not right | that's not correct | no
    that's wrong;
<turn> = no | actually | sorry | wait | oh wait | no wait | oh sorry | hold on | no sorry | i'm sorry;
<instead> = make it | make that | i meant | i said | change it to | change that to | can we make it | could we
    make it | could you make it | can you make it | let's do | let's say | let's make it | how about | what about |
    i'd prefer | i would prefer | i want | not | (can | could) (i | we | you) (change it to | move it to | do) |
    let's make that | it should be | that should be | move it to | move it;
<correction> = [<turn>] <instead> (<clock> | <times> | [a | an | the] <service> | <digits>) [instead] | <turn>
    (<clock> | <times> | [a | an | the] <service>) [instead] | [<turn>] not <day> <day> | [<turn>] not <clock>
    <clock>;
<pick> = [i'll take | i will take | let's take | i take | let's do] (the (first | second | third | fourth |
    last) [one | slot | time | option] | the earliest [one] | that one | either one | either is fine | any of them)
    | (i'll take | i will take | let's take) (<clock> | <times>);
<bye> = that's all [for (today | now)] | that is all | that's it | nothing else | thanks | thank you | thank you
    very much | thanks a lot | thanks for your help | thank you for your help | goodbye | bye | bye bye | good bye |
    have a nice day | that will be all | that's everything | no that's all | i'm done;
<ask> = what are your [opening] hours | when are you open | (when | what time) do you (open | close) | are you
    open [on] (<weekday> | weekends | sundays | saturdays) | where are you [located] | what is your address | what's
    your address | how do i get there | is there parking | do you have parking | where can i park | how much is [a |
    an | the] <service> | how much does [a | an | the] <service> cost | what does it cost | how long does [a | an |
    the] <service> take | how long does it take | do you (take | accept) [my | dental] insurance | do you (take |
    accept) credit cards | do you treat children | are you a robot | are you a real person | who are you | what
    services do you offer | what can you do | what do i need to bring | (do you (have | take | accept | offer | do)
    | what about | tell me about | is there) [a | any | your | my] <topic>;
<message> = [i'd like to | i want to | can i | could i | can you | please] (leave | take) a message [for
    <staff>] | [please] tell (them | him | her | <staff>) | [please] call me back | can you call me back | could you
    call me back | (i have | i've got) a question [about] [my] [bill | insurance | appointment] | i will be late |
    i'll be late | i am running late | i'm running late | i'm running ten minutes late | it's urgent | it is an
    emergency | it's an emergency | my tooth hurts | i have a toothache | i am in pain | i'm in pain | i can't make
    it | can i speak to (a person | a human | someone | <staff>) | i want to (speak | talk) to (a person | a human |
    someone);
<repair> = what | pardon | sorry | [(can | could) you] [please] (repeat that | say that again) | what did you
    say | can you hear me | are you there | i don't know | a bit (later | earlier) | one moment | just a moment |
    excuse me;
<wish> = <request> [with <staff>] [<times>] [with <staff>];
<suits> = works [for me] | is (good | fine | perfect | great | okay) | would be (good | great | perfect | fine);
<unable> = i can't (come | make it) | i cannot (come | make it) | i won't be able to come;
<introduction> = <name> [[and] <wish> | and <number>];
<farewell> = [perfect | great | okay] <bye> [<bye>] [<bye>];
<content> = <wish> | <times> [<suits>] | <clock> <suits> | <unable> [<times>] [<correction>] | <introduction> |
    <number> | <correction> | <yes> [<yes> | [but] <correction>] | <no> [<no> | <correction>] | <no> <bye> | <yes>
    <bye> | <pick> | <farewell> | <ask> | <message> [<times>] | [<turn>] <repair> | [with] <staff> | <extra> | <yes>
    <wish>;
"""

# What is said without a lead ("four", "John Smith") only in answer to a question for it: at any other time such short
# words would be heard everywhere. What was asked for otherwise needs no grammar of its own.
_BARE_ANSWERS: dict[Expected, str] = {
    "time": "<clock>",
    "choice": "<clock>",
    "name": "<person>",
    "phone": "<digits>",
}


@dataclass(frozen=True)
class Grammar:
    """Everything that may be heard at one point of a call. `jsgf` is the text for the recogniser.

    Two grammars are equal when they accept the same words, so a recogniser can keep them prepared.
    """

    jsgf: str

    @classmethod
    def from_tools(
        cls,
        function_declarations: Sequence[dict[str, Any]],
        system_instruction: str = "",
        expected: Expected = "anything",
    ) -> Grammar:
        """The grammar for a client's function declarations (as in the `setup` message).

        `expected`: what the caller was just asked for; its bare answer becomes possible, with all the rest.
        """
        setup = {
            "tools": [{"functionDeclarations": list(function_declarations)}],
            "systemInstruction": {"parts": [{"text": system_instruction}]},
        }
        return cls.for_functions(declared_functions(setup), system_instruction, expected)

    @classmethod
    def for_functions(
        cls, functions: Sequence[Function], system_instruction: str = "", expected: Expected = "anything"
    ) -> Grammar:
        """The same for functions that were read already."""
        return _grammar(tuple(functions), system_instruction, expected)

    @property
    def vocabulary(self) -> frozenset[str]:
        """Every word that may be heard."""
        without_rules = re.sub(r"<\w+>|#.*|^grammar.*|\bpublic\b", " ", self.jsgf, flags=re.MULTILINE)
        return frozenset(re.findall(r"[a-z']+", without_rules))


@lru_cache(maxsize=64)
def _grammar(functions: tuple[Function, ...], instruction: str, expected: Expected) -> Grammar:
    people, services = _choices(functions)
    rules = [
        f"<service> = {_alternatives(services) or 'appointment'};",
        f"<staff> = {_alternatives(people) or 'the manager'};",
        f"<topic> = {_alternatives(_topics(functions, instruction)) or 'appointments'};",
        f"<extra> = {_alternatives(_other_phrases(functions)) or 'please'};",
        _FIXED,
        f"<answer> = {_BARE_ANSWERS.get(expected, '<greeting>')};",
        "public <utterance> = [<greeting>] [<hedge>] (<content> | <answer>) [please];",
    ]
    return Grammar("#JSGF V1.0;\ngrammar caller;\n" + "\n".join(rules))


def _choices(functions: Iterable[Function]) -> tuple[list[str], list[str]]:
    """How the values of all enumerations are said: people ("with ..."), and what can be asked for."""
    people: list[str] = []
    things: list[str] = []
    for parameter in (each for function in functions for each in function.parameters):
        if parameter.kind != "choice":
            continue
        is_person = bool(
            word_set("staff provider dentist doctor technician person employee who with")
            & set(words(parameter.name.replace("_", " ")))
        )
        target = people if is_person else things
        for choice in parameter.choices:
            target += _spoken(choice)
    return people, things


def _spoken(choice: Choice) -> list[str]:
    """A choice's phrases and, for a long one, its last word ("dental cleaning": "cleaning")."""
    phrases = [as_words(phrase) for phrase in choice.phrases]
    short = [phrase.split()[-1] for phrase in phrases if " " in phrase]
    return phrases + [word for word in short if len(word) > 4 and word not in _TOO_COMMON]


def _topics(functions: Sequence[Function], instruction: str) -> list[str]:
    """What the business might be asked about: the rarer words of instruction and descriptions."""
    said = [word for word in words(instruction) if re.fullmatch(r"[a-z]{4,}", word)]
    candidates = [*said, *sorted(vocabulary(functions))]
    topics = [word for word in dict.fromkeys(candidates) if word not in _TOO_COMMON and word.isascii()]
    return topics[:_MOST_TOPICS]


def _other_phrases(functions: Iterable[Function]) -> list[str]:
    """ "order status", "track parcel": the functions' own names, for businesses that do not make appointments."""
    return [" ".join(word for word in function.verbs if word not in ("id", "by")) for function in functions]


def as_words(phrase: str) -> str:
    """`phrase` in words that a dictionary can hold: lower case, numbers spelled, nothing but letters."""
    spelled = (number_words(int(word)) if word.isdigit() and len(word) < 5 else word for word in words(phrase))
    return " ".join(re.sub(r"[^a-z' ]", "", word) for word in spelled).strip()


def _alternatives(phrases: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(phrase for phrase in (as_words(each) for each in phrases) if phrase))
