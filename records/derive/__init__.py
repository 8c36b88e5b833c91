"""From a tape to everything that is known of a call: pure functions, without clock, network or database.

`derive` reads a tape and gives its `CallRecord`; `write_recording` writes the stereo recording from the timeline that
comes with it.
The same tape gives the same record, however often. Change `DERIVE_VERSION` with whatever changes what a tape gives, so
that records made before can be told and made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bot.events import CallReceived, CallRefused, ModelConnected
from bot.tape import TapeReader
from records.derive import commitments
from records.derive.cost import Prices, load_prices, price_call
from records.derive.outcome import conclude, done_otherwise, key_presses, tool_uses
from records.derive.recording import Recording, caller_audio, write_recording
from records.derive.timeline import Timeline, read
from records.derive.transcript import SpokenTurn, fill, gaps, transcribe
from records.derive.waterfall import figures_of, waterfalls_of
from records.record import CallRecord, Flag, TextUsage

__all__ = [
    "DERIVE_VERSION",
    "Derived",
    "Prices",
    "Recogniser",
    "Recording",
    "derive",
    "load_prices",
    "write_recording",
]

DERIVE_VERSION = 3


class Recogniser(Protocol):
    """A second ear for what the model did not write down. ``spent``: all that was paid for this call so far."""

    spent: list[TextUsage]

    def hear(self, pcm16k: bytes, language: str) -> str:
        """The words in s16le at 16 kHz; empty where there are none. `language` is a BCP-47 code."""


@dataclass(frozen=True)
class Derived:
    """What a tape gives: the record, and the timeline that the recording is written from."""

    record: CallRecord
    timeline: Timeline


def derive(tape: TapeReader, *, prices: Prices, recogniser: Recogniser | None = None) -> Derived:
    """Derive a call's record from its tape, finished or not.

    Blocking: about 4 s of CPU for an hour of call. What a `recogniser` raises is passed on; nothing else is raised
    but ``OSError`` from the disk.
    """
    timeline = read(tape)
    flow = timeline.meta.get("flow")
    flow = flow if isinstance(flow, dict) else {}
    language = _language(flow)
    spoken = transcribe(timeline, language)
    if recogniser and (missing := gaps(spoken)):
        heard = caller_audio(tape, timeline, [(start, end) for _, start, end in missing])
        for (gap, _, _), pcm16k in zip(missing, heard, strict=True):
            fill(gap, recogniser.hear(pcm16k, language))
    tools, keys = tool_uses(timeline), key_presses(timeline)
    text_usage = tuple(recogniser.spent) if recogniser else ()
    cost, unknown = price_call(timeline, spoken, prices, text_usage)
    waterfalls = waterfalls_of(timeline, spoken)
    received = next((m.event for m in timeline.of(CallReceived)), None)
    numbers = received if isinstance(received, CallReceived) else CallReceived("", "", "", "")
    record = CallRecord(
        call_id=_call_id(tape.path),
        call_sid=str(timeline.meta.get("call") or numbers.call_sid),
        account=str(timeline.meta.get("account") or ""),
        flow=str(flow.get("id") or numbers.flow),
        flow_hash=str(flow.get("hash") or ""),
        from_number=numbers.from_number,
        to_number=numbers.to_number,
        began_at=datetime.fromtimestamp(timeline.began_wall_ns / 1e9, UTC),
        duration_ms=round(timeline.length_ms, 1),
        stream_offset_ms=round(timeline.stream_offset_ms, 1),
        code=str(timeline.meta.get("code") or ""),
        model=_model(timeline),
        language=language,
        tape_sha256=_sha256(tape.path),
        tape_bytes=tape.path.stat().st_size,
        derived_by=DERIVE_VERSION,
        outcome=conclude(timeline, spoken, tools, keys),
        figures=figures_of(timeline, spoken, waterfalls),
        cost=cost,
        turns=tuple(each.turn for each in spoken),
        tools=tools,
        keys=keys,
        waterfalls=waterfalls,
        flags=(
            *commitments.check(
                spoken,
                tools,
                done_otherwise(timeline),
                today=_today(timeline, flow),
                sends=commitments.sent_by(json.dumps(flow.get("content"), ensure_ascii=False)),
            ),
            *_gaps(spoken),
            *_integrity(timeline),
            *unknown,
        ),
        retention=_retention(flow),
        commitment_check=commitments.checked(spoken),
        text_usage=text_usage,
    )
    return Derived(record, timeline)


def _language(flow: dict[str, Any]) -> str:
    content = flow.get("content")
    return str(content.get("language") or "en-US") if isinstance(content, dict) else "en-US"


def _today(timeline: Timeline, flow: dict[str, Any]) -> date | None:
    """The day of the call at the business; None where the tape does not tell its time zone."""
    content = flow.get("content")
    business = content.get("business") if isinstance(content, dict) else None
    try:
        zone = ZoneInfo(str(business.get("timezone"))) if isinstance(business, dict) else None
    except (ZoneInfoNotFoundError, ValueError):
        return None
    return datetime.fromtimestamp(timeline.began_wall_ns / 1e9, zone).date() if zone else None


def _retention(flow: dict[str, Any]) -> dict[str, int]:
    """The days that the flow keeps each kind; what it leaves out is for the settings to say."""
    content = flow.get("content")
    asked = content.get("retention") if isinstance(content, dict) else None
    days = {name.removesuffix("_days"): value for name, value in asked.items()} if isinstance(asked, dict) else {}
    return {kind: value for kind, value in days.items() if isinstance(value, int)}


def _call_id(path: Path) -> str:
    return path.name.removesuffix(".part").removesuffix(".mcap")


def _model(timeline: Timeline) -> str:
    """The model that answered, the last one where several did."""
    models = [m.event.model for m in timeline.of(ModelConnected) if isinstance(m.event, ModelConnected)]
    return models[-1] if models else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _gaps(spoken: Sequence[SpokenTurn]) -> list[Flag]:
    return [
        Flag("voice_without_words", f"{sum(v.speech_ms for v in each.voice):.0f} ms of speech", each.turn.number)
        for each in spoken
        if each.turn.gap and not each.turn.text
    ]


def _integrity(timeline: Timeline) -> list[Flag]:
    flags = []
    if timeline.lost_records:
        flags.append(Flag("records_lost", f"{timeline.lost_records} records: the disk did not keep up"))
    if timeline.damage:
        flags.append(Flag("records_lost", f"the tape is {timeline.damage}"))
    ended = timeline.ended()
    refused = any(True for _ in timeline.of(CallRefused))
    if (ended.reason == "interrupted") if ended else not refused:
        flags.append(Flag("interrupted", "the server died during the call"))
    return flags
