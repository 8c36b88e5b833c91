"""The measurement of interruptions: that it counts what happened, not how well it goes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import barge_in, lines
from benchmarks.barge_in import Heard, Pause
from benchmarks.report import replace_part


def a_line(should: lines.Should, *events: int) -> lines.Line:
    return lines.Line("a group", "a line", should, np.zeros(8_000), events)


def test_a_reaction_lasts_from_the_first_voiced_sample_to_silence_on_the_line() -> None:
    # Heard at the end of frame 12, and two more frames waited at the carrier.
    heard = Heard(a_line("stop", 1_640), [Pause(12, 40, "cut")], [True] * 15 + [False] * 35)
    assert heard.reaction_ms == pytest.approx(300 - 205)
    assert heard.within(("cut",)) == 1
    assert Heard(heard.line, [], [True] * 50).reaction_ms is None


def test_pauses_and_cuts_for_nothing_are_counted_by_the_minute_and_by_the_event() -> None:
    heard = [
        Heard(a_line("not_flush", 800), [Pause(5, 25, "quiet"), Pause(40, 60, "cut")], [True] * 1_500),
        Heard(a_line("not_flush", 800), [], [True] * 1_500),
    ]
    (row,) = barge_in.figures(heard)["false"]
    assert (row["minutes"], row["events"]) == (1.0, 2)
    assert (row["pauses_per_minute"], row["cuts_per_minute"]) == (2.0, 1.0)
    assert (row["paused_percent"], row["cut_percent"]) == (50.0, 50.0)
    assert row["pause_ms"] == 400


def test_the_bot_is_heard_on_a_quiet_line_and_its_echo_comes_back_as_late_and_weak_as_asked() -> None:
    line = lines.Line("echo", "echo", "go_on", lines.quiet(16_000), (), lines.Echo(-20.0, 100))
    heard = barge_in.listen(line)
    assert all(heard.plays)
    carrier = barge_in._Carrier(line.echo, 1_600)
    loud = lines.at_level(np.random.default_rng(1).normal(size=160), -20)
    carrier.waiting.append(barge_in._mulaw(loud))
    assert carrier.play(0)
    assert np.abs(carrier.echo(4)).max() == 0
    assert np.sqrt(np.mean(carrier.echo(5) ** 2)) == pytest.approx(np.sqrt(np.mean(loud**2)) / 10, rel=0.05)


def test_some_of_all_material_gives_every_figure_and_a_page() -> None:
    material = lines.lines(small=True)[::4]
    result = barge_in.measure(material)
    assert {row["group"] for row in result["false"]} <= {line.group for line in material}
    callers = {line.group for line in material if line.should == "stop"}
    # Without recordings of people beside the project there is one group of callers, which is all.
    assert [result["true"][-1]["group"]] == (["all"] if len(callers) > 1 else list(callers))
    assert result["true"][-1]["interruptions"] == sum(line.should == "stop" for line in material)
    json.dumps(result)
    page = replace_part("# Page\n\nby hand\n", barge_in.part(result), "<begin>", "<end>")
    assert "by hand" in page
    assert replace_part(page, "new", "<begin>", "<end>") == "# Page\n\nby hand\n\n<begin>\nnew\n<end>\n"
    assert len(list(barge_in.tables(result))) == 2


def test_each_line_is_the_same_every_time() -> None:
    first, second = (lines._small_sounds() for _ in range(2))
    assert all(np.array_equal(a.caller, b.caller) for a, b in zip(first, second, strict=True))
