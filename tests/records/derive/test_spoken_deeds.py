"""What counts as a promise and what does not, in the languages of the rules."""

from __future__ import annotations

import pytest

from records.derive.spoken_deeds import sayings, tells_a_result

DONE = [
    ("booking", "You're booked for Tuesday at three."),
    ("booking", "Great, you’re all booked in with June Abbott."),
    ("booking", "I've booked you for Tuesday, is there anything else?"),
    ("booking", "Okay, I have scheduled that for you."),
    ("booking", "Your appointment is confirmed for Monday at 9 a.m. See you then."),
    ("booking", "I can confirm that you're booked with Dr. Okafor."),
    ("booking", "I was able to book the last slot."),
    ("booking", "Booked for Ada Lovelace: Cleaning with June Abbott."),
    ("booking", "We've got you down for the twelfth."),
    ("booking", "Le he reservado una limpieza para el martes."),
    ("booking", "Perfecto, su cita está confirmada para el lunes."),
    ("booking", "No se preocupe, ya queda reservada."),
    ("booking", "Ya le agendé la cita."),
    ("change", "I've moved your cleaning to Thursday."),
    ("change", "Your appointment has been rescheduled."),
    ("change", "That's now on Friday at ten."),
    ("change", "Hemos cambiado su cita al jueves."),
    ("change", "Su cita queda reprogramada."),
    ("cancellation", "I've cancelled it."),
    ("cancellation", "Your appointment on Monday is canceled."),
    ("cancellation", "He cancelado su cita."),
    ("cancellation", "Su cita ha sido anulada, ¿algo más?"),
    ("message", "I've passed that on to the staff."),
    ("message", "Your message is with the dentist."),
    ("message", "I have taken a message for Dr. Lindqvist."),
    ("message", "He pasado el recado al doctor."),
    ("record", "I've updated your phone number."),
    ("record", "Your address has been corrected."),
    ("record", "He actualizado sus datos."),
]
ANNOUNCED = [
    ("booking", "I'll book that for you now."),
    ("booking", "Let me go ahead and book that."),
    ("booking", "I'm booking you in."),
    ("booking", "Voy a reservarle la cita."),
    ("booking", "Le reservo la cita ahora mismo."),
    ("change", "I'll move it to Thursday."),
    ("change", "Voy a cambiarle la cita."),
    ("cancellation", "Alright, I'll cancel that one."),
    ("cancellation", "Voy a cancelar su cita."),
    ("message", "I'll pass that on."),
    ("message", "I'll let the team know."),
    ("message", "Someone will call you back this afternoon."),
    ("message", "The dentist will call you before noon."),
    ("message", "I'll have someone call you."),
    ("message", "Le llamarán esta tarde."),
    ("message", "Alguien del equipo le llamará."),
    ("record", "I'll update your number."),
    ("transfer", "I'll put you through to the front desk."),
    ("transfer", "One moment, I'm transferring you now."),
    ("transfer", "Le comunico con un compañero."),
]
NEITHER = [
    "I can book you for Tuesday, shall I?",
    "Shall I book that for you?",
    "Would you like me to cancel it?",
    "If you like, I'll book the nine o'clock.",
    "Once you confirm, I'll book it.",
    "I'll book a cleaning on Tuesday at nine. Is that right?",
    "I'm sorry, nothing is booked yet.",
    "I couldn't book that time.",
    "I haven't cancelled anything.",
    "You can leave a message, and the staff can call you.",
    "Tuesday is booked out, I'm afraid.",
    "We are open from eight to five.",
    "Please cancel or move at least 24 hours ahead.",
    "What name should I put it under?",
    "May I have your number, in case we are cut off?",
    "Have you booked with us before?",
    "Did you want that cancelled?",
    "I can take a message for the doctor.",
    "Shall I put you through to somebody?",
    "I can connect you with the front desk, if you like.",
    "¿Quiere que le reserve la cita?",
    "¿Le reservo la cita?",
    "Puedo reservarle el martes a las nueve.",
    "Si quiere, le reservo el martes.",
    "No he podido reservar esa hora.",
    "Todavía no está confirmada.",
    "Abrimos a las ocho.",
]


@pytest.mark.parametrize(("deed", "text"), DONE, ids=[text for _, text in DONE])
def test_what_is_told_as_done_is_a_claim(deed: str, text: str) -> None:
    assert (deed, True) in {(saying.deed, saying.done) for saying in sayings(text)}


@pytest.mark.parametrize(("deed", "text"), ANNOUNCED, ids=[text for _, text in ANNOUNCED])
def test_what_will_be_done_is_an_announcement(deed: str, text: str) -> None:
    assert {(saying.deed, saying.done) for saying in sayings(text)} == {(deed, False)}


@pytest.mark.parametrize("text", NEITHER)
def test_an_offer_a_question_a_condition_and_a_denial_are_no_promise(text: str) -> None:
    assert list(sayings(text)) == []


@pytest.mark.parametrize(
    "text", ["All set, see you Tuesday!", "That's done.", "Listo, le esperamos el martes.", "Confirmed for nine."]
)
def test_a_result_can_be_told_in_many_words(text: str) -> None:
    assert tells_a_result(text)


@pytest.mark.parametrize(
    "text", ["One moment please.", "Is that confirmed?", "It is not confirmed yet.", "Un momento."]
)
def test_words_that_tell_nothing_are_no_result(text: str) -> None:
    assert not tells_a_result(text)
