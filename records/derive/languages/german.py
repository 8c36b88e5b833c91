"""German: what is told as done, how things stand, what is announced; days and times. Folded: ss stands for ß."""

from __future__ import annotations

import re

from records.derive.languages.rules import Rules, Times, any_of, numbered, words_of

# -- days and times ---------------------------------------------------------------------------------------------------

_WEEKDAYS = numbered("montag dienstag mittwoch donnerstag freitag samstag/sonnabend sonntag")
_MONTHS = numbered("januar/jänner februar märz april mai juni/juno juli august september oktober november dezember", 1)
_ONES = numbered("null ein/eins zwei/zwo drei vier fünf sechs sieben acht neun")
_NUMBERS = _ONES | numbered("zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig", 10)
_TENS = {"zwanzig": 20, "dreissig": 30, "vierzig": 40, "fünfzig": 50}
_NUMBERS |= _TENS | {f"{one}und{ten}": _TENS[ten] + _ONES[one] for ten in _TENS for one in _ONES if _ONES[one]}
_ORDINALS = {"erst": 1, "dritt": 3, "siebt": 7, "acht": 8} | {
    f"{word}{'t' if number < 20 else 'st'}": number
    for word, number in _NUMBERS.items()
    if number <= 31 and number not in (0, 1, 3, 7, 8)
}
_ORDINALS = {word + end: number for word, number in _ORDINALS.items() for end in ("e", "en", "er")}
_PARTS = {"viertel": 15}
_AHEAD = {"für heute": 0, "morgen": 1, "übermorgen": 2}
_N = rf"(?:\d{{1,2}}|{words_of(_NUMBERS)})"
_MONTH = words_of(_MONTHS)
_PART_OF_DAY = r"(?:morgen|vormittag|mittag|nachmittag|abend|früh)"
_WEEKDAY = rf"(?P<weekday>{words_of(_WEEKDAYS)})(?={_PART_OF_DAY}?\b){_PART_OF_DAY}?"

TIMES = Times(
    weekdays=_WEEKDAYS,
    months=_MONTHS,
    numbers=_NUMBERS | _ORDINALS,
    parts=_PARTS,
    ahead=_AHEAD,
    dates=any_of(
        rf"\b(?P<day>\d{{1,2}}|{words_of(_ORDINALS)})\.? (?P<month>{_MONTH})\b",
        r"\b(?P<day2>\d{1,2})\.(?P<month2>\d{1,2})\.(?:\d{4})?",
        rf"\b{_WEEKDAY}",
        rf"(?<!guten )(?<!am )(?<!heute )(?<!jeden )\b(?P<ahead>{words_of(_AHEAD)})\b",
    ),
    times=any_of(
        r"\b(?P<h>\d{1,2}):(?P<m>\d\d)(?: ?uhr\b)?(?!\d)",
        r"\b(?:um )?(?P<h2>\d{1,2})\.(?P<m2>\d\d) uhr\b",
        rf"\bhalb (?P<h3>{_N})\b",
        rf"\b(?:dreiviertel|drei viertel) (?P<h4>{_N})\b",
        rf"\b(?:um )?(?P<part>viertel|{_N}(?: minuten)?) (?:nach|(?P<to>vor)) (?P<h5>{_N})\b",
        rf"\b(?:um )?(?P<h6>{_N}) uhr(?: (?P<m6>{_N})\b)?",
        rf"\bum (?P<h7>{_N})\b(?! (?:euro|prozent|minuten|stunden|tage?))(?![.:]\d)",
        r"\b(?P<noon>mittag|mittags)\b",
    ),
    link=re.compile(
        rf"[ ,]*(?:(?:am|um|den|dem|der|des|für|ab|gegen|{_PART_OF_DAY}s?|in der|kommenden|nächsten)[ ,]*)*"
    ),
    also=re.compile(r"[ ,]*(?:und|sowie)(?: (?:am|um|für|den|auch|dann|einmal))*[ ,]*"),
    number=re.compile(rf"{_N}(?: uhr)?(?: ?(?:bis|und|-|–))? *$"),
    next_hour=re.compile(r"\b(?:halb|dreiviertel|drei viertel) "),
)

# -- deeds ------------------------------------------------------------------------------------------------------------

_I = r"(?:(?:ich|wir) (?:habe?|haben)|(?:habe ich|haben wir))"
_W = r"(?:[\wäöü.:'-]+ ){0,12}?"
"""What stands between the two halves of a German verb."""
_YOUR = (
    r"(?:ihr|der|dieser|ihre|die|beide|euer|dein)(?: [\wäöü'-]+){0,2} ?(?:termine?|buchung|reservierung|besuch|"
    r"behandlung|zahnreinigung|reinigung)"
)
_I_DO = r"(?:ich|wir)"
_TEXT = r"(?:sms|textnachricht|kurznachricht)"
_EMAIL = r"(?:e-?mail|mail)"
_THE_DAY = (
    rf"(?:am |dann am |dann |nächsten |kommenden |diesen )*(?:{words_of(_WEEKDAYS)}{_PART_OF_DAY}?|morgen|"
    rf"übermorgen)\b(?! geschlossen)"
)


def _verb(forms: str) -> str:
    """A verb in the present: ``ich buche``, or ``buche ich``."""
    return rf"\b(?:{_I_DO} (?:{forms})|(?:{forms}) {_I_DO})\b"


RULES = Rules(
    done={
        "booking": any_of(
            rf"\b{_I} {_W}(?:gebucht|reserviert|eingetragen|vereinbart|vorgemerkt|eingeplant)\b",
            rf"\b{_YOUR} (?:{_W})(?:wurden?|worden ist|ist|sind) {_W}(?:eingetragen|gebucht|reserviert) worden\b",
            r"^(?:alles )?(?:gebucht|eingetragen|reserviert)\b",
        ),
        "change": any_of(
            rf"\b{_I} {_W}(?:verschoben|umgebucht|verlegt|geändert|vorgezogen)\b",
            rf"\b{_YOUR} {_W}(?:wurden?|ist|sind) {_W}(?:verschoben|umgebucht|verlegt|vorgezogen)\b",
        ),
        "cancellation": any_of(
            rf"\b{_I} {_W}(?:abgesagt|storniert|gestrichen|gelöscht)\b",
            rf"\b{_YOUR} {_W}(?:wurden?|ist|sind) {_W}(?:abgesagt|storniert|gestrichen|gelöscht)\b",
            r"^(?:abgesagt|storniert)\b",
        ),
        "message": any_of(
            rf"\b{_I} {_W}(?:weitergegeben|weitergeleitet|ausgerichtet|hinterlassen)\b",
            rf"\b{_I} {_W}(?:nachricht|mitteilung|anliegen|bitte) {_W}(?:aufgenommen|notiert|übermittelt|"
            rf"aufgeschrieben)\b",
            rf"\b{_I} {_W}(?:bescheid gesagt|bescheid gegeben|informiert|verständigt)\b",
            rf"\bihre (?:nachricht|mitteilung) (?:ist|wurde) {_W}(?:weitergegeben|weitergeleitet|notiert|"
            rf"aufgenommen|gespeichert)\b",
        ),
        "record": any_of(
            rf"\b{_I} {_W}(?:nummer|telefonnummer|adresse|daten|namen?|e-?mail-?adresse) {_W}(?:aktualisiert|"
            r"korrigiert|gespeichert|berichtigt|hinterlegt|geändert)\b",
            rf"\bihre (?:nummer|telefonnummer|adresse|daten|e-?mail-?adresse) (?:ist|sind|wurden?) {_W}(?:aktualisiert|"
            r"korrigiert|gespeichert|berichtigt|hinterlegt|geändert)\b",
        ),
        "text": any_of(rf"\b{_I} {_W}{_TEXT} {_W}(?:geschickt|gesendet|geschrieben|verschickt)\b"),
        "email": any_of(rf"\b{_I} {_W}{_EMAIL} {_W}(?:geschickt|gesendet|geschrieben|verschickt)\b"),
        "anything": any_of(
            r"\bbetrachten sie (?:es|das) als erledigt\b",
            r"^(?:(?:das|es|alles|schon|ist|nun) )*ist (?:schon |alles |jetzt |hiermit )*erledigt$",
            rf"\b{_I} (?:das|es|alles) {_W}erledigt$",
        ),
    },
    state={
        "booking": any_of(
            rf"\bsie sind {_W}(?:gebucht|eingetragen|vorgemerkt|eingeplant|angemeldet)\b",
            rf"\b{_YOUR} {_W}(?:ist|sind|steht|stehen) {_W}(?:gebucht|eingetragen|reserviert|bestätigt|vorgemerkt|"
            rf"fest)\b",
            rf"\b(?:ist|sind) {_W}{_YOUR} {_W}(?:gebucht|eingetragen|reserviert|bestätigt|vorgemerkt)\b",
            r"\btermin steht$",
            rf"\bdass (?:{_YOUR}|sie) {_W}(?:gebucht|eingetragen|reserviert|bestätigt|vorgemerkt) (?:ist|sind|wurde)\b",
            rf"\bsie haben {_W}(?:einen |ihren )(?:[\wäöü]+ ){{0,2}}termin\b",
            rf"\b(?:wir sehen uns|wir erwarten sie|wir freuen uns auf sie|sehen wir uns) {_THE_DAY}",
            rf"^(?:also |dann )?bis (?:zum )?{_THE_DAY}(?! (?:haben|ist|sind|hat))",
        ),
        "change": any_of(rf"\b{_YOUR} (?:ist|liegt|findet) (?:jetzt|nun)\b"),
    },
    announced={
        "booking": any_of(
            rf"{_verb('buche|buchen|reserviere|reservieren|vereinbare|vereinbaren')}",
            rf"{_verb('trage|tragen')} {_W}ein\b",
            rf"{_verb('merke|merken')} {_W}vor\b",
            rf"{_verb('werde|werden')} {_W}(?:buchen|reservieren|eintragen|vormerken)\b",
        ),
        "change": any_of(
            rf"{_verb('verschiebe|verschieben|verlege|verlegen|ändere|ändern')} {_W}(?:termin|ihn|das|auf)\b",
            rf"{_verb('buche|buchen')} {_W}um\b(?! {_N})",
            rf"{_verb('werde|werden')} {_W}(?:verschieben|umbuchen|verlegen)\b",
        ),
        "cancellation": any_of(
            rf"{_verb('storniere|stornieren')}",
            rf"{_verb('sage|sagen')} {_W}termin {_W}ab\b",
            rf"{_verb('sage|sagen')} (?:das|ihn|es) {_W}ab\b",
            rf"{_verb('werde|werden')} {_W}(?:absagen|stornieren)\b",
        ),
        "message": any_of(
            rf"{_verb('gebe|geben|leite|leiten')} {_W}weiter\b",
            rf"{_verb('richte|richten')} {_W}aus\b",
            rf"{_verb('sage|sagen|gebe|geben')} {_W}bescheid\b",
            rf"{_verb('werde|werden')} {_W}(?:weitergeben|weiterleiten|ausrichten|bescheid (?:geben|sagen))\b",
            r"\b(?:ruft|rufen|wird|werden) (?:[\wäöü.'-]+ ){0,6}?(?:zurück|zurückrufen|anrufen)\b",
            r"\b(?:meldet|melden) (?:(?:sich|uns|wir uns|jemand) )(?:[\wäöü.'-]+ ){0,5}?(?:bei ihnen|zurück|dann)\b",
            r"\b(?:wird|werden) sich (?:[\wäöü.'-]+ ){0,6}?melden\b",
            r"\bsie werden (?:[\wäöü.'-]+ ){0,5}?(?:zurückgerufen|angerufen)\b",
        ),
        "record": any_of(
            rf"{_verb('aktualisiere|aktualisieren|korrigiere|korrigieren|speichere|speichern|berichtige')} {_W}"
            r"(?:das|ihre[nr]?|die|den)\b",
            rf"{_verb('werde|werden')} {_W}(?:aktualisieren|korrigieren|speichern|berichtigen)\b",
        ),
        "transfer": any_of(
            rf"{_verb('verbinde|verbinden')} (?:sie|ihren anruf)\b",
            rf"{_verb('stelle|stellen')} sie {_W}durch\b",
            rf"{_verb('werde|werden')} sie {_W}(?:verbinden|durchstellen)\b",
        ),
        "text": any_of(
            rf"{_verb('schicke|schicken|sende|senden|schreibe|schreiben')} {_W}{_TEXT}\b",
            rf"\bsie (?:erhalten|bekommen) {_W}(?:eine |per ){_W}{_TEXT}\b",
            rf"{_verb('werde|werden')} {_W}{_TEXT} (?:schicken|senden|schreiben)\b",
        ),
        "email": any_of(
            rf"{_verb('schicke|schicken|sende|senden|schreibe|schreiben|maile')} {_W}{_EMAIL}\b",
            rf"\bsie (?:erhalten|bekommen) {_W}(?:eine |per ){_W}{_EMAIL}\b",
            rf"{_verb('werde|werden')} {_W}{_EMAIL} (?:schicken|senden|schreiben)\b",
        ),
    },
    sure=re.compile(
        r"\b(?:ich kann (?:ihnen )?(?:bestätigen|sagen)|ich freue mich ihnen sagen zu können|"
        r"ich bestätige(?: ihnen)?)\b"
    ),
    unless=re.compile(
        r"\b(?:wenn|falls|sofern|sobald|bevor|ausser|nachdem|ansonsten|sonst|möchten sie|wollen sie|soll ich|"
        r"sollen wir|"
        r"darf ich|vielleicht|gegebenenfalls)\b"
    ),
    not_so=re.compile(
        r"\b(?:nicht|nichts|niemand|nie|niemals|keine?[nmrs]?|kann|können|könnte[nst]*|konnte[nst]*|möchte[nst]*|"
        r"soll(?:en|te|ten)?|"
        r"würden?|wenn|falls|sobald|darf|dürfen|müssen|muss|versuche[nt]?|ohne|leider|hätten?|wäre|bevor|noch keine?n?|"
        r"ob|wollen|will)\b"
    ),
    asks_again=re.compile(
        r"^(?:passt|ist|sind|stimmt|richtig|korrekt|in ordnung|einverstanden|okay|ok|ja|soll|sollen|möchten|darf|wäre|"
        r"recht|geht|haben)\b"
    ),
    generic=any_of(
        r"\b(?:erledigt|alles klar|geregelt|wir sehen uns|bis (?:dann|zum|montag|dienstag|mittwoch|donnerstag|freitag|"
        r"samstag|morgen)|wir freuen uns auf sie)\b",
        r"\b(?:gebucht|eingetragen|reserviert|bestätigt|vorgemerkt|verschoben|umgebucht|abgesagt|storniert|notiert|"
        r"weitergegeben|weitergeleitet|gespeichert|aktualisiert|korrigiert|steht fest|termin steht)\b",
    ),
    several={
        2: re.compile(r"\b(?:beide[ns]?|zwei (?:termine|buchungen|besuche))\b"),
        3: re.compile(r"\b(?:alle drei|drei (?:termine|buchungen|besuche))\b"),
    },
    further=re.compile(r"\b(?:auch|noch einen|noch ein|einen weiteren|den zweiten|den anderen|ebenfalls|ausserdem)\b"),
    times=TIMES,
)
