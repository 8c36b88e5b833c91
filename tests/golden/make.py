"""The golden tapes: one call for each layout of the tape, with the record that must be derived from it for ever.

``uv run -m tests.golden.make`` writes the tape of the layout that `bot.tape_file` writes now, where there is none yet:
a golden tape is never made again. It writes what is derived from each tape anew: look at the difference before you
commit it. All audio is made of tones.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.made_tapes import Heard, Network, Says, at, tone, write_tape
from bot.events import CallEvent, Grounded, KeyPressed, StepEntered, ToolCalled, ToolReturned
from bot.tape import TapeReader
from bot.tape_file import LAYOUT
from records.derive import Prices, derive
from records.record import CallRecord

FOLDER = Path(__file__).parent
PRICES = Prices(
    date="2026-11-21",
    models={"gemini-3.8-live": {"text_in": 0.75, "audio_in": 3.0, "text_out": 4.5, "audio_out": 12.0}},
    search=14.0,
    carrier={"voice": 0.0085, "media_stream": 0.004},
)
"""Not the table that is edited when prices change."""
_START = "2026-12-01T09:00"
_TOLD = "You're booked for Tuesday at nine. Please arrive a little early and bring your card"
_BOOKED = {
    "say": "Booked for Ada Lovelace: Cleaning with June Abbott on Tuesday, December 1 at 9:00 AM.",
    "number": 12,
    "service": "Cleaning",
    "with": "June Abbott",
    "when": "Tuesday, December 1 at 9:00 AM",
    "start": _START,
    "name": "Ada Lovelace",
    "price": "$120",
}


def tapes() -> list[Path]:
    """All golden tapes, the oldest layout first."""
    return sorted(FOLDER.glob("tape-v*.mcap"), key=layout_of)


def layout_of(tape: Path) -> int:
    """The layout that a golden tape was written in, by its name."""
    found = re.fullmatch(r"tape-v(\d+)\.mcap", tape.name)
    assert found, tape.name
    return int(found[1])


def told(tape: Path) -> dict[str, Any]:
    """What is compared: the records of each channel, and the derived record without what is only another view of it."""
    reader = TapeReader(tape)
    record = TypeAdapter(CallRecord).dump_python(derive(reader, prices=PRICES).record, mode="json")
    del record["derived_by"]
    for turn in record["turns"]:
        turn["words"] = len(turn["words"])
    for waterfall in record["waterfalls"]:
        waterfall["stages"] = [stage["name"] for stage in waterfall["stages"]]
    return {"records": dict(Counter(each.channel for each in reader)), "record": record}


def _write(tape: Path) -> None:
    """A call of half a minute: a greeting, a booking, an answer cut off by the caller, a key, a voice without words."""
    usage = {
        "promptTokenCount": 626,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 312}, {"modality": "AUDIO", "tokenCount": 287}],
        "responseTokenCount": 63,
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 63}],
        "thoughtsTokenCount": 40,
    }
    asked = {"service": "Cleaning", "day": "2026-12-01"}
    book = {**asked, "time": "09:00", "name": "Ada Lovelace"}
    events: list[tuple[float, CallEvent]] = [
        (100.0, StepEntered("reception")),
        (5_100.0, ToolCalled("fc-1", "find_slots", asked, "reception")),
        (5_130.0, ToolReturned("fc-1", "find_slots", "ok", {"say": "9:00 AM is free.", "slots": []}, 30.0)),
        (5_131.0, StepEntered("choose_time")),
        (11_200.0, ToolCalled("fc-2", "book_appointment", book, "choose_time")),
        (11_240.0, ToolReturned("fc-2", "book_appointment", "ok", _BOOKED, 40.0)),
        (11_241.0, StepEntered("wrap_up")),
        (20_000.0, KeyPressed("5")),
        (21_000.0, Grounded(["parking near the clinic"], ["https://example.com"])),
    ]
    flow = {
        "id": "dental",
        "hash": "feedface",
        "content": {"language": "en-US", "business": {"timezone": "America/New_York"}, "retention": {"audio_days": 30}},
    }
    write_tape(
        tape,
        caller=at(
            (3_500, tone(1_200, 300)),
            (9_500, tone(900, 280)),
            (15_500, tone(1_000, 320)),
            (25_500, tone(1_500, 260)),
            ms=30_000,
        ),
        heard=[
            Heard(5_000, "a cleaning on Tuesday please", "en-US"),
            Heard(10_900, "yes at nine", "en-US"),
            Heard(17_000, "where can I park", "en-US"),
        ],
        bot=[
            Says(200, tone(2_800), "This is the clinic's automated assistant. This call is recorded.", clip=True),
            Says(6_000, tone(2_500), "Tuesday at nine is free. Shall I book it?", usage=usage),
            Says(12_000, tone(4_500), _TOLD, cut_ms=15_900, usage=usage),
            Says(18_000, tone(3_000), "You can park behind the house.", usage=usage),
        ],
        events=events,
        network=Network(up_ms=30, down_ms=40, drift_ppm=30),
        meta={"flow": flow},
    )  # fmt: skip


def main() -> None:
    """Write what is missing, and what is derived anew."""
    newest = FOLDER / f"tape-v{LAYOUT}.mcap"
    if not newest.exists():
        _write(newest)
    for tape in tapes():
        tape.with_suffix(".json").write_text(json.dumps(told(tape), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
