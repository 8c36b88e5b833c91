"""`python -m sandbox call`: one call from the terminal, told as it happens, summed up at its end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import websockets

from sandbox import sound
from sandbox.conversation import Caller, Conversation, ScriptError, Speaker, Spoken, Turn, load_script, sample_customer
from sandbox.surroundings import Surroundings
from sandbox.twilio.lines import RemoteExchange
from sandbox.twilio.microphone import Microphone, NoMicrophone
from sandbox.twilio.phone import Phone
from sandbox.twilio.record import CallRecord
from sandbox.twilio.stream import Faults
from sandbox.twilio.webhook import Signer

# Where Switchboard listens; used where only a server is named.
_VOICE, _STATUS, _FALLBACK = "/twilio/voice", "/twilio/status", "/twilio/fallback"
_QUIET_MS = 400


class Misuse(Exception):
    """The command line asks for something that cannot be done; the message says what to do."""


class _Add(argparse.Action):
    """Collects --say and --wav in the order in which they stand."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        turns = [*(getattr(namespace, "turns", None) or []), ((option or "").lstrip("-"), values)]
        namespace.turns = turns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m sandbox call`."""
    add = parser.add_argument
    add("url", nargs="?", help="the server or its voice webhook; default: the one in DATA_DIR/sandbox.json")
    says = parser.add_argument_group("what the caller does (default: says nothing, listens)")
    says.add_argument("--say", action=_Add, metavar="TEXT", help="say this (repeatable; with --wav in the order given)")
    says.add_argument("--wav", action=_Add, metavar="FILE", help="play an audio file of any rate and channels")
    says.add_argument("--script", type=Path, metavar="FILE", help="follow a YAML script")
    says.add_argument("--sample", metavar="WEEKDAY", help="be the customer of the sample call")
    says.add_argument("--mic", action="store_true", help="talk yourself, with microphone and loudspeaker")
    add("--from", dest="from_", default="+12075550123", metavar="NUMBER", help="the caller's number (%(default)s)")
    add("--to", default="+12075550142", metavar="NUMBER", help="the number called (%(default)s)")
    add("--save", type=Path, metavar="FILE.wav", help="stereo WAV: left the caller, right what the caller heard")
    add("--card", type=Path, metavar="FILE", help="the server's card (default: DATA_DIR/sandbox.json)")
    add("--account-sid", help="instead of the card's")
    add("--auth-token", help="instead of the card's")
    add("--public-url", default="", metavar="URL", help="the server's PUBLIC_URL, where it has one")
    add("--time-limit", type=float, default=600, metavar="SECONDS", help="hang up after this (%(default)s)")
    around = parser.add_argument_group("what is on the line besides the caller")
    around.add_argument("--echo-db", type=float, metavar="DB", help="what is heard comes back, e.g. -20 (default: not)")
    around.add_argument("--echo-ms", type=int, default=150, metavar="MS", help="so much later (%(default)s)")
    around.add_argument("--noise", type=Path, metavar="FILE", help="an audio file, repeated all through the call")
    faults = parser.add_argument_group("what goes wrong on purpose")
    faults.add_argument("--jitter-ms", type=int, default=0, help="delay the caller's frames by up to this")
    faults.add_argument("--burst-ms", type=int, default=0, help="hold the caller's frames back and send them together")
    faults.add_argument("--loss", type=float, default=0.0, help="share of the caller's frames that never arrive, 0..1")
    faults.add_argument("--read-delay-ms", type=int, default=0, help="read each message of the server this late")
    faults.add_argument("--second-socket", action="store_true", help="open a second media socket for the call")
    faults.add_argument("--omit-start", action="store_true", help="send media without the start message")
    faults.add_argument("--never-start", action="store_true", help="open the socket and send nothing more")
    faults.add_argument("--half-open-after-ms", type=int, default=0, help="fall silent then, without closing")
    faults.add_argument("--deaf-after-ms", type=int, default=0, help="read nothing from then on, and send on")
    faults.add_argument("--callbacks", choices=("ordered", "duplicated", "reordered"), default="ordered")
    faults.add_argument("--signature", choices=("good", "missing", "wrong"), default="good")


async def run(args: argparse.Namespace) -> int:
    """Place the call; returns the exit status: 0 only if it was answered and the bot was heard."""
    try:
        card = _card(args)
        with contextlib.ExitStack() as stack:
            caller: Caller = stack.enter_context(Microphone()) if args.mic else _caller(args)
            record = await _place(args, card, _Watched(caller))
    except (Misuse, ScriptError, NoMicrophone, ValueError, OSError) as problem:
        print(f"sandbox call: {problem}", file=sys.stderr)
        return 2
    if args.save:
        record.save(args.save)
    print(summary(record, args.save))
    return 0 if record.answered and record.stream_heard else 1


def _card(args: argparse.Namespace) -> dict[str, str]:
    """Server, account and token, from the options and the card that a server leaves. Raises Misuse."""
    path = args.card or Path(os.environ.get("DATA_DIR", "./data")) / "sandbox.json"
    given = {"server": args.url, "account_sid": args.account_sid, "auth_token": args.auth_token}
    card: dict[str, str] = {}
    if not all(given.values()):
        try:
            card = json.loads(path.read_text())
        except OSError:
            card = {}
        except ValueError as problem:
            raise Misuse(f"{path} is not JSON ({problem}); start the server again") from None
    card |= {name: value for name, value in given.items() if value}
    missing = [name for name in given if name not in card]
    if missing:
        raise Misuse(
            f"there is no {' and no '.join(missing)}: start a server that has nothing configured (uv run server.py), "
            f"it leaves {path}; or give URL, --account-sid and --auth-token"
        )
    if not urlsplit(card["server"]).netloc:
        raise Misuse(f"{card['server']!r} is not a URL; it should look like http://127.0.0.1:7860")
    return card


def _caller(args: argparse.Namespace) -> Conversation:
    if args.script:
        return load_script(args.script)
    if args.sample:
        return sample_customer(args.sample)
    turns = [Turn(say=value) if kind == "say" else Turn(play=Path(value)) for kind, value in getattr(args, "turns", ())]
    return Conversation(turns)


async def _place(args: argparse.Namespace, card: dict[str, str], caller: _Watched) -> CallRecord:
    url = card["server"]
    options: dict[str, Any] = {}
    if urlsplit(url).path in ("", "/"):
        base = url.rstrip("/")
        public = args.public_url.rstrip("/") or base
        url, options = base + _VOICE, {"status_callback": public + _STATUS, "fallback_url": public + _FALLBACK}
    signer = Signer(card["auth_token"], fault="" if args.signature == "good" else args.signature)
    phone = Phone(
        card["account_sid"],
        card["auth_token"],
        public_url=args.public_url,
        exchange=await _exchange(card),
        faults=_faults(args),
        signer=signer,
        on_event=caller.tell,
    )
    noise = sound.load(args.noise) if args.noise else b""
    surrounded = Surroundings(caller, args.echo_db, args.echo_ms, noise)
    call = phone.dial(url, caller=surrounded, from_=args.from_, to=args.to, time_limit=args.time_limit, **options)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, call.hang_up)
    return await call.run()


async def _exchange(card: dict[str, str]) -> RemoteExchange | None:
    """The exchange that lets REST reach this call; without one the call works, but the server cannot hang up."""
    if "twilio_api" not in card:
        return None
    exchange = RemoteExchange(card["twilio_api"], card["account_sid"], card["auth_token"])
    try:
        await exchange.check()
    except (OSError, websockets.WebSocketException) as problem:
        print(f"         the exchange at {card['twilio_api']} cannot be reached: {problem}; the server cannot hang up")
        return None
    return exchange


def _faults(args: argparse.Namespace) -> Faults:
    names = ("jitter_ms", "burst_ms", "loss", "read_delay_ms", "second_socket", "omit_start", "never_start")
    given = {name: getattr(args, name) for name in (*names, "half_open_after_ms", "deaf_after_ms", "callbacks")}
    if not 0 <= args.loss <= 1:
        raise Misuse(f"--loss is a share from 0 to 1, not {args.loss}")
    return replace(Faults(), **given)


class _Watched:
    """A caller whose call is printed as it happens."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._now_ms = 0
        self._talks_since: int | None = None
        self._last_voice = 0
        self._told = 0

    def prepare(self, voice: Speaker) -> None:
        """See `Caller`."""
        self._caller.prepare(voice)

    def tick(self, heard: bytes) -> Spoken:
        """See `Caller`."""
        self._now_ms += sound.FRAME_MS
        if sound.is_voiced(heard):
            self._last_voice = self._now_ms
            if self._talks_since is None:
                self._talks_since = self._now_ms
                self.tell(self._now_ms, "bot", "speaks")
        elif self._talks_since is not None and self._now_ms - self._last_voice >= _QUIET_MS:
            self.tell(self._last_voice, "bot", f"spoke for {(self._last_voice - self._talks_since) / 1000:.1f} s")
            self._talks_since = None
        did = self._caller.tick(heard)
        spoken = self._caller.spoken if isinstance(self._caller, Conversation) else []
        for utterance in spoken[self._told :]:
            cut_in = " (cuts in)" if utterance.barge_in else ""
            self.tell(self._now_ms, "caller", (utterance.text or "plays audio") + cut_in)
        self._told = len(spoken)
        if did.keys:
            self.tell(self._now_ms, "caller", f"presses {did.keys}")
        return did

    def tell(self, at_ms: int, kind: str, text: str) -> None:
        """Print one line."""
        print(f"{at_ms / 1000:6.1f} s  {kind:<13}{text}", flush=True)


def summary(record: CallRecord, saved: Path | None = None) -> str:
    """What came of a call, in lines."""
    lines = ["", f"ended: {record.ended_by} ({record.status}, {record.duration_seconds} s)"]
    heard = [f"{each.start_ms / 1000:.1f}-{each.end_ms / 1000:.1f}" for each in record.heard_segments]
    lines.append(f"heard: {', '.join(heard) + ' s' if heard else 'nothing'}")
    lines += [f"  announced at {at_ms / 1000:.1f} s: {text}" for at_ms, text in record.announcements]
    for number, each in enumerate(record.streams, 1):
        stream = each.stream
        played = [mark.name for mark in stream.marks if not mark.cleared]
        cleared = len(stream.marks) - len(played)
        lines.append(
            f"stream {number}: {stream.played_bytes / sound.RATE:.1f} s played, {stream.underruns} underruns, "
            f"{len(stream.clears)} clears, marks: {len(played)} played, {cleared} cleared"
        )
        if each.second_close_code is not None:
            lines.append(f"  the second socket was closed with {each.second_close_code}")
    for response in record.responses():
        lines.append(f"answered after {response.ms:.0f} ms (at {response.answer_ms / 1000:.1f} s)")
    lines += [f"problem: {problem}" for problem in record.problems()]
    if saved:
        lines.append(f"saved: {saved}")
    return "\n".join(lines)
