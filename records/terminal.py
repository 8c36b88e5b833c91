"""Calls in the terminal: lists, searches and one call whole. ``python -m records list|search|show``.

Everything is also to be had as JSON, a call a line, for other programs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, get_args

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from bot.ports import SystemClock
from bot.settings import Settings
from records.record import CallRecord, Disposition, FlagKind, Turn
from records.search import CallFilter, Hit, ListedCall, Range, cursor
from records.store import CallPage, Store, migrate

_PAGE = 50
_COLUMNS = ("call", "began (UTC)", "from", "flow", "how it ended", "seconds", "answers ms", "USD", "flags", "")
_ID_WIDTH = 34
"""A carrier's id of a call, to be given to the next command."""
_RANGES = {"duration": "seconds", "latency": "ms, voice to voice, p95", "cost": "USD", "score": "0 to 100"}


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``list``, ``search`` and ``show`` to the command line."""
    for name, run, help in (
        ("list", list_calls, "calls, newest first"),
        ("search", search, "calls in which all of these words were said"),
        ("show", show, "what came of a call: transcript, answers, cost, flags"),
    ):
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="all that is known, one JSON object a call")
        if name == "show":
            command.add_argument("call", metavar="CALL")
            command.add_argument("--short", action="store_true", help="the first lines only")
            command.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="so long for its record")
            continue
        if name == "search":
            command.add_argument("words", metavar="WORDS", help='"words in a row" and beginn* may be used')
        _add_filters(command)


def open_console(*, soft_wrap: bool = False) -> Console:
    """Where tables are printed: as wide as the screen, and for a file or a pipe wide enough for whole lines."""
    console = Console(highlight=False, soft_wrap=soft_wrap)
    if not console.is_terminal:
        console.width = 250
    return console


def _add_filters(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--since", type=_moment, metavar="TIME", help="begun then or later: 2026-11-28, or 2026-11-28T09:30 (UTC)")
    add("--until", type=_moment, metavar="TIME", help="begun before")
    add("--number", default="", metavar="NUMBER", help="the caller's, or how it begins: +1212")
    add("--flow", default="", metavar="FLOW")
    add("--disposition", default="", choices=get_args(Disposition), metavar="DISPOSITION", help=_either(Disposition))
    add("--tool", default="", metavar="TOOL", help="a function that was called")
    add("--flag", default="", choices=get_args(FlagKind), metavar="FLAG", help=_either(FlagKind))
    for name, unit in _RANGES.items():
        add(f"--{name}", type=_range, default=(None, None), metavar="FROM..TO", help=f"{unit}; 5.. and ..5 are open")
    add("--after", type=_page_name, default="", metavar="PAGE", help="the page that the one before named")


def _either(names: Any) -> str:
    return ", ".join(get_args(names))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2026-11-28 or 2026-11-28T09:30") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _range(text: str) -> Range:
    low, dots, high = text.partition("..")
    try:
        if not dots:
            raise ValueError
        return (float(low) if low else None, float(high) if high else None)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range such as 5..10, 5.. or ..10") from None


def _page_name(text: str) -> str:
    try:
        if text:  # the default comes here, too
            cursor(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    return text


def _filter(arguments: argparse.Namespace) -> CallFilter:
    low, high = arguments.duration
    return CallFilter(
        began=(arguments.since, arguments.until),
        number=arguments.number,
        flow=arguments.flow,
        disposition=arguments.disposition,
        tool=arguments.tool,
        flag=arguments.flag,
        duration_ms=(None if low is None else low * 1000, None if high is None else high * 1000),
        latency_ms=arguments.latency,
        cost_usd=arguments.cost,
        score=arguments.score,
    )


def _open(settings: Settings) -> Store:
    migrate(settings.database)
    return Store(settings.database, SystemClock())


def list_calls(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print a page of calls. The exit status is 1 where there are none."""
    with closing(_open(settings)) as store:
        page = store.calls(_filter(arguments), arguments.after, _PAGE)
    if arguments.json:
        _print_json(page.items)
    else:
        _print_calls((call, "") for call in page.items)
    return _end_page(len(page.items), page.next)


def search(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print a page of calls in which the words were said. The exit status is 1 where there are none."""
    with closing(_open(settings)) as store:
        page = store.search(arguments.words, _filter(arguments), arguments.after, _PAGE)
    if arguments.json:
        _print_json(page.items)
    else:
        _print_calls((hit.call, _excerpt(hit)) for hit in page.items)
    return _end_page(len(page.items), page.next)


def _end_page(count: int, following: str) -> int:
    if not count:
        print("records: no call is like that", file=sys.stderr)
    if following:
        print(f"records: more with --after {following}", file=sys.stderr)
    return 0 if count else 1


def _excerpt(hit: Hit) -> str:
    marked, at = [], 0
    for start, end in hit.excerpt.marks:
        marked += [escape(hit.excerpt.text[at:start]), f"[bold]{escape(hit.excerpt.text[start:end])}[/]"]
        at = end
    return f"{hit.speaker}: {''.join(marked)}{escape(hit.excerpt.text[at:])}"


def _print_calls(calls: Iterable[tuple[ListedCall, str]]) -> None:
    """A table of calls, each with the words that a search found in it."""
    table = Table(Column(_COLUMNS[0], no_wrap=True, min_width=_ID_WIDTH), *_COLUMNS[1:], box=None)
    for call, words in calls:
        table.add_row(
            call.call_id,
            call.began_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
            escape(call.from_number),
            escape(call.flow),
            call.disposition.replace("_", " "),
            f"{call.duration_ms / 1000:.0f}",
            "" if call.latency_ms is None else f"{call.latency_ms:.0f}",
            f"{call.cost_usd:.3f}{'' if call.cost_complete else ' +?'}",
            ", ".join(call.flags),
            words,
        )
    if table.row_count:
        open_console(soft_wrap=True).print(table)


def _print_json(values: Iterable[Any]) -> None:
    for value in values:
        sys.stdout.write(orjson.dumps(asdict(value)).decode() + "\n")


# -- one call ---------------------------------------------------------------------------------------------------------


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print what came of a call, once its record is there."""
    clock = SystemClock()
    end_ns = clock.now_ns() + int(arguments.wait * 1e9)
    with closing(_open(settings)) as store:
        while (page := store.page(arguments.call)) is None:
            if clock.now_ns() >= end_ns:
                print(f"records: there is no record of call {arguments.call} (yet)", file=sys.stderr)
                return 2
            asyncio.run(clock.sleep(0.2))
    if arguments.json:
        _print_json([page])
    else:
        _print_page(page, Console(highlight=False, soft_wrap=True), short=arguments.short)
    return 0


def _print_page(page: CallPage, console: Console, *, short: bool) -> None:
    record = page.record
    for name, value in _summary(page).items():
        console.print(f"  [dim]{name:<9}[/] {escape(value)}")
    if short:
        return
    if record.turns:
        console.rule("transcript")
        _print_turns(record, console, "no longer kept" if "transcript" in page.expired else "voice, and no words")
    if record.waterfalls:
        console.rule("answers: ms from the caller's last voice to the bot's first")
        console.print(_waterfalls(record))
    if record.cost.lines:
        console.rule("cost")
        console.print(_costs(record))


def _summary(page: CallPage) -> dict[str, str]:
    record = page.record
    figures, cost, outcome = record.figures, record.cost, record.outcome
    rows = {
        "call": record.call_id,
        "outcome": f"{outcome.disposition.replace('_', ' ')}; {outcome.end_reason.replace('_', ' ')}",
        "summary": outcome.summary,
        "changed": "; ".join(_with_detail(f"{change.kind} {change.id}", change.text) for change in outcome.changes),
        "fields": "; ".join(f"{name}: {value}" for name, value in outcome.fields.items()),
        "steps": " > ".join(outcome.steps),
        "answers": _middle(figures.voice_to_voice_p50_ms, figures.voice_to_voice_p95_ms),
        "cost": f"{cost.usd:.4f} USD{'' if cost.complete else ', and what has no price'}",
        "scores": "; ".join(f"{score.score:.0f} by {score.judge} ({score.scorecard})" for score in page.scores),
        "kept": ", ".join(recording.key for recording in page.recordings),
        "expired": ", ".join(page.expired),
        "flags": "; ".join(_with_detail(flag.kind.replace("_", " "), flag.detail) for flag in record.flags) or "none",
    }
    return {name: value for name, value in rows.items() if value}


def _with_detail(what: str, detail: str) -> str:
    return f"{what}: {detail}" if detail else what


def _print_turns(record: CallRecord, console: Console, wordless: str) -> None:
    """What was said, pressed and done, in the order of time; `wordless` stands for words that are not there."""
    lines = [(turn.start_ms, _turn_line(turn, wordless)) for turn in record.turns]
    lines += [(key.at_ms, f"[cyan]key[/]     {escape(key.digit)}") for key in record.keys]
    lines += [
        (tool.at_ms, f"[magenta]tool[/]    {escape(tool.name)}: {tool.status} in {tool.duration_ms:.0f} ms")
        for tool in record.tools
    ]
    for at_ms, line in sorted(lines, key=lambda each: each[0]):
        console.print(f"  [dim]{at_ms / 1000:7.1f} s[/]  {line}")


def _turn_line(turn: Turn, wordless: str) -> str:
    said = escape(turn.text) or f"[yellow]({wordless})[/]"
    unheard = f" [dim strike]{escape(turn.unheard)}[/] [yellow](not heard)[/]" if turn.unheard else ""
    return f"[{'green' if turn.speaker == 'caller' else 'blue'}]{turn.speaker:<7}[/] {said}{unheard}"


def _waterfalls(record: CallRecord) -> Table:
    longest = sorted(record.waterfalls, key=lambda fall: -len(fall.stages))  # has them all, in their order
    stages = list(dict.fromkeys(stage.name for fall in longest for stage in fall.stages))
    table = Table("turn", *stages, "all", box=None)
    for fall in record.waterfalls:
        taken: dict[str, float] = defaultdict(float)
        for stage in fall.stages:
            taken[stage.name] += stage.ms
        cells = [f"{taken[name]:.0f}" if name in taken else "" for name in stages]
        table.add_row(str(fall.turn), *cells, f"{fall.total_ms:.0f}")
    return table


def _costs(record: CallRecord) -> Table:
    """The lines of all turns, added up by what they are for."""
    quantities: dict[tuple[str, str], float] = defaultdict(float)
    prices: dict[tuple[str, str], float | None] = {}
    for line in record.cost.lines:
        kind = line.what, line.of
        quantities[kind] += line.quantity
        so_far = prices.get(kind, 0.0)
        prices[kind] = None if so_far is None or line.usd is None else so_far + line.usd
    table = Table("what", "of", "how much", "USD", box=None)
    for (what, of), usd in prices.items():
        cell = "no price known" if usd is None else f"{usd:.6f}"
        table.add_row(what.replace("_", " "), escape(of), f"{quantities[what, of]:,.6g}", cell)
    return table


def _middle(p50: float | None, p95: float | None) -> str:
    if p50 is None or p95 is None:
        return "nothing was asked"
    return f"voice to voice {p50:.0f} ms in the middle, {p95:.0f} ms at the 95th percentile"
