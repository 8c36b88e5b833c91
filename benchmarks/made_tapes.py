"""Tapes of calls that never happened, with the truth beside them: what the caller really heard, sample by sample.

A carrier is simulated: its clock, its playout queue with marks and ``clear``, and a network that delays, jitters and
keeps order. Our side is `bot.carriers.playout`, which says where marks stand, and the pace of `bot.lane`. All
moments given are milliseconds on the carrier's clock, 0 at the ``start`` message.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bot.audio import pcm_to_ulaw, ulaw_to_pcm
from bot.carriers.playout import Playout
from bot.events import (
    BotSaid,
    BotStartedSpeaking,
    CallEnded,
    CallerSaid,
    CallEvent,
    CallReceived,
    ModelConnected,
    StreamStarted,
)
from bot.tape_file import HEAD, LAYOUT, Record, encode_chunk, finish_tape

EPOCH_NS = 1_793_180_000 * 1_000_000_000  # 2026-10-28T09:33:20Z
CALL = "CA" + "7" * 32
MODEL = "gemini-3.8-live"
_WEBHOOK_MS = -400.0
_SECOND_OF_SILENCE = base64.b64encode(bytes(48_000)).decode()


def silence(ms: float) -> bytes:
    """Mu-law."""
    return b"\xff" * int(ms * 8)


def tone(ms: float, hz: float = 440.0, peak: int = 8_000) -> bytes:
    """Mu-law."""
    samples = np.arange(int(ms * 8))
    return pcm_to_ulaw((peak * np.sin(2 * np.pi * hz * samples / 8_000 + 0.7)).astype("<i2").tobytes())


def at(*parts: tuple[float, bytes], ms: float) -> bytes:
    """Mu-law of `ms` length: silence, with each part at its moment."""
    audio = bytearray(silence(ms))
    for moment, part in parts:
        audio[int(moment * 8) : int(moment * 8) + len(part)] = part
    return bytes(audio[: int(ms * 8)])


def loud_ms(samples: Any, join_ms: float = 50.0) -> list[tuple[float, float]]:
    """Where mu-law, or an array of s16le, is loud: (first, last) sample in ms; pauses up to `join_ms` are within."""
    if isinstance(samples, bytes):
        samples = np.frombuffer(ulaw_to_pcm(samples), "<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 1_000)
    parts = np.split(loud, np.flatnonzero(np.diff(loud) > join_ms * 8) + 1) if len(loud) else []
    return [(float(part[0]) / 8, float(part[-1]) / 8) for part in parts]


def chunk_of(mulaw: bytes) -> str:
    """The payload of a ``media`` message."""
    return base64.b64encode(mulaw).decode()


@dataclass(frozen=True)
class Network:
    """Delays in ms, each way. `drift_ppm`: our clock runs so much faster than the carrier's."""

    up_ms: float = 25.0
    down_ms: float = 25.0
    jitter_ms: float = 0.0
    drift_ppm: float = 0.0
    seed: int = 1
    lost: frozenset[int] = frozenset()
    """Numbers of caller's frames that never come."""
    twice: frozenset[int] = frozenset()
    """Numbers of caller's frames that come a second time, 60 ms later."""
    burst_ms: float = 0.0
    """The caller's frames wait at the carrier and come in bursts, so far apart."""


@dataclass(frozen=True)
class Says:
    """A turn of the bot: its audio, from the moment when our side begins to send it. `cut_ms`: we send ``clear`` then.

    The model's first audio comes `model_ms` before.
    """

    at_ms: float
    mulaw: bytes
    words: str = ""
    clip: bool = False
    cut_ms: float | None = None
    model_ms: float = 40.0
    paced: bool = True
    """Sent in real time; otherwise all at once."""
    pause_ms: tuple[float, float] | None = None
    """Nothing is sent between these moments."""
    noticed: bool = True
    """The model says itself that it was interrupted."""
    generated: bool | None = True
    """Whether the model says that this was all; None where its frames are not part of this."""
    usage: dict[str, Any] | None = None


@dataclass(frozen=True)
class Heard:
    """Words of the caller, as the model wrote them down at a moment."""

    at_ms: float
    words: str
    language: str = ""


@dataclass
class Truth:
    """What really happened, on the carrier's clock, 8 samples to the ms: mu-law."""

    said: bytes
    heard: bytes
    starts_ms: list[float] = field(default_factory=list)
    """When each of the bot's turns began to be heard."""
    stops_ms: list[float] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Of each message of the bot's audio: the sample at which it began, and how many of its samples were played."""


def write_tape(
    path: Path,
    *,
    caller: bytes,
    bot: Sequence[Says] = (),
    heard: Sequence[Heard] = (),
    events: Iterable[tuple[float, CallEvent]] = (),
    frames: Iterable[tuple[float, str, dict[str, Any]]] = (),
    network: Network | None = None,
    ended: str = "caller_hung_up",
    finished: bool = True,
    stops: bool = True,
    meta: dict[str, Any] | None = None,
    call_model: bool = True,
) -> Truth:
    """Write the tape of a call to `path` (``….mcap``; left as ``….mcap.part`` where not `finished`).

    `events` and `frames` (moment, channel, message) go onto it as they are. `ended`: the reason, or "" for none.
    """
    carrier = _Carrier(network or Network(), caller)
    records = carrier.run(bot, call_model=call_model)
    length_ms = len(caller) / 8
    if stops:
        records.append((length_ms + carrier.network.up_ms + 5, "carrier.in", _stop()))
    records += [(_WEBHOOK_MS, "event", CallReceived(CALL, "+12075550100", "+12075550142", "dental"))]
    records += [(0.1 + carrier.network.up_ms, "event", StreamStarted("MZ1", 400.0))]
    if call_model:
        records += [(-300.0, "model.in", {"setup": {"model": f"models/{MODEL}"}}), (-110.0, "model.out", _SETUP)]
        records += [(-100.0, "event", ModelConnected(MODEL, 190.0, False))]
    for each in heard:
        transcription = {"text": each.words} | ({"languageCode": each.language} if each.language else {})
        records.append((each.at_ms, "model.out", {"serverContent": {"inputTranscription": transcription}}))
        records.append((each.at_ms + 0.5, "event", CallerSaid(each.words)))
    records += [(ms, "event", event) for ms, event in events]
    records += list(frames)
    records.sort(key=lambda record: record[0])
    if ended:
        last = max(record[0] for record in records)
        records.append((last + 1, "event", CallEnded(ended, last)))  # type: ignore[arg-type]
    _write(path, records, carrier.network.drift_ppm, meta, finished=finished)
    return carrier.truth


def any_call(seed: int) -> dict[str, Any]:
    """For `write_tape`: a call of a few turns with chance in everything: pauses, lengths, delays, jitter and drift."""
    chance = random.Random(seed)
    caller, bot, heard = [], [], []
    ms = 1_500.0
    for _ in range(chance.randint(1, 4)):
        length = chance.uniform(300, 2_500)
        caller.append((ms, tone(length, 300)))
        answer = ms + length + chance.uniform(350, 2_500)
        heard.append(Heard(answer - chance.uniform(60, 300), "words"))
        lead = chance.choice([0, 0, 40, 200])
        spoken = chance.uniform(600, 4_000)
        model_ms = chance.uniform(5, 50)
        bot.append(Says(answer, silence(lead) + tone(spoken), "An answer.", model_ms=model_ms))
        ms = answer + lead + spoken + chance.uniform(500, 2_000)
    network = Network(
        chance.uniform(5, 120), chance.uniform(5, 120), chance.uniform(0, 30), chance.uniform(-100, 100), seed
    )
    return {"caller": at(*caller, ms=ms + 1_000), "bot": bot, "heard": heard, "network": network}


def long_call(minutes: float, network: Network) -> dict[str, Any]:
    """For `write_tape`: question and answer every 15 s; each fifth answer is cut off by the caller."""
    caller, bot, heard = [], [], []
    for number in range(int(minutes * 4)):
        ms = number * 15_000.0
        caller.append((ms + 1_000, tone(900, 300)))
        heard.append(Heard(ms + 2_700, "another question of the caller"))
        # Not always at the same place within a frame.
        begins = ms + 3_000 + 7 * (number % 3)
        cut = number % 5 == 4
        words = "an answer that has some words in it"
        bot.append(Says(begins, tone(4_000 + 300 * (number % 4)), words, cut_ms=begins + 2_100 if cut else None))
        if cut:
            caller.append((begins + 1_900, tone(700, 300)))
    return {"caller": at(*caller, ms=minutes * 60_000), "bot": bot, "heard": heard, "network": network}


_SETUP = {"setupComplete": {}}
_Entry = tuple[float, str, Any]
_TOGETHER_MS = 1.0
"""What is written within so short a time travels together: one segment, or one right behind the other."""
_MESSAGE_BYTES = 320
"""40 ms of the bot; the next is sent when 40 ms are left."""


def _stop() -> dict[str, Any]:
    return {"event": "stop", "sequenceNumber": "9999999", "streamSid": "MZ1", "stop": {"callSid": CALL}}


class _Way:
    """One direction of a connection: it delays, each time by more or less, and keeps the order, as TCP does."""

    def __init__(self, delay_ms: float, jitter_ms: float, chance: random.Random) -> None:
        self._delay_ms = delay_ms
        self._jitter_ms = jitter_ms
        self._chance = chance
        self._left = self._arrived = -1e9
        self._late = 0.0

    def arrival(self, moment: float) -> float:
        """When what is sent at `moment` arrives. Moments must not go back."""
        if self._jitter_ms and moment - self._left > _TOGETHER_MS:
            self._left, self._late = moment, self._chance.uniform(0, self._jitter_ms)
        self._arrived = max(self._arrived + 0.01, moment + self._delay_ms + self._late)
        return self._arrived


class _Carrier:
    def __init__(self, network: Network, caller: bytes) -> None:
        self.network = network
        self.truth = Truth(caller, b"")
        chance = random.Random(network.seed)
        self._up = _Way(network.up_ms, network.jitter_ms, chance)
        self._down = _Way(network.down_ms, network.jitter_ms, chance)
        self._caller = caller
        self._playout = Playout()

    def run(self, bot: Sequence[Says], *, call_model: bool) -> list[_Entry]:
        sent: list[_Entry] = []
        for turn, says in enumerate(bot):
            sent += self._spoken(turn, says)
        sent.sort(key=lambda entry: entry[0])
        ups = self._played(sent) + self._frames()
        ups.sort(key=lambda entry: entry[0])
        records = [entry for entry in sent if entry[1] != "model.out" or call_model]
        for number, (moment, _, message) in enumerate(ups):
            arrived = self._up.arrival(moment)
            message["sequenceNumber"] = str(number + 1)
            records.append((arrived, "carrier.in", message))
            if call_model and message["event"] == "media":
                ref = {"realtimeInput": {"audio": {"ref": "carrier.in", "ms": 20}}}
                records.append((arrived + 1.5, "model.in", ref))
        return records

    # -- the caller ---------------------------------------------------------------------------------------------------

    def _frames(self) -> list[_Entry]:
        start = {"streamSid": "MZ1", "callSid": CALL, "accountSid": "AC1", "tracks": ["inbound"]}
        ups: list[_Entry] = [(0.0, "carrier.in", {"event": "start", "streamSid": "MZ1", "start": start})]
        burst = self.network.burst_ms
        for number in range(len(self._caller) // 160):
            if number in self.network.lost:
                continue
            due = 20.0 * number + 20
            if burst:
                due = (due // burst + 1) * burst
            for moment in (due, due + 60) if number in self.network.twice else (due,):
                media = {
                    "track": "inbound",
                    "chunk": str(number + 1),
                    "timestamp": str(20 * number),
                    "payload": chunk_of(self._caller[160 * number : 160 * number + 160]),
                }
                ups.append((moment, "carrier.in", {"event": "media", "streamSid": "MZ1", "media": media}))
        return ups

    # -- the bot ------------------------------------------------------------------------------------------------------

    def _spoken(self, turn: int, says: Says) -> list[_Entry]:
        """What our side sends for a turn: events, audio as `bot.lane` paces it, marks, perhaps a clear."""
        entries: list[_Entry] = []
        if not says.clip and says.generated is not None:
            entries += _of_the_model(says)
        clip = says.words if says.clip else ""
        entries.append((says.at_ms - 0.05, "event", BotStartedSpeaking(turn, None, None, clip)))
        late = 0.0
        cut = says.cut_ms if says.cut_ms is not None else 1e12
        for number in range(-(-len(says.mulaw) // _MESSAGE_BYTES)):
            moment = says.at_ms + late + (max(0.0, 40.0 * number - 40) if says.paced else 0.0) + 0.001 * number
            if says.pause_ms and says.pause_ms[0] < moment < says.pause_ms[1]:
                late += says.pause_ms[1] - moment
                moment = says.pause_ms[1]
            if moment >= cut:
                break
            chunk = says.mulaw[_MESSAGE_BYTES * number : _MESSAGE_BYTES * (number + 1)]
            media = {"payload": chunk_of(chunk)}
            entries.append((moment, "carrier.out", {"event": "media", "streamSid": "MZ1", "media": media}))
            entries += _marks(moment, self._playout.play(len(chunk), turn, moment))
        if says.cut_ms is None:
            entries += _marks(entries[-1][0], self._playout.end_turn())
        else:
            entries += _marks(says.cut_ms - 0.02, self._playout.stopped())
            self._playout.clear(says.cut_ms)
            entries.append((says.cut_ms, "carrier.out", {"event": "clear", "streamSid": "MZ1"}))
            if says.noticed:
                entries.append((says.cut_ms - 0.5, "model.out", {"serverContent": {"interrupted": True}}))
        if says.words:
            entries.append((entries[-1][0] + 100, "event", BotSaid(says.words, 1.0, says.cut_ms is not None)))
        return entries

    def _played(self, sent: Sequence[_Entry]) -> list[_Entry]:
        """Play what arrives, as the truth; gives the marks that go back, each at its moment."""
        heard = np.full(len(self._caller) + 8 * 60_000, 0xFF, np.uint8)
        starts: dict[int, float] = {}
        stops: dict[int, float] = {}
        pending: list[tuple[float, str]] = []
        returned: list[tuple[float, str]] = []
        pieces = self.truth.pieces
        free = -1e9
        turn = -1
        for moment, channel, message in sent:
            if channel == "event" and isinstance(message, BotStartedSpeaking):
                turn = message.turn
            if channel != "carrier.out":
                continue
            arrived = self._down.arrival(moment)
            if message["event"] == "media":
                audio = np.frombuffer(base64.b64decode(message["media"]["payload"]), np.uint8)
                begin = max(free, arrived)
                first = round(begin * 8)
                heard[first : first + len(audio)] = audio
                free = begin + len(audio) / 8
                pieces.append((first, len(audio)))
                starts.setdefault(turn, begin)
                stops[turn] = free
            elif message["event"] == "mark":
                pending.append((max(free, arrived), message["mark"]["name"]))
            else:
                cut = round(arrived * 8)
                heard[cut:] = 0xFF
                pieces[:] = [(first, min(size, max(0, cut - first))) for first, size in pieces]
                returned += [(min(due, arrived), name) for due, name in pending]
                pending.clear()
                stops[turn] = min(stops.get(turn, arrived), arrived)
                free = min(free, arrived)
        returned += pending
        self.truth.heard = heard[: len(self._caller)].tobytes()
        self.truth.starts_ms, self.truth.stops_ms = list(starts.values()), list(stops.values())
        return [(due, "carrier.in", {**_mark(name)}) for due, name in returned if due < len(self._caller) / 8]


def _marks(moment: float, name: str | None) -> list[_Entry]:
    return [(moment + 0.01, "carrier.out", _mark(name))] if name else []


def _mark(name: str) -> dict[str, Any]:
    return {"event": "mark", "streamSid": "MZ1", "mark": {"name": name}}


def audio(ms: float) -> dict[str, Any]:
    """A part of the model's turn: so much audio, at most a second."""
    return {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": _SECOND_OF_SILENCE[: round(ms * 16) * 4]}}


def _of_the_model(says: Says) -> list[_Entry]:
    """The model's frames for a turn: audio by 200 ms, four times as fast as it sounds, its words along with it."""
    entries: list[_Entry] = []
    words = says.words.split()
    length_ms = len(says.mulaw) / 8
    count = max(1, round(length_ms / 200))
    moment = says.at_ms - says.model_ms
    for number in range(count):
        ms = length_ms / count
        content: dict[str, Any] = {"modelTurn": {"parts": [audio(ms)]}}
        some = words[number * len(words) // count : (number + 1) * len(words) // count]
        if some:
            content["outputTranscription"] = {"text": "".join(f" {word}" for word in some)}
        entries.append((moment + number * 50, "model.out", {"serverContent": content}))
    if not says.generated:
        return entries
    done = moment + count * 50
    if says.cut_ms is None or done < says.cut_ms:
        entries.append((done, "model.out", {"serverContent": {"generationComplete": True}}))
    end: dict[str, Any] = {"serverContent": {"turnComplete": True}}
    if says.usage:
        end["usageMetadata"] = says.usage
    entries.append((max(done, says.at_ms + length_ms if says.cut_ms is None else says.cut_ms) + 1, "model.out", end))
    return entries


def _write(
    path: Path, entries: Sequence[_Entry], drift_ppm: float, meta: dict[str, Any] | None, *, finished: bool
) -> None:
    began = entries[0][0] - 1
    first = {"layout": LAYOUT, "call": CALL, "account": "AC1", "flow": _FLOW, "code": "1.2.3"} | (meta or {})
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(HEAD)
        chunk = [Record("meta", EPOCH_NS, 0, json.dumps(first).encode(), 0)]
        for number, (moment, channel, message) in enumerate(entries, 1):
            ns = int((moment - began) * (1 + drift_ppm / 1e6) * 1e6)
            chunk.append(Record(channel, EPOCH_NS + ns, ns, _data(message), number))
            if len(chunk) == 200:
                file.write(encode_chunk(chunk))
                chunk = []
        if chunk:
            file.write(encode_chunk(chunk))
    if finished:
        finish_tape(part)


_FLOW = {"id": "dental", "hash": "feedface", "content": {"language": "en-US"}}


def _data(message: Any) -> bytes:
    if isinstance(message, bytes):
        return message
    return message.to_json() if isinstance(message, CallEvent) else json.dumps(message).encode()
