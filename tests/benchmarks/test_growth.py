"""The measurement of the store's growth measures what it says."""

from __future__ import annotations

import re

from benchmarks import growth
from benchmarks.made_calls import TURNS, calls


def test_made_calls_are_the_same_for_the_same_seed_and_differ_from_each_other() -> None:
    made = list(calls(30))
    assert made == list(calls(30))
    assert made[20:] == list(calls(10, start=20))
    assert len({call.call_id for call in made}) == 30
    assert {len(call.turns) for call in made} == {TURNS}
    assert [call.began_at for call in made] == sorted(call.began_at for call in made)


def test_a_small_run_asks_everything_and_finds_what_is_there(monkeypatch, capsys) -> None:
    monkeypatch.setattr(growth, "ROUNDS", 2)
    growth.main(["--calls", "200", "--no-page"])
    table = capsys.readouterr().out
    found = dict(re.findall(r"^\| (\w[^|]*) \| [^|]+ \| (\d+) \|$", table, re.MULTILINE))
    assert set(found) == {f"{case.kind}: {case.name}" for case in growth.cases(200)}
    assert found["list: newest"] == "50"
    assert found["list: tool, every call"] == found["list: scored 100, 70 %"] == "50"
    assert int(found["list: number, whole"]) >= 1
    assert 1 <= int(found["list: scored up to 40, 1 %"]) < 20
    assert found["search: word of every call"] == "20"
    assert found["call page: any call"] == "1"
    assert found["list: number, begins +49: nobody"] == found["search: word that nobody said"] == "0"
    assert "| SQLite | 200 | 4,800 |" in table
