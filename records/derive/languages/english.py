"""English: what is told as done, how things stand, what is announced; days and times."""

from __future__ import annotations

import re

from records.derive.languages.rules import Rules, Times, any_of, numbered, words_of

# -- days and times ---------------------------------------------------------------------------------------------------

_WEEKDAYS = numbered("monday tuesday wednesday thursday friday saturday sunday")
_MONTHS = numbered("january february march april may june july august september october november december", 1)
_NUMBERS = numbered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_NUMBERS |= _TENS | {f"{ten} {one}": _TENS[ten] + _NUMBERS[one] for ten in _TENS for one in list(_NUMBERS)[1:10]}
_ORDINALS = numbered(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth",
    1,
)
_ORDINALS |= {f"twenty {one}": 20 + _ORDINALS[one] for one in list(_ORDINALS)[:9]} | {
    "thirtieth": 30,
    "thirty first": 31,
}
_PARTS = {"quarter": 15, "a quarter": 15, "half": 30}
_AHEAD = {"for today": 0, "tomorrow": 1, "day after tomorrow": 2}
_N = rf"(?:\d{{1,2}}|{words_of(_NUMBERS)})"
_ORDINAL = rf"(?:\d{{1,2}}(?:st|nd|rd|th)|{words_of(_ORDINALS)})"
_DAY = rf"(?:{_ORDINAL}|\d{{1,2}})(?![:\d]|\.\d| ?[ap]m\b)"
_MONTH = words_of(_MONTHS)
_NO_PLACE = (
    r"(?! (?:to|before|past|of|people|persons|minutes|hours|dollars|percent|or older|[\w'-]+ (?:street|st|avenue|"
    r"ave|road|rd|lane|"
    r"drive|way|square|high|floor))\b|[%\d])"
)

TIMES = Times(
    weekdays=_WEEKDAYS,
    months=_MONTHS,
    numbers=_NUMBERS | _ORDINALS,
    parts=_PARTS,
    ahead=_AHEAD,
    dates=any_of(
        r"\b\d{4}-(?P<month>\d\d)-(?P<day>\d\d)\b",
        rf"\b(?P<month2>{_MONTH}) (?:the )?(?P<day2>{_DAY})\b",
        rf"\b(?P<day3>{_DAY}) (?:of )?(?P<month3>{_MONTH})\b",
        rf"(?:(?<=day )|(?<=for )|(?<=on ))the (?P<day4>{_ORDINAL})\b(?! (?:of|floor|street|avenue|available))",
        rf"\b(?P<weekday>{words_of(_WEEKDAYS)})\b",
        rf"\b(?:the )?(?P<ahead>{words_of(_AHEAD)})\b",
    ),
    times=any_of(
        r"\b(?:at )?(?P<h>\d{1,2})[:.](?P<m>\d\d)(?: ?(?P<ap>[ap]m)\b)?(?!\d)",
        rf"\b(?:at )?(?P<part>{words_of(_PARTS)}|{_N}(?: minutes)?) past (?P<h2>{_N})\b(?: ?(?P<ap2>[ap]m)\b)?",
        # Not "ten to nine": from nine to ten is a span.
        rf"\b(?:at )?(?P<part5>{words_of(_PARTS)}|{_N} minutes) (?P<to>to|"
        rf"before) (?P<h5>{_N})\b(?: ?(?P<ap5>[ap]m)\b)?",
        rf"\b(?:at )?(?P<h3>{_N})(?:[ -](?:oh )?(?P<m3>{_N}))? ?(?:(?P<ap3>[ap]m)\b|o'clock\b)",
        rf"\bat (?P<h4>{_N})(?:[ -](?:oh )?(?P<m4>{_N}))?\b{_NO_PLACE}",
        r"\b(?P<noon>noon|midday)\b",
    ),
    link=re.compile(
        r"[ ,]*(?:(?:on|at|the|of|for|in the (?:morning|afternoon|evening)|morning|afternoon|evening)[ ,]*)*"
    ),
    also=re.compile(
        r"[ ,]*(?:and|then|also|again|as well as|plus|&)(?: (?:also|then|for|on|at|again|another one))*[ ,]*"
    ),
    number=re.compile(rf"{_N}(?: ?(?:to|until|till|and|-|–))? *$"),
)

# -- deeds ------------------------------------------------------------------------------------------------------------

_WHEN = rf"(?:(?:on |this |next |the )*(?:{words_of(_WEEKDAYS)}|tomorrow|{_MONTH} {_DAY}|{_ORDINAL})\b|at {_N}\b)"
_THING = (
    r"(?:it|that|this|everything|(?:your|the|that|this|his|her|their|both)(?: [\w'-]+){0,3} "
    r"(?:appointment|booking|visit|reservation|slot|time|session|cleaning|checkup|exam|filling|call-out)s?"
    r"(?: (?:on|for|at|with)(?: [\w':-]+){1,6}?)?)"
)
_BE = r"(?:'s|'re| is| are| was| were|'s been| has been| have been)"
_ADVERB = r"(?: now| all| already| just| officially| fully| also| both| then| successfully)*"
_I_DID = r"(?:i|we)(?:'ve| have)?(?: now| just| already| also| gone ahead and| went ahead and)*"
_I_COULD = r"(?:i|we) (?:was|were) able to|(?:i|we) managed to"
_TEXT = r"(?:text(?: message)?s?|sms)"
_EMAIL = r"(?:e-?mails?)"
_SOME = r"(?:an?|the|your|one|another)(?: [\w'-]+){0,2}"

_WILL = (
    r"(?:i'll|i will|i'm going to|i am going to|i'm gonna|we'll|we will|we're going to|let me)"
    r"(?: now| just| go ahead and| quickly| gladly| definitely| certainly| also| make sure (?:to|i)| be sure to|"
    r" get to)*"
)
_DOING = r"(?:i'm|i am)(?: now| just)?"
_THEY = (
    r"(?:they|someone|somebody|one of (?:us|our [\w]+|the [\w]+)|(?:the|our|a|your) "
    r"(?:[\w'-]+ ){0,2}(?:staff|team|office|dentist|doctor|manager|colleague|plumber|electrician|engineer|"
    r"hygienist|receptionist)"
    r"|dr [\w'-]+|we|i|he|she|[\w'-]+)(?:'ll| will|'s going to| is going to|'re going to| are going to)"
)
_GET = r"you(?:'ll| will)(?: also| now| soon| shortly)* (?:get|receive|have)"

RULES = Rules(
    done={
        "booking": any_of(
            rf"\b{_I_DID} (?:booked|scheduled|reserved|put you down|got you (?:booked|scheduled|down|in)|"
            r"set (?:it|that) up)\b",
            rf"\b{_I_DID} made (?:you )?(?:the|your|an|that|another|both) (?:appointment|booking|reservation)s?\b",
            rf"\b(?:{_I_COULD}) (?:book|schedule|reserve|get you)\b",
            rf"\b{_THING}(?:'s been| has been| was) {_ADVERB.strip()} ?(?:booked|scheduled|reserved|made)\b",
            r"^(?:all )?(?:booked|scheduled|reserved)\b(?! (?:up|out|solid|until))",
            r"\bconsider (?:it|that) booked\b",
        ),
        "change": any_of(
            rf"\b{_I_DID} (?:moved|rescheduled|changed|switched|pushed|shifted|brought forward)\b",
            rf"\b(?:{_I_COULD}) (?:move|reschedule|change|switch|shift)\b",
            rf"\b{_THING}{_BE}{_ADVERB} (?:moved|rescheduled|changed|switched|shifted)\b",
            r"^(?:all )?(?:moved|rescheduled)\b",
        ),
        "cancellation": any_of(
            rf"\b{_I_DID} (?:cancell?ed|called off)\b",
            rf"\b(?:{_I_COULD}) cancel\b",
            rf"\b{_THING}{_BE}{_ADVERB} (?:cancell?ed|called off)\b",
            r"^(?:all )?cancell?ed\b",
        ),
        "message": any_of(
            rf"\b{_I_DID} (?:passed|forwarded|sent|relayed|handed) (?:it|that|this|your|the|them|everything)\b",
            rf"\b{_I_DID} (?:taken|took|left|noted|written down|recorded) (?:down )?(?:it|that|this|your|the|"
            r"a) ?(?:[\w'-]+ )?(?:message|request|note)\b",
            rf"\b{_I_DID} (?:let|told|notified|informed) (?:the|them|him|her|our|dr|doctor|everyone)\b",
            r"\b(?:your|the|that) message(?:'s| is| has| was)(?: been)?(?: now| already)? (?:passed on|sent|"
            r"taken|left|noted|saved|on its way|with)\b",
        ),
        "record": any_of(
            rf"\b{_I_DID} (?:updated|corrected|saved|changed|added|fixed|noted) (?:that|your|the|it|"
            r"a note)\b(?! message)",
            r"\b(?:your|the) (?:[\w'-]+ ){0,2}(?:number|name|email|e-mail|address|details|record|file|"
            r"information)(?:'s| is| are| has been| have been)(?: now)? (?:updated|corrected|saved|changed|"
            r"noted)\b",
            rf"\b{_I_DID} made a note\b",
        ),
        "text": any_of(
            rf"\b{_I_DID} (?:texted|messaged) you\b",
            rf"\b{_I_DID} sent (?:you )?(?:[\w'-]+ ){{0,6}}(?:by|via|in|as)? ?(?:an? )?{_TEXT}\b",
        ),
        "email": any_of(
            rf"\b{_I_DID} e-?mailed (?:you|it|that|them|the|your)\b",
            rf"\b{_I_DID} sent (?:you )?(?:[\w'-]+ ){{0,6}}(?:by|via|in|as|to your)? ?(?:an? )?{_EMAIL}\b",
        ),
        "anything": any_of(
            r"\bconsider (?:it|that) (?:done|sorted|settled|taken care of)\b",
            r"\b(?:it's|that's|it is|that is|everything's|everything is)(?: now| all| been)* (?:done|taken care of|"
            r"sorted)(?: for you)?$",
            rf"\b{_I_DID} (?:taken|took) care of (?:it|that|everything)\b",
        ),
    },
    state={
        "booking": any_of(
            rf"\byou(?:'re| are){_ADVERB} (?:booked|scheduled|down for|confirmed|set for|set up for|in for|"
            r"on the (?:schedule|calendar|books))\b",
            rf"\b{_THING}(?:'s| is| are){_ADVERB} (?:booked|scheduled|confirmed|reserved|set|in the (?:calendar|"
            r"diary|book|books|system))\b",
            r"\b(?:your|the) (?:[\w'-]+ ){1,2}(?:is|are)(?: now| also| both)* booked\b",
            r"\b(?:i|we)(?:'ve| have) (?:got )?you (?:booked|scheduled|down|in)\b",
            r"\byou(?:'ve| have) (?:got )?(?:an?|your) (?:[\w'-]+ ){0,3}(?:appointment|booking|visit)\b",
            rf"\b(?:see you(?: both| then| all)*|look(?:ing)? forward to seeing you(?: both)?) {_WHEN}",
        ),
        "change": any_of(
            rf"\b{_THING}(?:'s| is) now (?:on|at|for|booked|scheduled|set)\b",
        ),
    },
    announced={
        "booking": any_of(
            rf"\b{_WILL} (?:book|schedule|reserve|put you (?:down|in)|get you (?:in|booked|scheduled|down)|"
            r"set (?:that|it|this) up|make (?:the|that|your|an) (?:appointment|booking|reservation))\b",
            rf"\b{_DOING} (?:booking|scheduling|reserving)\b",
        ),
        "change": any_of(
            rf"\b{_WILL} (?:move|reschedule|switch|shift|change (?:it|that|your appointment|the appointment|"
            r"the time|the day))\b",
            rf"\b{_DOING} (?:moving|rescheduling|switching)\b",
        ),
        "cancellation": any_of(
            rf"\b{_WILL} (?:cancel|call (?:it|that) off)\b",
            rf"\b{_DOING} (?:cancell?ing)\b",
        ),
        "message": any_of(
            rf"\b{_WILL} (?:pass|forward|relay|hand|send) (?:it|that|this|your|the|them|everything)\b",
            rf"\b{_WILL} (?:take|leave|write down|note down|note) (?:down )?(?:a|your|the|that|this|"
            r"it)(?: [\w'-]+)? ?(?:message|note|request)?(?: for| down|$|\b)",
            rf"\b{_WILL} (?:let|tell|notify|inform|ask) (?:the|them|him|her|our|dr|doctor|someone|somebody|everyone)\b",
            rf"\b{_WILL} have (?:[\w'-]+ ){{1,3}}(?:call|ring|phone|contact|get back)\b",
            rf"\b{_THEY} (?:call|ring|phone|contact|reach out|get back|be in touch|follow up)\b(?! ahead)",
            r"\bexpect (?:a|their|our) call\b",
        ),
        "record": any_of(
            rf"\b{_WILL} (?:update|correct|save|fix|change) (?:that|your (?:number|name|email|e-mail|address|"
            r"details|record|file|information))\b",
            rf"\b{_WILL} (?:make a note|add (?:a note|that to your))\b",
        ),
        "transfer": any_of(
            rf"\b{_WILL} (?:put you (?:through|on)|transfer (?:you|the call|this call|your call)|connect you|"
            r"hand you over)\b",
            rf"\b{_WILL} get (?:you )?(?:someone|somebody|a person|a colleague|a human)\b",
            rf"\b{_DOING} (?:putting you (?:through|on)|transferring|connecting|handing you over)\b",
        ),
        "text": any_of(
            rf"\b{_WILL} (?:text|message) (?:you|it to you|that to you)\b",
            rf"\b{_DOING} texting you\b",
            rf"\b(?:{_WILL} send|{_DOING} sending) (?:you )?(?:[\w'-]+ ){{0,6}}{_TEXT}\b",
            rf"\b{_GET} {_SOME} {_TEXT}\b",
            rf"\b{_GET} {_SOME}(?: [\w'-]+){{0,2}} by {_TEXT}\b",
        ),
        "email": any_of(
            rf"\b{_WILL} e-?mail (?:you|it|that|them|the|your)\b",
            rf"\b{_DOING} e-?mailing (?:you|it|that)\b",
            rf"\b(?:{_WILL} send|{_DOING} sending) (?:you )?(?:[\w'-]+ ){{0,6}}{_EMAIL}\b",
            rf"\b{_GET} {_SOME} {_EMAIL}\b",
            rf"\b{_GET} {_SOME}(?: [\w'-]+){{0,2}} by {_EMAIL}\b",
        ),
    },
    sure=re.compile(
        r"\b(?:i can (?:confirm|tell you|see)(?: that)?|(?:i'm|i am|we're) (?:happy|glad|pleased) to (?:say|"
        r"confirm|tell you|report)(?: that)?)\b"
    ),
    unless=re.compile(r"\b(?:if|unless|provided|in case|as soon as|(?:once|when|after|before|until) (?:you|i|we)\b)\b"),
    not_so=re.compile(
        r"\b(?:not|never|no|nothing|nobody|isn't|aren't|wasn't|weren't|hasn't|haven't|couldn't|can't|cannot|"
        r"won't|don't|didn't|unable|without|yet|can|may|if|when|once|shall|should|would|could|might|want|wanted|like|"
        r"need|try|trying|tried|hope|hoping|love)\b"
    ),
    asks_again=re.compile(
        r"^(?:is|does|do|did|are|was|would|shall|should|can|could|may|ok|okay|right|correct|all right|sound|"
        r"sounds|good|yes)\b"
    ),
    generic=any_of(
        r"\b(?:all set|taken care of|see you|look(?:ing)? forward to)\b",
        r"\b(?:that's|it's|all) (?:done|sorted|set|arranged|settled|confirmed)\b",
        r"\b(?:booked|confirmed|scheduled|reserved|moved|rescheduled|cancell?ed|passed on|noted|saved|updated|"
        r"corrected)\b",
    ),
    several={
        2: re.compile(r"\b(?:both|the two|two (?:[\w'-]+ )?(?:appointments|bookings|slots|visits|cleanings))\b"),
        3: re.compile(
            r"\b(?:all three|(?:the )?three (?:[\w'-]+ )?(?:appointments|bookings|slots|visits|cleanings))\b"
        ),
    },
    further=re.compile(r"\b(?:another|a second|the second|the other|too|as well|also)\b"),
    times=TIMES,
)
