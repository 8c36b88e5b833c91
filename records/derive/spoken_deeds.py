"""What a sentence of the bot's says about deeds: done, announced, or nothing of the kind. English and Spanish.

A claim says that something was done ("you're booked", "le he reservado"), an announcement that it will be ("I'll pass
that on", "le llamarán"). Offers, questions, conditions and denials are neither. All languages' rules are tried on every
sentence, because a call may change its language in the middle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Deed = Literal["booking", "change", "cancellation", "message", "record", "transfer"]


@dataclass(frozen=True)
class Saying:
    """Words about a deed. `done`: it is told as done; `state`: as how things stand, which may have been so before."""

    deed: Deed
    done: bool
    state: bool
    words: str


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


_THING = (
    r"(?:it|that|this|everything|(?:your|the|that|this|his|her|their)(?: [\w'-]+){0,3} "
    r"(?:appointment|booking|visit|reservation|slot|time|session|cleaning|checkup|exam|filling|call-out)"
    r"(?: (?:on|for|at|with)(?: [\w'-]+){1,4}?)?)"
)
_BE = r"(?:'s|'re| is| are| was| were|'s been| has been| have been)"
_ADVERB = r"(?: now| all| already| just| officially| fully| also| both| then| successfully)*"
_I_DID = r"(?:i|we)(?:'ve| have)?(?: now| just| already| also| gone ahead and| went ahead and)*"
_I_COULD = r"(?:i|we) (?:was|were) able to|(?:i|we) managed to"
_HE = r"(?:ya )?(?:(?:se )?(?:le|te|la|lo|los|las|les) )?(?:he|hemos|ha|han)(?: sido)?(?: podido)?"
_QUEDA = r"(?:queda|quedó|quedado|está|están|ya está|ha quedado|se ha)(?: usted)?(?: ya| todo)?(?: quedado)?"

_DONE: dict[Deed, re.Pattern[str]] = {
    "booking": _any(
        rf"\b{_I_DID} (?:booked|scheduled|reserved|put you down|got you (?:booked|scheduled|down|in)|"
        r"set (?:it|that) up)\b",
        rf"\b{_I_DID} made (?:you )?(?:the|your|an|that) (?:appointment|booking|reservation)\b",
        rf"\b(?:{_I_COULD}) (?:book|schedule|reserve|get you)\b",
        rf"\b{_THING}(?:'s been| has been| was) {_ADVERB.strip()} ?(?:booked|scheduled|reserved|made)\b",
        r"^(?:all )?(?:booked|scheduled|reserved)\b(?! (?:up|out|solid|until))",
        rf"\b{_HE} (?:reservad[oa]|agendad[oa]|programad[oa]|apuntad[oa]|concertad[oa])s?\b",
        r"\b(?:reservé|agendé|programé|apunté)\b",
        rf"\b{_HE} (?:reservar|agendar|programar)(?:le|la|lo)?\b",
    ),
    "change": _any(
        rf"\b{_I_DID} (?:moved|rescheduled|changed|switched|pushed|shifted|brought forward)\b",
        rf"\b(?:{_I_COULD}) (?:move|reschedule|change|switch|shift)\b",
        rf"\b{_THING}{_BE}{_ADVERB} (?:moved|rescheduled|changed|switched|shifted)\b",
        r"^(?:all )?(?:moved|rescheduled)\b",
        rf"\b(?:{_HE}|{_QUEDA}) (?:cambiad[oa]|movid[oa]|trasladad[oa]|reprogramad[oa]|aplazad[oa]|"
        r"adelantad[oa])s?\b",
        r"\b(?:cambié|moví|reprogramé|trasladé|adelanté|aplacé)\b",
    ),
    "cancellation": _any(
        rf"\b{_I_DID} (?:cancell?ed|called off)\b",
        rf"\b(?:{_I_COULD}) cancel\b",
        rf"\b{_THING}{_BE}{_ADVERB} (?:cancell?ed|called off)\b",
        r"^(?:all )?cancell?ed\b",
        rf"\b(?:{_HE}|{_QUEDA}) (?:cancelad[oa]|anulad[oa])s?\b",
        r"\b(?:cancelé|anulé)\b",
    ),
    "message": _any(
        rf"\b{_I_DID} (?:passed|forwarded|sent|relayed|handed) (?:it|that|this|your|the|them|everything)\b",
        rf"\b{_I_DID} (?:taken|took|left|noted|written down|recorded) (?:down )?(?:it|that|this|your|the|"
        r"a) ?(?:[\w'-]+ )?(?:message|request|note)\b",
        rf"\b{_I_DID} (?:let|told|notified|informed) (?:the|them|him|her|our|dr|doctor|everyone)\b",
        r"\b(?:your|the|that) message(?:'s| is| has| was)(?: been)?(?: now| already)? (?:passed on|sent|"
        r"taken|left|noted|saved|on its way|with)\b",
        rf"\b{_HE} (?:pasado|dejado|anotado|tomado|transmitido|enviado|apuntado) (?:el|su|tu|un|una|"
        r"la) (?:mensaje|recado|nota|aviso)\b",
        rf"\b(?:mensaje|recado|aviso) (?:ya )?(?:{_QUEDA}|ha sido) (?:pasado|anotado|enviado|transmitido|"
        r"registrado)\b",
    ),
    "record": _any(
        rf"\b{_I_DID} (?:updated|corrected|saved|changed|added|fixed|noted) (?:that|your|the|it|"
        r"a note)\b(?! message)",
        r"\b(?:your|the) (?:[\w'-]+ ){0,2}(?:number|name|email|e-mail|address|details|record|file|"
        r"information)(?:'s| is| are| has been| have been)(?: now)? (?:updated|corrected|saved|changed|"
        r"noted)\b",
        rf"\b{_I_DID} made a note\b",
        rf"\b{_HE} (?:actualizado|corregido|guardado|anotado|registrado) (?:su|sus|el|la|los|"
        r"una)\b(?! (?:mensaje|recado))",
        rf"\b(?:sus? (?:datos|número|nombre|correo|dirección|teléfono)) {_QUEDA} (?:actualizad|corregid|"
        r"guardad|anotad|cambiad)[oa]s?\b",
    ),
}

_STATE: dict[Deed, re.Pattern[str]] = {
    "booking": _any(
        rf"\byou(?:'re| are){_ADVERB} (?:booked|scheduled|down for|confirmed|set for|set up for|in for|"
        r"on the (?:schedule|calendar|books))\b",
        rf"\b{_THING}(?:'s| is| are){_ADVERB} (?:booked|scheduled|confirmed|reserved|set|in the (?:calendar|"
        r"diary|book|books|system))\b",
        r"\b(?:i|we)(?:'ve| have) (?:got )?you (?:booked|scheduled|down|in)\b",
        r"\byou(?:'ve| have) (?:got )?(?:an?|your) (?:[\w'-]+ ){0,3}(?:appointment|booking|visit)\b",
        rf"\b{_QUEDA} (?:reservad[oa]|agendad[oa]|confirmad[oa]|programad[oa]|apuntad[oa])s?\b",
        r"\btiene (?:ya )?(?:su|una|la) cita\b",
    ),
    "change": _any(
        rf"\b{_THING}(?:'s| is) now (?:on|at|for|booked|scheduled|set)\b",
        r"\bsu cita (?:es|está|queda) ahora\b",
    ),
}

_WILL = (
    r"(?:i'll|i will|i'm going to|i am going to|i'm gonna|we'll|we will|we're going to|let me)"
    r"(?: now| just| go ahead and| quickly| gladly| definitely| certainly| make sure (?:to|i)| be sure to| get to)*"
)
_DOING = r"(?:i'm|i am)(?: now| just)?"
_THEY = (
    r"(?:they|someone|somebody|one of (?:us|our [\w]+|the [\w]+)|(?:the|our|a|your) "
    r"(?:[\w'-]+ ){0,2}(?:staff|team|office|dentist|doctor|manager|colleague|plumber|electrician|engineer|"
    r"hygienist|receptionist)"
    r"|dr [\w'-]+|we|i|he|she|[\w'-]+)(?:'ll| will|'s going to| is going to|'re going to| are going to)"
)
_VOY = r"(?:voy a|vamos a|permítame|déjeme)"
_LE = r"(?:se )?(?:le|te|la|lo|se lo|se la)"

_ANNOUNCED: dict[Deed, re.Pattern[str]] = {
    "booking": _any(
        rf"\b{_WILL} (?:book|schedule|reserve|put you (?:down|in)|get you (?:in|booked|scheduled|down)|"
        r"set (?:that|it|this) up|make (?:the|that|your|an) (?:appointment|booking|reservation))\b",
        rf"\b{_DOING} (?:booking|scheduling|reserving)\b",
        rf"\b(?:{_LE} )?(?:reservaré|agendaré|programaré|apuntaré)\b",
        rf"\b{_LE} (?:reservo|agendo|programo|apunto)\b",
        rf"\b{_VOY} (?:reservar|agendar|programar|apuntar)(?:le|la|lo|se)?\b",
    ),
    "change": _any(
        rf"\b{_WILL} (?:move|reschedule|switch|shift|change (?:it|that|your appointment|the appointment|"
        r"the time|the day))\b",
        rf"\b{_DOING} (?:moving|rescheduling|switching)\b",
        rf"\b(?:{_LE} )?(?:cambiaré|moveré|reprogramaré|trasladaré)\b",
        rf"\b(?:{_LE} (?:cambio|muevo|reprogramo|traslado)|(?:cambio|muevo|reprogramo) su cita)\b",
        rf"\b{_VOY} (?:cambiar|mover|reprogramar|trasladar)(?:le|la|lo)?\b",
    ),
    "cancellation": _any(
        rf"\b{_WILL} (?:cancel|call (?:it|that) off)\b",
        rf"\b{_DOING} (?:cancell?ing)\b",
        rf"\b(?:{_LE} )?(?:cancelaré|anularé|cancelo|anulo)\b",
        rf"\b{_VOY} (?:cancelar|anular)(?:le|la|lo)?\b",
    ),
    "message": _any(
        rf"\b{_WILL} (?:pass|forward|relay|hand|send) (?:it|that|this|your|the|them|everything)\b",
        rf"\b{_WILL} (?:take|leave|write down|note down|note) (?:down )?(?:a|your|the|that|this|"
        r"it)(?: [\w'-]+)? ?(?:message|note|request)?(?: for| down|$|\b)",
        rf"\b{_WILL} (?:let|tell|notify|inform|ask) (?:the|them|him|her|our|dr|doctor|someone|somebody|everyone)\b",
        rf"\b{_WILL} have (?:[\w'-]+ ){{1,3}}(?:call|ring|phone|contact|get back)\b",
        rf"\b{_THEY} (?:call|ring|phone|contact|reach out|get back|be in touch|follow up)\b",
        r"\bexpect (?:a|their|our) call\b",
        rf"\b(?:{_LE} )?(?:pasaré|transmitiré|dejaré|enviaré|comunicaré|haré llegar|diré)\b(?! (?:adiós|con))",
        rf"\b{_LE} paso (?:el|su|un|este) (?:mensaje|recado)\b",
        rf"\b{_VOY} (?:pasar|dejar|transmitir|enviar|anotar)(?:le|lo|la|les)? (?:el|su|un|este) (?:mensaje|"
        r"recado|aviso)\b",
        r"\b(?:le|lo|la|te|les) (?:llamarán|llamará|llamaremos|devolverán|devolveremos|devolverá|"
        r"contactarán|contactará|contactaremos|van a llamar|vamos a llamar|va a llamar)\b",
        r"\bse pondrán? en contacto\b",
    ),
    "record": _any(
        rf"\b{_WILL} (?:update|correct|save|fix|change) (?:that|your (?:number|name|email|e-mail|address|"
        r"details|record|file|information))\b",
        rf"\b{_WILL} (?:make a note|add (?:a note|that to your))\b",
        rf"\b{_VOY} (?:actualizar|corregir|guardar)(?:le|lo|la)?\b",
        r"\b(?:actualizaré|corregiré|guardaré) (?:su|sus|el|los|la)\b",
    ),
    "transfer": _any(
        rf"\b{_WILL} (?:put you (?:through|on)|transfer (?:you|the call|this call|your call)|connect you|"
        r"hand you over)\b",
        rf"\b{_WILL} get (?:you )?(?:someone|somebody|a person|a colleague|a human)\b",
        rf"\b{_DOING} (?:putting you (?:through|on)|transferring|connecting|handing you over)\b",
        rf"\b{_LE} (?:paso|transfiero|comunico|conecto|pasaré|transferiré|comunicaré|conectaré) con\b",
        rf"\b{_VOY} (?:transferir|pasar|comunicar|conectar)(?:le|lo|la) con\b",
    ),
}

_SURE = re.compile(
    r"\b(?:i can (?:confirm|tell you|see)(?: that)?|(?:i'm|i am|we're) (?:happy|glad|pleased) to (?:say|"
    r"confirm|tell you|report)(?: that)?|"
    r"puedo confirmar(?:le)?(?: que)?|le confirmo(?: que)?)\b"
)
"""What makes no offer of what follows it, though it sounds like one."""
_UNLESS = re.compile(
    r"\b(?:if|unless|provided|in case|as soon as|(?:once|when|after|before|until) (?:you|i|we)\b|"
    r"si|cuando|en cuanto|una vez|antes de que|después de que|a menos)\b"
)
_NOT_SO = re.compile(
    r"\b(?:not|never|no|nothing|nobody|isn't|aren't|wasn't|weren't|hasn't|haven't|couldn't|can't|cannot|"
    r"won't|don't|didn't|"
    r"unable|without|yet|can|may|if|when|once|shall|should|would|could|might|want|wanted|like|need|try|trying|tried|"
    r"nunca|todavía|aún|tampoco|sin|puedo|podemos|puede|podría|si|cuando|quiere|necesito|necesita)\b"
)
_ASKS_AGAIN = re.compile(
    r"^(?:is|does|do|did|are|was|would|shall|should|can|could|may|ok|okay|right|correct|all right|sound|"
    r"sounds|good|yes|"
    r"¿|está|es correcto|le parece|de acuerdo|correcto|confirma|vale)\b|^¿"
)
_ABBREVIATION = re.compile(r"\b(a|p)\.\s?m\.|\b(dr|dra|mr|mrs|ms|sr|sra|st|no)\.", re.IGNORECASE)


def sayings(text: str) -> Iterator[Saying]:
    """What a turn says about deeds, in order."""
    sentences = _sentences(text)
    for number, sentence in enumerate(sentences):
        following = sentences[number + 1] if number + 1 < len(sentences) else ""
        is_offer = (
            sentence.endswith("?")
            or bool(_UNLESS.search(sentence))
            or (following.endswith("?") and bool(_ASKS_AGAIN.search(following)))
        )
        for clause in _clauses(sentence):
            yield from _of_clause(clause, is_offer)


def _of_clause(clause: str, is_offer: bool) -> Iterator[Saying]:
    sure = _SURE.sub("", clause).strip()
    if sure.endswith("?") or sure.startswith("¿"):
        return
    for rules, done, state in ((_DONE, True, False), (_STATE, True, True), (_ANNOUNCED, False, False)):
        for deed, pattern in rules.items():
            found = pattern.search(sure)
            if found is None or (not done and is_offer) or _NOT_SO.search(sure[: found.end()]):
                continue
            yield Saying(deed, done, state, clause)


def _sentences(text: str) -> list[str]:
    plain = text.casefold().replace("’", "'").replace("´", "'")
    plain = _ABBREVIATION.sub(lambda match: f"{match[1]}m" if match[1] else match[2], plain)
    return [sentence.strip() for sentence in re.split(r"(?<=[.!?…])\s+", plain) if sentence.strip()]


def _clauses(sentence: str) -> list[str]:
    """Parts that stand for themselves: what is asked at the end does not make a question of what came before."""
    asked = sentence.endswith("?")
    parts = [part.strip(" .!…") for part in re.split(r"[,;:—–]\s+|\s+(?:but|so|and then|pero)\s+|(?=¿)", sentence)]
    parts = [part for part in parts if part.strip("?")]
    if asked and len(parts) == 1 and not parts[0].endswith("?"):
        parts[0] += "?"
    return parts


_GENERIC = _any(
    r"\b(?:all set|taken care of|see you|look(?:ing)? forward to)\b",
    r"\b(?:that's|it's|all) (?:done|sorted|set|arranged|settled|confirmed)\b",
    r"\b(?:booked|confirmed|scheduled|reserved|moved|rescheduled|cancell?ed|passed on|noted|saved|updated|"
    r"corrected)\b",
    r"\b(?:listo|hecho|arreglado|solucionado|nos vemos|l[eoa] esperamos|hasta el)\b",
    r"\b(?:reservad|agendad|confirmad|cambiad|movid|cancelad|anulad|anotad|guardad|actualizad|registrad)[oa]s?\b",
)


def tells_a_result(text: str) -> bool:
    """Whether words may tell the caller that something was done, however they put it."""
    return any(
        _GENERIC.search(clause) and not clause.endswith("?") and not _NOT_SO.search(clause)
        for sentence in _sentences(text)
        for clause in _clauses(sentence)
    )
