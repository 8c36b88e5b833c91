"""Flow files: what the two in flows/ hold, and that every slip is told with its line and a cure, all at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import date, time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.errors import FlowError
from bot.flow import VOICES, Flow, flow_json_schema, load_flow, main
from bot.flow_yaml import Document
from bot.phrases import default_phrases, missing_from_notice

FLOWS = Path(__file__).parents[2] / "flows"
DENTAL = (FLOWS / "dental.yaml").read_text()
Edited = Callable[..., Path]


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """Writes the dentist's flow with some of its text replaced: edited(("old", "new"), ...)."""

    def write(*changes: tuple[str, str], text: str = DENTAL) -> Path:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "edited.yaml"
        path.write_text(text)
        return path

    return write


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


# -- the flows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FLOWS.glob("*.yaml")), ids=lambda path: path.stem)
def test_flows_are_complete(path: Path) -> None:
    flow = load_flow(path)
    business = flow.desk_business()
    assert flow.id == path.stem == business.id
    assert len(business.services) >= 6
    assert all(service.also_called for service in business.services)
    assert len(business.staff) >= 3
    assert len({str(person.hours) for person in business.staff}) == len(business.staff)
    assert len(business.faq) >= 12
    assert {day.day.year for day in business.holidays} == {2026, 2027}
    assert flow.opening == f"{flow.greeting} {flow.notice}"
    assert flow.new_steps().current.name == flow.first_step
    assert flow.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.read_text().startswith("# yaml-language-server: $schema=flow.schema.json\n")


def test_flow_as_the_desk_knows_it() -> None:
    flow = load_flow(FLOWS / "dental.yaml")
    business = flow.desk_business()
    assert business.timezone == str(flow.zone) == "America/New_York"
    assert business.hours[1] == ((time(8), time(19)),)
    assert 6 not in business.hours
    assert business.hours_on(date(2026, 11, 27)) == ((time(9), time(13)),)
    assert business.hours_on(date(2026, 11, 26)) == ()
    tran = business.find_staff("Kevin Tran")
    assert tran is not None
    assert tran.hours is not None
    assert tran.hours[2] == ((time(8), time(12)), (time(13), time(17)))
    assert (business.booking_window_days, business.slot_step_minutes, business.min_notice_minutes) == (120, 30, 60)


def test_a_flow_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_flow(FLOWS / "dental.yaml").voice = "Puck"  # type: ignore[misc]


def test_a_dump_for_the_tape_makes_the_same_flow_again() -> None:
    flow = load_flow(FLOWS / "home_repair.yaml")
    again = Flow.model_validate(json.loads(json.dumps(flow.model_dump(mode="json"))))
    assert again.model_dump() == flow.model_dump()


def test_phrases_come_from_the_flow_then_from_its_language(edited: Edited) -> None:
    flow = load_flow(FLOWS / "dental.yaml")
    assert flow.phrases.goodbye == "Thank you for calling Harbor Street Dental. Goodbye."
    assert flow.phrases.still_there == default_phrases("en-US")["still_there"]
    german = (
        "notice: >-\n  I'm Marina",
        "notice: >-\n  Ich bin eine KI und das Gespräch wird aufgezeichnet. I'm Marina",
    )
    flow = load_flow(edited(("language: en-US", "language: de-DE"), german))
    assert flow.phrases.one_moment == "Einen Moment, bitte."


# -- slips ------------------------------------------------------------------------------------------------------------

SLIPS = [
    # what is replaced, by what, the text whose line is named, the problem, the cure
    ("greeting: Harbor", "greetng: Harbor", "greetng:", "`greetng` is not a key", "Did you mean `greeting`?"),
    (
        "    monday: 8:00-17:00",
        "    mnday: 8:00-17:00",
        "mnday",
        "`business.hours.mnday` is not",
        "Did you mean `monday`?",
    ),
    ("      minutes: 60", "      mins: 60", "mins: 60", "`business.services.0.mins` is not", "`minutes`"),
    ("title: Harbor Street Dental\n", "", "yaml-language-server", "`title` is missing", "Add `title:`."),
    ("voice: Aoede", "voice: Aoedee", "voice:", "no voice 'Aoedee'", "Did you mean `Aoede`?"),
    ("voice: Aoede", "voice: Bob", "voice:", "no voice 'Bob'", "Voices: Zephyr, Puck"),
    ("language: en-US", "language: english", "language:", "not a language code", "BCP-47 code such as en-US"),
    ("America/New_York", "America/NewYork", "NewYork", "not a time zone", "Did you mean `America/New_York`?"),
    ("America/New_York", "EST5", "EST5", "not a time zone", "IANA name"),
    ("phone_country: US", "phone_country: USA", "USA", "not a country", "two capital letters"),
    ("tuesday: 8:00-19:00", "tuesday: 8-19", "8-19", "not a stretch of time", "8:30-17:00"),
    ("tuesday: 8:00-19:00", "tuesday: 8:00-25:00", "25:00", "a time that no clock shows", "0:00 to 24:00"),
    ("2026-10-12", "2026-10-32", "2026-10-32", "holidays.1.day", "The day, as 2026-12-25."),
    ("{day: 2026-10-12", "{day: 2026-09-07", "Indigenous", "the day of two entries", "Give each its own."),
    ("first_step: reception", "first_step: receptoin", "receptoin", "no step `receptoin`", "Did you mean `reception`?"),
    (
        "      find_slots: choose_time",
        "      find_slots: pick_time",
        "pick_time",
        "no step `pick_time`",
        "`choose_time`",
    ),
    (
        "      find_slots: choose_time",
        "      findslots: choose_time",
        "findslots",
        "not a tool",
        "Did you mean `find_slots`?",
    ),
    (
        "list_appointments:some: change",
        "list_appointments:sum: change",
        "sum",
        "never ends with `sum`",
        "Outcomes of list_appointments: some, none.",
    ),
    (
        "      book_appointment: wrap_up",
        "      end_cal: wrap_up",
        "end_cal: wrap_up",
        "`end_cal` is not a tool",
        "`end_call`",
    ),
    (
        "allows: [save_customer, ",
        "allows: [save_customers, ",
        "save_customers",
        "not a tool of this flow",
        "`save_customer`",
    ),
    (
        "  - find_slots\n",
        "  - find_slot\n",
        "- find_slot",
        "there is no tool `find_slot`",
        "Did you mean `find_slots`?",
    ),
    ("  - end_call\n", "  - end_call\n  - end_call\n", "nothing", "in the list twice", "Keep one"),
    (
        "  number: +12075550123",
        "  number: 207 555 0123",
        "number: 207",
        "`handover.number`: '207 555 0123' is not a telephone number",
        "as +12075550123",
    ),
    (
        "  number: +12075550123\n",
        "",
        "- transfer_to_human",
        "`transfer_to_human` has nobody to ring",
        "Add `handover:`",
    ),
    ("ring_seconds: 20", "ring_seconds: 2", "ring_seconds: 2", "`handover.ring_seconds` should be greater", "How long"),
    ("anytime: [answer_question, ", "anytime: [", "- answer_question", "no step allows `answer_question`", "Add it to"),
    (
        "services: [cleaning, whitening]",
        "services: [cleaning, whitning]",
        "whitning",
        "`whitning` is not a service",
        "`whitening`",
    ),
    (
        "services: [checkup, new_patient_exam, filling, emergency, crown]",
        "services: [checkup]",
        "id: crown",
        "nobody",
        "Add it",
    ),
    ("    - id: tran", "    - id: abbott", "nothing", "`abbott` is the id of two", "Give each its own."),
    (
        "also_called: [crown, cap]",
        "also_called: [crown, Toothache]",
        "Toothache",
        "service `emergency` is called",
        "one service",
    ),
    (
        "notice: >-\n  I'm Marina, the practice's automated assistant, and this",
        "notice: >-\n  This",
        "notice:",
        "automated",
        "Write",
    ),
    (
        "this call is recorded.",
        "we are happy.",
        "notice:",
        "does not say that the call is recorded",
        "Write",
    ),
    ("      minutes: 60", "      minutes: 62", "minutes: 62", "multiple of 5", "How long it takes"),
    ("      minutes: 60", "      minutes: an hour", "an hour", "services.0.minutes", "How long it takes"),
    (
        "slot_step_minutes: 30",
        "slot_step_minutes: 0",
        "slot_step_minutes: 0",
        "greater than or equal to 5",
        "every so many",
    ),
    ("max_call_minutes: 15", "max_call_minutes: 0", "max_call_minutes: 0", "greater than 0", "longest call"),
    (
        "timeout_seconds: 10",
        "timeout_seconds: 600",
        "timeout_seconds: 600",
        "less than or equal to 60",
        "How long the model waits",
    ),
    ("start_sensitivity: high", "start_sensitivity: medium", "medium", "'low' or 'high'", "notices speech sooner"),
    ("title: Harbor Street Dental", "title: 41", "title: 41", "`title` must be text, not 41", "Put it in quotes."),
    ("also_called: [crown, cap]", "also_called: crown", "also_called: crown", "must be a list", "Write - before each"),
    (
        "language: en-US",
        "language: en-US\nvoice: Puck",
        "voice: Aoede",
        "`voice` stands here again",
        "the other is on line 5",
    ),
    (
        "    tuesday: 8:00-19:00",
        "    tuesday: 8:00-19:00\n    tuesday: closed",
        "closed",
        "`tuesday` stands here again",
        "Keep",
    ),
    ("persona: >-", "persona: [", "nothing", "not readable as YAML", "Check indentation"),
    (
        "tuesday: 8:00-19:00",
        "tuesday: [13:00-19:00, 8:00-12:00]",
        "business:",
        "overlaps or comes before",
        "under business",
    ),
    ("saturday: 9:00-13:00", "saturday: 9:02-13:00", "business:", "not on whole 5 minutes", "under business"),
    ("  wrap_up:\n", "  wrapup:\n", "wrapup:", "nothing leads to step `wrapup`", "Name it in the `on`"),
    ("  wrap_up:\n", "  Wrap Up:\n", "Wrap Up:", "steps.Wrap Up", ""),
]


@pytest.mark.parametrize(("old", "new", "where", "problem", "cure"), SLIPS, ids=[f"{slip[1][:40]!r}" for slip in SLIPS])
def test_slip_is_told_with_line_and_cure(
    edited: Edited, old: str, new: str, where: str, problem: str, cure: str
) -> None:
    path = edited((old, new))
    with pytest.raises(FlowError) as error:
        load_flow(path)
    told = [line for line in str(error.value).splitlines() if problem in line and cure in line]
    assert told, str(error.value)
    if where != "nothing":
        assert told[0].startswith(f"{path}:{line_of(path, where)}: ")
    else:
        assert int(told[0].removeprefix(f"{path}:").split(":")[0]) > 1


def test_all_slips_are_told_at_once_in_order_of_lines(edited: Edited) -> None:
    path = edited(
        ("language: en-US", "language: english"),
        ("voice: Aoede", "voice: Aoedee"),
        ("      find_slots: choose_time", "      find_slots: pick_time"),
        ("services: [cleaning, whitening]", "services: [cleaning, whitning]"),
        ("greeting:", "greetng:"),
    )
    with pytest.raises(FlowError) as error:
        load_flow(path)
    lines = [int(line.removeprefix(f"{path}:").split(":")[0]) for line in str(error.value).splitlines()]
    assert lines == sorted(lines)
    for word in ("english", "Aoedee", "pick_time", "whitning", "`greetng`", "`greeting` is missing"):
        assert word in str(error.value)
    assert (error.value.line, error.value.file) == (lines[0], str(path))
    assert error.value.problem
    assert error.value.cure


def test_language_without_defaults_needs_its_own_phrases(edited: Edited) -> None:
    with pytest.raises(FlowError) as error:
        load_flow(edited(("language: en-US", "language: pl-PL")))
    assert "`phrases.still_there` is missing. Add `still_there:`. Asked after a long silence" in str(error.value)
    assert "sorry_busy" not in str(error.value)  # this one the flow has itself


def test_words_that_would_not_fit_into_the_briefing(edited: Edited) -> None:
    long_instruction = "Find out what the caller needs. " + "Be patient. " * 70
    with pytest.raises(FlowError, match="characters too long"):
        load_flow(edited(("Find out what the caller needs.", long_instruction), ("You are Marina,", "Stay. " * 240)))


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "- a\n- b\n", "just words", "a: &x [*x]\n", "\x00", "a: b: c", "? [1]\n: 2"]
)
def test_what_is_no_flow_at_all_is_a_flow_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(FlowError) as error:
        load_flow(path)
    assert str(error.value).startswith(str(path))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(FlowError, match="cannot be read") as error:
            load_flow(path)
        assert error.value.line == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, len(DENTAL)),
    length=st.integers(0, 60),
    put=st.sampled_from(["", "[", "x: y", "- ", '"', "\t", "7", "{}"]),
)
def test_any_damage_is_a_flow_error_or_still_a_flow(edited: Edited, cut: int, length: int, put: str) -> None:
    path = edited(text=DENTAL[:cut] + put + DENTAL[cut + length :])
    try:
        flow = load_flow(path)
    except FlowError as error:
        told = str(error)
    else:
        told = str(flow.desk_business() and path)
    assert told.startswith(str(path))


def test_yaml_is_read_as_editors_read_it() -> None:
    document = Document(b"on: 8:30\nyes: no\nday: 2026-01-02\ncount: 7\nlist: [a, 010]\n")
    assert document.values == {"on": "8:30", "yes": "no", "day": "2026-01-02", "count": 7, "list": ["a", "010"]}
    assert document.line(("list", 1)) == 5
    assert document.line(("nowhere", "at", "all")) == 1


@pytest.mark.parametrize(
    ("notice", "language", "fine"),
    [
        ("I'm an automated assistant and this call is recorded.", "en-US", True),
        ("You are talking to an AI. We record calls.", "en", True),
        ("This call is recorded.", "en", False),
        ("I'm an AI.", "en", False),
        ("I'm not a robot, and this call is recorded.", "en", False),
        ("I'm an AI and this call is not recorded.", "en", False),
        ("I'm an AI and this call isn't being recorded.", "en", False),
        ("Ich bin ein automatischer Assistent, das Gespräch wird aufgezeichnet.", "de-DE", True),
        ("Guten Tag.", "de", False),
        ("Soy un asistente virtual y esta llamada se graba.", "es-ES", True),
        ("Je suis un assistant automatique et cet appel est enregistré.", "fr-FR", True),
        ("Bonjour, cet appel est enregistré.", "fr", False),
        ("Jestem automatem.", "pl-PL", True),  # not judged
    ],
)
def test_notice_says_machine_and_recording(notice: str, language: str, fine: bool) -> None:
    assert (missing_from_notice(notice, language) is None) is fine


# -- schema and command -----------------------------------------------------------------------------------------------


def test_schema_in_flows_is_current() -> None:
    stored = json.loads((FLOWS / "flow.schema.json").read_text())
    assert stored == flow_json_schema(), "run: python -m bot.flow schema > flows/flow.schema.json"


@pytest.mark.parametrize("path", sorted(FLOWS.glob("*.yaml")), ids=lambda path: path.stem)
def test_schema_accepts_the_flows(path: Path) -> None:
    jsonschema.Draft202012Validator(flow_json_schema()).validate(Document(path.read_bytes()).values)


@pytest.mark.parametrize(
    "change",
    [{"voice": "Bob"}, {"colour": "red"}, {"tools": [7]}, {"steps": {}}, {"business": {}}, {"phrases": {"hi": "x"}}],
)
def test_schema_refuses_slips(change: dict[str, Any]) -> None:
    values = {**Document(DENTAL.encode()).values, **change}
    assert list(jsonschema.Draft202012Validator(flow_json_schema()).iter_errors(values))


def test_schema_knows_the_voices() -> None:
    assert flow_json_schema()["properties"]["voice"]["enum"] == list(VOICES)
    assert len(set(VOICES)) == 30


def test_command_line(edited: Edited, capsys: pytest.CaptureFixture[str]) -> None:
    fine, wrong = FLOWS / "dental.yaml", edited(("voice: Aoede", "voice: Bob"))
    assert main(["check", str(fine)]) == 0
    assert "4 steps, 13 tools" in capsys.readouterr().out
    assert main(["check", str(fine), str(wrong)]) == 1
    assert f"{wrong}:5: `voice`: there is no voice 'Bob'." in capsys.readouterr().err
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == flow_json_schema()
    assert main(["frobnicate"]) == 2
