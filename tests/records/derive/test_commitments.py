"""The commitment check on short calls: what was promised, what was committed, what was heard."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from records.derive.commitments import check, checked, sent_by
from records.derive.transcript import SpokenTurn
from records.record import ToolUse, Turn


def bot(at_ms: float, text: str, unheard: str = "", source: Any = "model") -> SpokenTurn:
    turn = Turn(int(at_ms), "bot", at_ms, at_ms + 2_000, text, unheard, interrupted=bool(unheard), source=source)
    return SpokenTurn(turn)


def use(at_ms: float, name: str, status: str = "ok", committed: str = "", **result: Any) -> ToolUse:
    return ToolUse(1, "fc", name, {}, status, result, "", at_ms, 20.0, (committed,) if committed else ())


def caller(at_ms: float, text: str) -> SpokenTurn:
    return SpokenTurn(Turn(int(at_ms), "caller", at_ms, at_ms + 900, text))


def kinds(turns: list[SpokenTurn], *tools: ToolUse) -> list[tuple[str, int | None]]:
    return [(flag.kind, flag.turn) for flag in check(turns, tools)]


BOOKED = use(
    1_000, "book_appointment", committed="appointment:1", say="Booked for Ada: Cleaning on Tuesday at 9:00 AM."
)
REFUSED = use(1_000, "book_appointment", "refused", error="That time is taken.")
MESSAGE = use(1_000, "take_message", committed="message:7", say="The message is passed on.")


@pytest.mark.parametrize(
    ("turns", "tools", "expected"),
    [
        ([bot(2_000, "You're booked for Tuesday.")], [BOOKED], []),
        ([bot(2_000, "You're booked for Tuesday.")], [], [("promise_without_result", 2_000)]),
        ([bot(2_000, "You're booked for Tuesday.")], [REFUSED], [("promise_without_result", 2_000)]),
        (
            [bot(2_000, "I've cancelled it.")],
            [BOOKED],
            [("promise_without_result", 2_000), ("result_without_words", None)],
        ),
        ([bot(2_000, "I can book you for Tuesday, shall I?")], [], []),
        # Announced and then done, or told why not.
        ([bot(0, "I'll book that for you."), bot(3_000, "All set!")], [BOOKED], []),
        ([bot(0, "I'll book that for you."), bot(3_000, "I'm sorry, that time is taken.")], [REFUSED], []),
        ([bot(0, "I'll book that for you.")], [REFUSED], [("promise_without_result", 0)]),
        ([bot(0, "I'll pass that on.")], [], [("promise_without_result", 0)]),
        ([bot(2_000, "I'll pass that on. Someone will call you back.")], [MESSAGE], []),
        ([bot(2_000, "Se lo comunicaré. Le llamarán hoy.")], [], [("promise_without_result", 2_000)]),
        # What stood in the books before the call may be told.
        (
            [bot(2_000, "You're booked for Monday with Dr. Okafor.")],
            [use(1_000, "list_appointments", appointments=[{"number": 3}])],
            [],
        ),
        (
            [bot(2_000, "I've booked you for Monday.")],
            [use(1_000, "list_appointments", appointments=[{"number": 3}])],
            [("promise_without_result", 2_000)],
        ),
        # Results and what was heard of them.
        ([bot(2_000, "Anything else?")], [BOOKED], [("result_without_words", None)]),
        ([], [BOOKED], [("result_without_words", None)]),
        ([bot(2_000, "So, a cleaning, Tuesday, nine, for Ada")], [BOOKED], []),
        ([bot(2_000, "Well,", "you're booked for Tuesday.")], [BOOKED], [("unheard_result", 2_000)]),
        ([bot(2_000, "Well,", "you're booked."), bot(6_000, "As I said, you're booked.")], [BOOKED], []),
        # A promise that nobody heard is none.
        ([bot(2_000, "Let me see,", "I've booked it.")], [], []),
        # Ready-made words promise nothing.
        ([bot(2_000, "Someone will call you back.", source="clip")], [], []),
    ],
)
def test_promises_and_results_are_matched(
    turns: list[SpokenTurn], tools: list[ToolUse], expected: list[tuple[str, int | None]]
) -> None:
    assert kinds(turns, *tools) == expected


def test_a_flag_tells_the_words_and_the_id() -> None:
    flags = check([bot(2_000, "Great. I've cancelled it.")], [BOOKED])
    assert [flag.detail for flag in flags] == ["cancellation: i've cancelled it", "book_appointment: appointment:1"]


# -- one to one, and on the day that was told -------------------------------------------------------------------------

# 1 December 2026 is a Tuesday, the 4th a Friday.
TUESDAY = use(
    1_000, "book_appointment", committed="appointment:1", start="2026-12-01T09:00",
    say="Booked for Ada: Cleaning with June Abbott on Tuesday, December 1 at 9:00 AM.",
)  # fmt: skip
FRIDAY = use(
    1_200, "book_appointment", committed="appointment:2", start="2026-12-04T16:00",
    say="Booked for Ada: Cleaning with June Abbott on Friday, December 4 at 4:00 PM.",
)  # fmt: skip
MOVED = use(
    1_000, "reschedule_appointment", committed="appointment:1", start="2026-12-04T16:00",
    before="Tuesday, December 1 at 9:00 AM", say="Moved: Cleaning with June Abbott on Friday, December 4 at 4:00 PM.",
)  # fmt: skip
CANCELLED = use(
    1_000, "cancel_appointment", committed="appointment:1", start="2026-12-01T09:00",
    say="Cancelled: Cleaning with June Abbott on Tuesday, December 1 at 9:00 AM.",
)  # fmt: skip
LISTED = use(500, "list_appointments", appointments=[{"number": 3, "start": "2026-12-01T09:00"}])
WITHOUT, CONTRADICTS, UNTOLD = "promise_without_result", "promise_contradicts_result", "result_without_words"


@pytest.mark.parametrize(
    ("said", "tools", "expected"),
    [
        # Told rightly, once and again.
        (["You're booked for Tuesday at nine."], [TUESDAY], []),
        (["You're booked for Tuesday, December 1, at 9 a.m.", "As I said, you're booked for Tuesday."], [TUESDAY], []),
        (["I've booked you for Tuesday at nine.", "I've booked that for you.", "See you Tuesday!"], [TUESDAY], []),
        (["I've booked you for Tuesday at nine and for Friday at four."], [TUESDAY, FRIDAY], []),
        (["I've booked you for Tuesday.", "And I've booked you for Friday as well."], [TUESDAY, FRIDAY], []),
        (["I've booked both appointments."], [TUESDAY, FRIDAY], []),
        (["That's all booked, Tuesday at nine and Friday at four."], [TUESDAY, FRIDAY], []),
        (["You're booked for tomorrow at nine."], [TUESDAY], []),
        (["I've moved your cleaning from Tuesday at nine to Friday at four."], [MOVED], []),
        (["Your appointment on Tuesday at nine is now on Friday at four."], [MOVED], []),
        (["I've cancelled your Tuesday appointment."], [CANCELLED], []),
        (["You're booked for Tuesday at nine."], [LISTED], []),
        (["I'll book Tuesday at nine for you.", "All set!"], [TUESDAY], []),
        # Two promised, one committed.
        (["I've booked you for Tuesday at nine and for Friday at four."], [TUESDAY], [WITHOUT]),
        (["You're booked for Tuesday at nine.", "Your son is booked for Friday at four."], [TUESDAY], [WITHOUT]),
        (["I've booked you for Tuesday at nine and at ten."], [TUESDAY], [WITHOUT]),
        (["I've booked both appointments."], [TUESDAY], [WITHOUT]),
        (["I've booked it.", "I've booked another appointment for your son."], [TUESDAY], [WITHOUT]),
        (["You're booked for Tuesday.", "Now I'll book Friday at four."], [TUESDAY], [WITHOUT]),
        (["You're booked for Tuesday.", "I'll book that for your son now."], [TUESDAY], [WITHOUT]),
        # Another day or time than was committed.
        (["You're booked for Friday at four."], [TUESDAY], [CONTRADICTS]),
        (["You're booked for Tuesday at ten."], [TUESDAY], [CONTRADICTS]),
        (["See you Friday!"], [TUESDAY], [CONTRADICTS]),
        (["I've moved it to Thursday at four."], [MOVED], [CONTRADICTS]),
        (["I've cancelled your Monday appointment."], [CANCELLED], [CONTRADICTS]),
        (["You're booked for the day after tomorrow."], [TUESDAY], [CONTRADICTS]),
        # Two committed, one told.
        (["You're booked for Tuesday at nine."], [TUESDAY, FRIDAY], [UNTOLD]),
        (["Booked for Ada: cleaning with June Abbott on Tuesday at nine."], [TUESDAY, FRIDAY], [UNTOLD]),
        # An appointment that was looked up is on another day.
        (["You're booked for Friday at four."], [LISTED], [WITHOUT]),
        # Promises that no tool keeps.
        (["See you Tuesday at nine!"], [], [WITHOUT]),
        (["Consider it done."], [], [WITHOUT]),
        (["Consider it done. You're booked for Tuesday."], [TUESDAY], []),
        (["I'll send you a text."], [], [WITHOUT]),
        (["I've emailed you the directions."], [], [WITHOUT]),
        (["I've booked you for Tuesday. I'll text you a reminder."], [TUESDAY], [WITHOUT]),
        (["See you Tuesday at nine!"], [TUESDAY], []),
    ],
)  # fmt: skip
def test_each_promise_has_its_result_and_each_result_its_words(
    said: list[str], tools: list[ToolUse], expected: list[str]
) -> None:
    turns = [bot(2_000 + 4_000 * n, text) for n, text in enumerate(said)]
    assert [flag.kind for flag in check(turns, tools, today=date(2026, 11, 30))] == expected


@pytest.mark.parametrize(
    ("language", "right", "wrong"),
    [
        ("de-DE", "Ich habe Sie für Dienstag um neun eingetragen.", "Sie sind für Freitag um 16 Uhr eingetragen."),
        ("de-DE", "Ihr Termin ist bestätigt. Bis Dienstag!", "Ihr Termin am Dienstag um zehn Uhr ist bestätigt."),
        ("fr-FR", "Je vous ai inscrit pour mardi à neuf heures.", "Votre rendez-vous est confirmé pour vendredi."),
        ("es-ES", "Le he reservado el martes a las nueve.", "Le he reservado el viernes a las cuatro."),
    ],
)
def test_other_languages_are_checked_alike(language: str, right: str, wrong: str) -> None:
    def said(text: str, *tools: ToolUse) -> list[str]:
        turn = Turn(1, "bot", 2_000, 4_000, text, language=language)
        return [flag.kind for flag in check([SpokenTurn(turn)], tools)]

    assert said(right, TUESDAY) == []
    assert WITHOUT in said(right)
    assert said(wrong, TUESDAY) == [CONTRADICTS]


def test_who_wants_something_else_after_all_gets_it() -> None:
    turns = [bot(0, "I'll book Monday at nine."), caller(2_500, "No, wait, Tuesday."), bot(5_000, "You're booked.")]
    result = use(4_500, "book_appointment", committed="appointment:1", start="2026-12-01T09:00")
    assert check(turns, [result]) == []
    # Nobody had asked for another day.
    assert [flag.kind for flag in check([turns[0], turns[2]], [result])] == [CONTRADICTS]


def test_a_contradiction_tells_both_sides() -> None:
    (flag,) = check([bot(2_000, "You're booked for Friday at four.")], [TUESDAY])
    assert flag.detail == (
        "booking: you're booked for friday at four; committed: book_appointment: appointment:1, 2026-12-01 09:00"
    )


@pytest.mark.parametrize(
    ("languages", "expected", "flags"),
    [
        (["en-US", "de-DE", "fr", ""], "made", [UNTOLD]),
        (["pl-PL"], "not_made", []),
        (["en-US", "pl-PL"], "partly", []),
        ([], "made", [UNTOLD]),
    ],
)
def test_a_language_without_rules_is_no_alarm_and_says_so(
    languages: list[str], expected: str, flags: list[str]
) -> None:
    words = {"pl-PL": "Wizyta jest umówiona na wtorek."}
    turns = [
        SpokenTurn(Turn(n, "bot", 2_000, 3_000, words.get(language, "Hm."), language=language))
        for n, language in enumerate(languages)
    ]
    assert checked(turns) == expected
    assert [flag.kind for flag in check(turns, [TUESDAY])] == flags


@pytest.mark.parametrize(
    "text",
    [
        "Just to confirm: a cleaning on Tuesday, December 1st at 9 AM for Ada Lovelace, is that right?",
        "I have Tuesday at nine or Thursday at two. Which would you prefer?",
        "You'd be booked with June at nine.",
        "Before I book it, may I have your name?",
        "We do offer emergency visits, and the plumber will call ahead before arriving.",
        "You can cancel or reschedule up to 24 hours before your appointment.",
        "Thanks for calling, we look forward to seeing you!",
        "Once it's booked you'll get a confirmation.",
        "Um den Termin zu buchen, brauche ich Ihren Namen.",
        "Am Dienstag um neun ist noch etwas frei, passt Ihnen das?",
        "Ich schaue nach, ob Sie bei uns eingetragen sind.",
        "Wir haben am Montag von acht bis zwölf geöffnet.",
        "Pour réserver, j'ai besoin de votre nom.",
        "J'ai mardi à neuf heures ou jeudi à quatorze heures, que préférez-vous ?",
        "Vous pouvez annuler jusqu'à vingt-quatre heures avant.",
        "Tengo el martes a las nueve o el jueves a las dos.",
        "Para reservar necesito su nombre.",
    ],
)
def test_everyday_talk_is_no_alarm(text: str) -> None:
    assert check([bot(2_000, text)], []) == []


@pytest.mark.parametrize(
    "text",
    [
        "You're all booked for Tuesday, December 1st at 9 AM. We're at 12 High Street, please come ten minutes early.",
        "Your cleaning is booked, Tuesday at 9. If you need to cancel, call us by Monday at noon.",
        "Okay, you're booked. See you Tuesday. We open at eight, Monday to Friday.",
        "You're booked in for Tuesday from nine to ten.",
        "All done! Tuesday at nine it is.",
        "Your appointment is Tuesday at nine. We'll see you then!",
        "Ihr Termin ist gebucht: Dienstag, 1. Dezember, 9 Uhr. Auf Wiederhören!",
        "Ich habe Ihre Zahnreinigung am Dienstag, dem 1. Dezember, um neun Uhr bei June Abbott eingetragen.",
        "Super, dann bis Dienstag um neun!",
        "C'est fait, votre détartrage est réservé pour le mardi 1er décembre à neuf heures avec June Abbott.",
        "C'est noté pour mardi à neuf heures. Nous sommes ouverts de huit heures à dix-sept heures.",
        "Su limpieza queda reservada para el martes 1 de diciembre a las nueve de la mañana.",
        "Su cita está confirmada: martes a las 9:00.",
    ],
)
def test_a_booking_that_was_told_rightly_is_no_alarm(text: str) -> None:
    assert check([bot(2_000, text)], [TUESDAY], today=date(2026, 11, 27)) == []


def test_what_the_business_sends_by_itself_may_be_announced() -> None:
    sends = sent_by('{"answer": "You get a text message when they set off to you."}')
    assert sends == {"text"}
    assert check([bot(2_000, "You'll get a text message before they come.")], [], sends=sends) == []
    # The bot itself has sent nothing.
    assert [flag.kind for flag in check([bot(2_000, "I've sent you a text.")], [], sends=sends)] == [WITHOUT]
