"""``python -m qa show CALL``: a tape, readable.

By default the call as a person would tell it: what was said and done when, then tools, response times, troubles and
what is on the tape. ``--json`` gives the events for other programs, ``--raw`` every record.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bot.events import (
    BotStartedSpeaking,
    CallEnded,
    CallEvent,
    CallReceived,
    MarkReturned,
    ModelConnected,
    ModelFailed,
    ToolCalled,
    ToolReturned,
    Trouble,
    WriteFound,
)
from bot.tape import CHANNELS, Record, TapeReader
from bot.terminal import CallView
from qa.tapes import open_tape

_LONGEST_RAW = 100


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``show`` to the command line."""
    parser = commands.add_parser("show", help="print a tape", description="Print the tape of a call.")
    parser.add_argument("tape", metavar="TAPE", help="a call's id, a .mcap file, or a .mcap.part of a call in progress")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--raw", action="store_true", help="every record, long texts shortened")
    how.add_argument("--json", action="store_true", help="the events, one JSON object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the tape. Raises `bot.errors.TapeError`."""
    with open_tape(arguments.tape) as path:
        tape = TapeReader(path)
        if arguments.json:
            for line in json_lines(tape):
                sys.stdout.write(line + "\n")
        elif arguments.raw:
            for line in raw_lines(tape):
                sys.stdout.write(line + "\n")
        else:
            show(tape, Console(highlight=False))
    return 0


def json_lines(tape: Iterable[Record]) -> Iterator[str]:
    """Each event as JSON: ``at_ms`` since the first record, ``wall`` time in UTC, then the event's own fields."""
    began_ns: int | None = None
    for record in tape:
        began_ns = record.mono_ns if began_ns is None else began_ns
        if record.channel == "event":
            stamp = {"at_ms": round((record.mono_ns - began_ns) / 1e6, 3), "wall": _wall(record.wall_ns)}
            yield orjson.dumps(stamp | orjson.loads(record.data)).decode()


def raw_lines(tape: Iterable[Record]) -> Iterator[str]:
    """Each record on a line: seconds since the first, its channel, its size in bytes and its data."""
    began_ns: int | None = None
    for record in tape:
        began_ns = record.mono_ns if began_ns is None else began_ns
        seconds = (record.mono_ns - began_ns) / 1e9
        yield f"{seconds:10.4f}  {record.channel:<11} {len(record.data):>6}  {_raw(record.data)}"


def _raw(data: bytes) -> str:
    try:
        return orjson.dumps(_shortened(orjson.loads(data))).decode()
    except orjson.JSONDecodeError:
        return repr(data[:_LONGEST_RAW])


def _shortened(value: Any) -> Any:
    match value:
        case dict():
            return {key: _shortened(inner) for key, inner in value.items()}
        case list():
            return [_shortened(inner) for inner in value]
        case str() if len(value) > _LONGEST_RAW:
            return f"{value[: _LONGEST_RAW // 2]}… ({len(value)} characters)"
    return value


# -- the call as a person would tell it -------------------------------------------------------------------------------


@dataclass
class _Channel:
    records: int = 0
    bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


@dataclass
class _Call:
    """What one pass over a tape gathers."""

    first: Record | None = None
    last: Record | None = None
    events: list[tuple[int, CallEvent]] = field(default_factory=list)
    unknown_kinds: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    channels: dict[str, _Channel] = field(default_factory=lambda: {name: _Channel() for name in CHANNELS})

    def take(self, record: Record) -> None:
        self.first = self.first or record
        self.last = record
        channel = self.channels.setdefault(record.channel, _Channel())
        channel.records += 1
        channel.bytes += len(record.data)
        kind = _kind(record)
        channel.kinds[kind] += 1
        if record.channel == "tape.gap":
            self.lost += int(orjson.loads(record.data)["lost"])
        elif record.channel == "event":
            try:
                self.events.append((record.mono_ns, CallEvent.from_json(record.data)))
            except (ValueError, TypeError):
                self.unknown_kinds[kind] += 1

    def seconds(self, mono_ns: int) -> float:
        return (mono_ns - self.first.mono_ns) / 1e9 if self.first else 0.0


def _kind(record: Record) -> str:
    """What sort of message a record is: the carrier's ``event``, an event's ``kind``, the model's top-level keys."""
    try:
        message = orjson.loads(record.data)
    except orjson.JSONDecodeError:
        return "not JSON"
    if not isinstance(message, dict):
        return type(message).__name__
    if record.channel.startswith("carrier."):
        return str(message.get("event", "without event"))
    if record.channel == "event":
        return str(message.get("kind"))
    return "+".join(message) if record.channel.startswith("model.") else record.channel


def show(tape: TapeReader, console: Console) -> None:
    """Print the whole of it."""
    call = _Call()
    for record in tape:
        call.take(record)
    _show_header(tape, call, console)
    console.rule("conversation")
    view = CallView(console)
    for mono_ns, event in call.events:
        view.show(event, mono_ns)
    _show_tools(call, console)
    _show_responses(call, console)
    _show_troubles(tape, call, console)
    _show_channels(call, console)


def _show_header(tape: TapeReader, call: _Call, console: Console) -> None:
    flow = tape.meta.get("flow")
    flow = flow if isinstance(flow, dict) else {}
    received = next((event for _, event in call.events if isinstance(event, CallReceived)), None)
    models = dict.fromkeys(event.model for _, event in call.events if isinstance(event, ModelConnected))
    ended = next((event for _, event in reversed(call.events) if isinstance(event, CallEnded)), None)
    rows = {
        "call": str(tape.meta.get("call", "unknown")),
        "from, to": f"{received.from_number} -> {received.to_number}" if received else "",
        "began": _wall(call.first.wall_ns) if call.first else "no record on the tape",
        "lasted": _clock(call.seconds(call.last.mono_ns)) if call.last else "",
        "flow": f"{flow.get('id', 'unknown')}  {str(flow.get('hash', ''))[:12]}",
        "model": ", ".join(models) or "none connected",
        "code": str(tape.meta.get("code", "unknown")),
        "end": ended.reason.replace("_", " ") if ended else "not on the tape",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        if value:
            table.add_row(f"[dim]{name}[/]", escape(value))
    console.print(table)


def _show_tools(call: _Call, console: Console) -> None:
    returned = {event.call_id: event for _, event in call.events if isinstance(event, ToolReturned)}
    called = [(at, event) for at, event in call.events if isinstance(event, ToolCalled)]
    if not called:
        return
    console.rule("tools")
    for at, event in called:
        answer = returned.get(event.call_id)
        how = f"{answer.status} in {answer.duration_ms:.0f} ms" if answer else "no answer on the tape"
        console.print(f"[dim]{call.seconds(at):6.1f} s[/]  [magenta]{escape(event.name)}[/]  {how}")
        console.print(f"          given   {escape(orjson.dumps(event.arguments).decode())}", soft_wrap=True)
        if answer:
            console.print(f"          result  {escape(orjson.dumps(answer.result).decode())}", soft_wrap=True)


def _show_responses(call: _Call, console: Console) -> None:
    turns = [
        (at, event)
        for at, event in call.events
        if isinstance(event, BotStartedSpeaking) and event.response_ms is not None
    ]
    if not turns:
        return
    console.rule("response times")
    table = Table("turn", "at", "caller's last voice to bot's first audio", "of it the model", box=None)
    for at, event in turns:
        model = f"{event.model_ms:.0f} ms" if event.model_ms is not None else ""
        table.add_row(str(event.turn), f"{call.seconds(at):.1f} s", f"{event.response_ms:.0f} ms", model)
    console.print(table)
    times = [event.response_ms for _, event in turns if event.response_ms is not None]
    console.print(
        f"{len(times)} answers, {statistics.median(times):.0f} ms in the middle, {max(times):.0f} ms at worst"
    )


def _show_troubles(tape: TapeReader, call: _Call, console: Console) -> None:
    lines = []
    for at, event in call.events:
        match event:
            case Trouble():
                heard = event.caller_heard.replace("_", " ")
                lines.append(
                    f"{call.seconds(at):6.1f} s  {event.failure} in {event.where}; heard: {heard} {event.detail}"
                )
            case WriteFound():
                lines.append(f"{call.seconds(at):6.1f} s  {event.command}: done in the books, and lost from the tape")
            case ModelFailed():
                lines.append(f"{call.seconds(at):6.1f} s  {event.model}: {event.failure} {event.detail}")
    if call.lost:
        lines.append(f"{call.lost} records were lost, because the disk did not keep up")
    if tape.truncated:
        lines.append("the tape was never finished: the call is in progress, or its server was killed")
    for kind, count in call.unknown_kinds.items():
        lines.append(f"{count} events of kind {kind!r} could not be read by this version")
    if lines:
        console.rule("troubles")
        for line in lines:
            console.print(f"[red]{escape(line.rstrip())}[/]")


def _show_channels(call: _Call, console: Console) -> None:
    console.rule("on the tape")
    table = Table("channel", "records", "bytes", "kinds", box=None)
    for name, channel in call.channels.items():
        if channel.records:
            kinds = ", ".join(f"{count} {kind}" for kind, count in channel.kinds.most_common())
            table.add_row(name, f"{channel.records:,}", f"{channel.bytes:,}", escape(kinds))
    console.print(table)
    marks = Counter(event.how for _, event in call.events if isinstance(event, MarkReturned))
    sent = call.channels["carrier.out"].kinds["mark"]
    if sent or marks:
        console.print(f"marks: {sent} sent, {marks['played']} played, {marks['cleared']} cleared unheard")


def _wall(wall_ns: int) -> str:
    moment = datetime.fromtimestamp(wall_ns / 1e9, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)} min {seconds % 60:.1f} s" if seconds >= 60 else f"{seconds:.1f} s"
