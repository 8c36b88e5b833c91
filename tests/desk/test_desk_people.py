"""Customers, notes, messages and answers."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.errors import NotOffered, NotUnderstood
from desk.business import Faq

PHONE = "+12125550101"


@pytest.fixture
def later(clock):
    """Let a minute pass."""

    def run():
        clock.now += timedelta(minutes=1)

    return run


@pytest.mark.parametrize(
    "said", ["+1 (212) 555-0101", "212-555-0101", "tel:+1-212-555-0101", "2125550101", "１２１２５５５０１０１"]
)
def test_a_number_is_the_same_however_it_is_written(desk, customer_id, said):
    assert desk.find_customer(said).id == customer_id
    assert desk.create_customer(name="maria  LOPEZ", phone=said, key="again").id == customer_id


def test_numbers_without_country_code_belong_to_the_business_country(open_desk):
    berlin = open_desk(id="berlin", phone_country="DE", timezone="Europe/Berlin")
    assert berlin.create_customer(name="Jürgen Groß", phone="030 901820", key="k").phone == "+4930901820"
    assert berlin.find_customer("+4930901820").name == "Jürgen Groß"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("5550101", "lacks its area code"),
        ("+1 212 555 01", "too short"),
        ("+1 212 555 0101 2233", "too long"),
        ("call me", "not a phone number"),
        ("+999 123 456", "not a phone number"),
        ("", "not a phone number"),
    ],
)
def test_what_cannot_be_a_number_is_asked_for_again(desk, said, words):
    with pytest.raises(NotUnderstood, match=words) as refusal:
        desk.create_customer(name="Jo Day", phone=said, key="k")
    assert refusal.value.hint


def test_a_withheld_number_finds_nobody_but_a_wrong_one_is_told(desk, customer_id):
    for withheld in ("", "anonymous", "Restricted"):
        assert desk.find_customer(withheld) is None
        assert desk.find_customers(withheld) == []
    assert desk.find_customer("+12125559999") is None
    with pytest.raises(NotUnderstood):
        desk.find_customer("123")


@pytest.mark.parametrize("name", ["", " \n", "\0", "42", "!?", "x" * 121])
def test_what_is_no_name_is_asked_for_again(desk, name):
    with pytest.raises(NotUnderstood, match="not a name"):
        desk.create_customer(name=name, phone=PHONE, key="k")


@pytest.mark.parametrize(
    "name", ["Ng", "O'Neil-Smith Jr.", "李小龙", "Søren Ålborg", "x'); DROP TABLE desk_customers; --"]
)
def test_names_are_kept_as_they_are(desk, name):
    assert desk.create_customer(name=f"  {name} ", phone=PHONE, key="k").name == name
    assert desk.find_customer(PHONE).name == name


def test_a_family_shares_a_number_and_the_one_who_was_active_last_comes_first(desk, customer_id, later):
    later()
    child = desk.create_customer(name="Tim Lopez", phone=PHONE, key="tim")
    assert [person.name for person in desk.find_customers(PHONE)] == ["Tim Lopez", "Maria Lopez"]
    later()
    desk.add_note(customer_id, "called about the bill", key="note")
    assert [person.name for person in desk.find_customers(PHONE)] == ["Maria Lopez", "Tim Lopez"]
    later()
    start = datetime(2026, 5, 4, 9)  # noqa: DTZ001
    desk.book(service_id="checkup", start=start, customer_id=child.id, key="book")
    assert desk.find_customer(PHONE) == child


def test_creating_somebody_again_keeps_what_is_known_and_adds_a_missing_address(desk):
    first = desk.create_customer(name="Jo Day", phone=PHONE, key="1")
    assert first.email == ""
    assert desk.create_customer(name="jo day", phone=PHONE, email="jo@day.org", key="2").email == "jo@day.org"
    again = desk.create_customer(name="JO DAY", phone=PHONE, email="other@day.org", key="3")
    assert (again.id, again.name, again.email) == (first.id, "Jo Day", "jo@day.org")


def test_updating_changes_only_what_is_given(desk, customer_id):
    changed = desk.update_customer(customer_id, email="maria@lopez.org", key="1")
    assert (changed.name, changed.phone, changed.email) == ("Maria Lopez", PHONE, "maria@lopez.org")
    changed = desk.update_customer(customer_id, name="Maria Diaz", phone="212 555 0199", key="2")
    assert (changed.name, changed.phone, changed.email) == ("Maria Diaz", "+12125550199", "maria@lopez.org")
    assert desk.find_customer(PHONE) is None
    assert desk.find_customer("+12125550199") == changed
    assert desk.update_customer(customer_id, email="", key="3").email == ""
    with pytest.raises(NotUnderstood, match="e-mail"):
        desk.update_customer(customer_id, email="maria at lopez", key="4")
    with pytest.raises(NotOffered, match="no customer 999"):
        desk.update_customer(999, name="Jo Day", key="5")


def test_two_customers_cannot_become_the_same(desk, customer_id):
    other = desk.create_customer(name="Tim Lopez", phone=PHONE, key="tim")
    with pytest.raises(NotUnderstood, match="another customer"):
        desk.update_customer(other.id, name="maria lopez", key="1")
    assert {person.name for person in desk.find_customers(PHONE)} == {"Maria Lopez", "Tim Lopez"}
    assert desk.update_customer(other.id, name="Tim M. Lopez", key="1").name == "Tim M. Lopez"


def test_history_tells_everything_newest_first(desk, customer_id, later):
    start = datetime(2026, 5, 4, 9)  # noqa: DTZ001
    booked = desk.book(service_id="checkup", start=start, customer_id=customer_id, key="1")
    later()
    note = desk.add_note(customer_id, "afraid of needles\0", call_id="CA1", key="2")
    later()
    message = desk.take_message(caller_phone=PHONE, name="Maria Lopez", text="call me", urgent=True, key="3")
    later()
    moved = desk.reschedule(appointment_id=booked.id, start=start + timedelta(hours=1), key="4")
    assert (note.text, note.call_id, message.urgent, message.customer_id) == (
        "afraid of needles",
        "CA1",
        True,
        customer_id,
    )
    assert desk.history(customer_id) == [message, note, moved]
    assert desk.history(999) == []


def test_history_is_cut_at_the_newest_fifty(desk, customer_id, later):
    for number in range(55):
        later()
        desk.add_note(customer_id, f"note {number}", key=str(number))
    assert [note.text for note in desk.history(customer_id)] == [f"note {number}" for number in range(54, 4, -1)]


def test_a_message_is_tied_to_a_customer_only_if_exactly_one_fits(desk, customer_id):
    def take(**who):
        return desk.take_message(text="please call", key=str(who), **who)

    assert take(caller_phone="212 555 0101", name="").customer_id == customer_id
    assert take(caller_phone=PHONE, name="MARIA lopez").customer_id == customer_id
    assert take(caller_phone=PHONE, name="Somebody Else").customer_id is None
    desk.create_customer(name="Tim Lopez", phone=PHONE, key="tim")
    assert take(caller_phone=PHONE, name=" ").customer_id is None
    withheld = take(caller_phone="anonymous", name="Maria Lopez")
    assert (withheld.caller_phone, withheld.name, withheld.customer_id) == ("", "Maria Lopez", None)


def test_texts_that_say_nothing_or_too_much_are_refused(desk, customer_id):
    for text in ("", " \0\n "):
        with pytest.raises(NotUnderstood, match="no text"):
            desk.add_note(customer_id, text, key="k")
    with pytest.raises(NotUnderstood, match="longer than 4000"):
        desk.take_message(caller_phone=PHONE, name="", text="x" * 4001, key="k")
    with pytest.raises(NotUnderstood, match="phone number"):
        desk.take_message(caller_phone="12", name="", text="x", key="k")
    with pytest.raises(NotOffered, match="no customer 999"):
        desk.add_note(999, "x", key="k")


@pytest.mark.parametrize(
    ("words", "question"),
    [
        ("parking", "Where can I park?"),
        ("is there any PARKING near you?", "Where can I park?"),
        ("do you take my insurance", "Which insurance plans do you accept?"),
        ("Aetna", "Which insurance plans do you accept?"),
        ("how much is a cleaning", "What does a cleaning cost?"),
        ("my child is scared", "Do you treat children?"),
        ("café", "Do you treat children?"),
    ],
)
def test_the_best_answer_comes_first(desk, words, question):
    assert desk.search_faq(words)[0].question == question


@pytest.mark.parametrize("words", ["", "   ", "do you sell bicycles", "what are the", "?!\"'()*:^-+|&<->", "NOT", "\0"])
def test_words_without_an_answer_find_nothing(desk, words):
    assert desk.search_faq(words) == []


@pytest.mark.parametrize(
    "words",
    [
        '"parking" OR',
        "parking AND",
        "NEAR(parking",
        "question:parking",
        "parking*",
        "'parking",
        "a:*|parking",
        "(parking)",
    ],
)
def test_query_syntax_is_only_words(desk, words):
    assert desk.search_faq(words)[0].question == "Where can I park?"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.text(max_size=60) | st.text("\"'&|!()<>:*^~-+\\ abANDORNEAR", max_size=40))
def test_any_text_is_a_safe_query(desk, words):
    assert len(desk.search_faq(words)) <= 3


def test_the_number_of_answers_is_limited(desk):
    assert len(desk.search_faq("insurance cleaning parking children")) == 3
    assert len(desk.search_faq("insurance cleaning parking children", limit=1)) == 1


def test_answers_follow_the_business_when_a_desk_opens(desk, open_desk, rows):
    assert desk.search_faq("parking")
    changed = open_desk(faq=(Faq("Do you sell bicycles?", "No."), Faq("Which insurance plans do you accept?", "All.")))
    assert changed.search_faq("parking") == []
    assert changed.search_faq("bicycle") == [Faq("Do you sell bicycles?", "No.")]
    assert changed.search_faq("insurance")[0].answer == "All."
    assert rows("SELECT count(*) FROM desk_faq") == [(2,)]
    before = rows("SELECT id, question FROM desk_faq ORDER BY id")
    again = open_desk(faq=changed.business.faq)
    again.open()
    assert rows("SELECT id, question FROM desk_faq ORDER BY id") == before
    other = open_desk(id="other", faq=(Faq("Is there parking?", "Here."),))
    assert other.search_faq("parking") == [Faq("Is there parking?", "Here.")]
    assert changed.search_faq("parking") == []
    assert open_desk(faq=()).search_faq("bicycle") == []
