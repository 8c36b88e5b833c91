"""``python -m records list``, ``search`` and ``show``, as an operator reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.settings import Settings
from records.__main__ import main
from records.record import CallRecord, Stage, Waterfall
from records.rows import without
from records.store import Store

Shown = Callable[..., list[str]]


@pytest.fixture
def shown(
    store: Store, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shown:
    """Runs a command on the store's database, which must end with `status`; gives what it printed, line by line."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str, status: int = 0) -> list[str]:
        assert main(words) == status
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def two_calls(store: Store, make_record: Callable[..., CallRecord]) -> None:
    full = make_record()
    store.save(full)
    missed = replace(full.outcome, disposition="abandoned", changes=())
    store.save(
        make_record("CA2", 90, flow="home_repair", from_number="+14155550100", outcome=missed, turns=(), flags=())
    )
    store.add_score("CA1", "basics", "rules", 80, {})


@pytest.mark.usefixtures("two_calls")
def test_a_list_has_a_line_for_each_call_newest_first(shown: Shown) -> None:
    _, second, first = shown("list")
    assert second.split()[:5] == ["CA2", "2026-05-01", "13:30", "+14155550100", "home_repair"]
    assert first.split()[5:9] == ["booked", "61", "1200", "0.012"]
    assert first.split()[9:] == ["+?", "unheard_result,", "voice_without_words,", "unknown_price"]


@pytest.mark.usefixtures("two_calls")
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--since", "2026-05-01T13:00"], ["CA2"]),
        (["--until", "2026-05-01T13:00"], ["CA1"]),
        (["--since", "2026-05-02"], []),
        (["--number", "+1415"], ["CA2"]),
        (["--flow", "dental"], ["CA1"]),
        (["--disposition", "abandoned"], ["CA2"]),
        (["--tool", "find_slots"], ["CA2", "CA1"]),
        (["--flag", "unheard_result"], ["CA1"]),
        (["--duration", "61..62"], ["CA2", "CA1"]),
        (["--duration", "..61"], []),
        (["--latency", "1000..", "--cost", "..0.02", "--score", "70..90"], ["CA1"]),
    ],
)
def test_filters_leave_only_what_they_say(shown: Shown, filters: list[str], found: list[str]) -> None:
    lines = shown("list", "--json", *filters, status=0 if found else 1)
    assert [json.loads(line)["call_id"] for line in lines] == found


@pytest.mark.usefixtures("two_calls")
def test_a_search_shows_the_turn_with_the_words(shown: Shown) -> None:
    _, line = shown("search", '"a cleaning on tuesday"')
    assert line.split()[0] == "CA1"
    assert "caller: I'd like a cleaning on Tuesday, por favor." in line
    assert shown("search", "cleaning", "--flow", "home_repair", status=1) == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (["--since", "yesterday"], "'yesterday' is no date"),
        (["--duration", "5"], "'5' is no range"),
        (["--cost", "a..b"], "'a..b' is no range"),
        (["--disposition", "happy"], "invalid choice: 'happy'"),
        (["--after", "xx"], "'xx': a page goes on after"),
        (["--after", "9" * 23], "a page goes on after"),
    ],
)
def test_a_filter_that_cannot_be_read_is_named(
    shown: Shown, capsys: pytest.CaptureFixture[str], wrong: list[str], why: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        shown("list", *wrong)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_long_list_goes_on_where_it_stopped(
    store: Store, shown: Shown, make_record: Callable[..., CallRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("records.terminal._PAGE", 2)
    for number in range(3):
        store.save(make_record(f"CA{number}", number))
    newest = [json.loads(line) for line in shown("list", "--json")]
    after = store.calls(size=2).next
    oldest = [json.loads(line) for line in shown("list", "--json", "--after", after)]
    assert [call["call_id"] for call in newest + oldest] == ["CA2", "CA1", "CA0"]


@pytest.mark.usefixtures("two_calls")
def test_a_call_is_shown_with_what_was_said_done_and_spent(shown: Shown) -> None:
    lines = shown("show", "CA1")
    text = "\n".join(lines)
    assert "outcome   booked; goodbye" in text
    assert "changed   appointment 12: Cleaning on Tuesday at three" in text
    assert "scores    80 by rules (basics)" in text
    said = [line.split(maxsplit=2)[2] for line in lines if " s  " in line]
    assert said == [
        "bot     Hello, this is Smile Clinic. This call is recorded.",
        "caller  I'd like a cleaning on Tuesday, por favor. Olé!",
        "tool    find_slots: ok in 12 ms",
        "tool    book_appointment: ok in 20 ms",
        "bot     You are booked for Tuesday  at three in the afternoon. (not heard)",
        "key     5",
        "caller  (voice, and no words)",
    ]
    assert [line.split() for line in lines if line.split()[:2] == ["2", "600"]] == [["2", "600", "250", "850"]]
    assert [line.split()[:4] for line in lines if "audio in" in line] == [
        ["audio", "in", "gemini-3.1-flash-live-preview", "250"]
    ]
    assert [line.split() for line in lines if "no price" in line][-1] == ["x", "y", "1", "no", "price", "known"]


@pytest.mark.usefixtures("two_calls")
def test_the_first_lines_are_to_be_had_alone_and_everything_as_json(shown: Shown) -> None:
    short = shown("show", "CA1", "--short")
    assert short == shown("show", "CA1")[: len(short)]
    assert not any("transcript" in line for line in short)
    (line,) = shown("show", "CA1", "--json")
    page: dict[str, Any] = json.loads(line)
    assert page["record"]["turns"][2]["unheard"] == " at three in the afternoon."
    assert page["scores"][0]["score"] == 80


def test_words_that_are_not_kept_any_more_are_said_to_be_so(
    store: Store, shown: Shown, make_record: Callable[..., CallRecord], sql: Callable[..., Any]
) -> None:
    store.save(without(make_record(), ["transcript"]))
    sql("UPDATE records_calls SET transcript_expired_at = '2026-06-01 00:00:00'")
    text = "\n".join(shown("show", "CA1"))
    assert text.count("(no longer kept)") == 4
    assert "voice, and no words" not in text
    assert "changed   appointment 12\n" in text
    assert "flags     unheard result; voice without words; unknown price\n" in text


def test_a_calls_id_is_whole_however_narrow_the_screen(
    store: Store, shown: Shown, make_record: Callable[..., CallRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    call_id = "CA" + "7" * 32
    store.save(make_record(call_id))
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "80")
    assert any(call_id in line for line in shown("list"))


def test_the_stages_of_an_answer_stand_in_their_order(
    store: Store, shown: Shown, make_record: Callable[..., CallRecord]
) -> None:
    plain = Waterfall(2, 0, 30, (Stage("to_us", 10), Stage("model", 10), Stage("playout", 10)))
    with_tool = Waterfall(4, 0, 40, (*plain.stages[:2], Stage("tools", 10), plain.stages[2]))
    store.save(make_record(waterfalls=(plain, with_tool)))
    heads = [line.split() for line in shown("show", "CA1") if line.split()[:1] == ["turn"]]
    assert heads == [["turn", "to_us", "model", "tools", "playout", "all"]]


def test_a_call_without_a_record(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "CA9"]) == 2
    assert "no record of call CA9" in capsys.readouterr().err
