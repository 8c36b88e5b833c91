"""What a killed server loses: ``uv run -m benchmarks.kill --kills 50``.

A real server with ten calls in progress, which talk and book appointments, is killed with SIGKILL at a random moment,
every other time together with its worker. The next start finds the tapes, closes the calls as interrupted and makes
their records. Then each call is compared with what its phone had sent and heard when the server died, and the records
with the business's books.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import text

from benchmarks.model import Model, Session
from benchmarks.phones import Account, Phone
from benchmarks.scenario import free_port
from bot.ports import SystemClock
from bot.settings import Settings
from bot.tape import TapeReader
from records.inbox import tape_of
from records.steps import Parts, open_parts
from records.store import migrate

ROOT = Path(__file__).parent.parent
ACCOUNT = Account("AC" + "b" * 32, "token-of-the-benchmark")
BOUND_MS = 1000.0
START_SECONDS = 60.0
RECOVERY_SECONDS = 60.0
LONGEST_TALK_SECONDS = 6.0


class BookingSession(Session):
    """Asks for free times and books one whenever its caller has spoken, before it answers."""

    _asked = 0

    def received(self, message: bytes) -> None:
        """A message of the client."""
        content = orjson.loads(message)
        response = content.get("toolResponse") or content.get("tool_response")
        if response is None:
            super().received(message)
            return
        [answer] = response.get("functionResponses") or response["function_responses"]
        slots = answer["response"].get("slots")
        if answer["name"] == "find_slots" and slots:
            slot = random.choice(slots)
            self._call("book_appointment", service="Cleaning", day=slot["day"], time=slot["time"], name="Emma Wilson")
        else:
            super()._answer()

    def _answer(self) -> None:
        day = datetime.now(UTC) + timedelta(days=random.randint(3, 50))
        self._call("find_slots", service="Cleaning", day=day.date().isoformat())

    def _call(self, function: str, /, **arguments: str) -> None:
        BookingSession._asked += 1
        call = {"id": f"fc-{BookingSession._asked}", "name": function, "args": arguments}
        self.send_binary(orjson.dumps({"toolCall": {"functionCalls": [call]}}))


class BookingModel(Model):
    """The measuring model, whose sessions book."""

    async def start(self) -> str:
        """Serve on a free port. Gives the base URL."""
        self.server = await asyncio.get_running_loop().create_server(lambda: BookingSession(self), "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"


class Witness(Phone):
    """A phone that remembers when it heard what."""

    def __init__(self, index: int, url: str, call_sid: str) -> None:
        super().__init__(index, url, ACCOUNT)
        self.call_sid = self._call_sid = call_sid
        self._stream_sid = "MZ" + call_sid[2:]
        self.heard_at: list[float] = []
        self.sent_frames = 0
        self.died_at = 0.0
        self.has_tape = False
        self._rests_until = 25

    def closed(self) -> None:
        """The server has closed the stream: what is said from now on reaches nobody."""
        self._stop()

    def received(self, message: bytes) -> None:
        """A message of the bot."""
        if self.died_at:
            return
        if b'"media"' in message:
            self.heard_at.append(time.monotonic())
        super().received(message)

    def server_died(self, at: float) -> None:
        """Keep what was until now."""
        self.died_at = at
        self._stop()
        self.close()

    def _stop(self) -> None:
        self.sent_frames = self._frames
        if self._timer:
            self._timer.cancel()


@dataclass
class Counts:
    """What came of all calls. Times in ms."""

    kills: int = 0
    calls: int = 0
    without_tape: int = 0
    """Calls that were so young that not even the first chunk was written."""
    not_closed: int = 0
    """Calls without a record, or with another end than ``interrupted``."""
    lost_said_ms: list[float] = field(default_factory=list)
    lost_heard_ms: list[float] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)
    """From the start of the next server to the last record, the server's own start of about three seconds included."""
    booked: int = 0
    bookings_unrecorded: int = 0
    """In the business's books and on no record."""
    bookings_invented: int = 0
    """On a record and not in the business's books."""

    @property
    def over_bound(self) -> int:
        """Calls that lost more than a second."""
        return sum(ms > BOUND_MS for ms in (*self.lost_said_ms, *self.lost_heard_ms))


class Site:
    """A server that is killed again and again, on one folder."""

    def __init__(self, folder: Path, gemini_url: str, chance: random.Random) -> None:
        self._chance = chance
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = (folder / "server.log").open("ab")
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
        self._environment = kept | {
            "DATA_DIR": str(folder),
            "PORT": str(self._port),
            "GOOGLE_API_KEY": "key",
            "GEMINI_BASE_URL": gemini_url,
            "TWILIO_ACCOUNT_SID": ACCOUNT.sid,
            "TWILIO_AUTH_TOKEN": ACCOUNT.token,
            "TWILIO_API_BASE_URL": "http://127.0.0.1:9",
            "LOG_LEVEL": "ERROR",
        }
        self._server: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the server; returns when it serves."""
        self._server = await asyncio.create_subprocess_exec(
            sys.executable, "server.py", "--no-sample-call",
            cwd=ROOT, env=self._environment, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while not await asyncio.to_thread(self._is_well):
            if self._server.returncode is not None or time.monotonic() > end:
                raise RuntimeError(f"The server did not start; its log is {self._log.name}.")
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to the server, or to it and its worker."""
        assert self._server is not None
        if self._chance.random() < 0.5:
            os.killpg(self._server.pid, signal.SIGKILL)
        else:
            self._server.kill()

    def close(self) -> None:
        """Kill what is still there."""
        if self._server is not None and self._server.returncode is None:
            self._server.kill()
        self._log.close()

    async def bury(self) -> None:
        """Wait for its end."""
        assert self._server is not None
        await self._server.wait()

    def _is_well(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


async def run(folder: Path, *, kills: int, calls: int = 10, seed: int = 1, done: Callable[[], None]) -> Counts:
    """Kill a server `kills` times with `calls` calls in progress; `done` is called after each time."""
    chance = random.Random(seed)
    counts = Counts()
    model = BookingModel(lambda _: None)
    site = Site(folder, await model.start(), chance)
    settings = Settings(_env_file=None, data_dir=folder)  # type: ignore[call-arg]
    migrate(settings.database)
    parts = open_parts(settings, SystemClock())
    try:
        await _rounds(site, parts, counts, chance, kills, calls, done)
        _check_bookings(parts, counts)
    finally:
        site.close()
        model.server.close()
        parts.store.close()
        parts.database.close()
    return counts


async def _rounds(
    site: Site, parts: Parts, counts: Counts, chance: random.Random, kills: int, calls: int, done: Callable[[], None]
) -> None:
    """Start, call, kill; the last start only recovers."""
    witnesses: list[Witness] = []
    for number in range(kills + 1):
        started = time.monotonic()
        await site.start()
        calling = asyncio.create_task(_ring(site, number, calls if number < kills else 0))
        if witnesses:
            await _compare(parts, witnesses, counts, started)
            done()
        witnesses = await calling
        if number < kills:
            await asyncio.sleep(chance.uniform(0, LONGEST_TALK_SECONDS))
            counts.kills += 1
        # The phones stop in the same breath, before anything of theirs can come back to this loop.
        site.kill()
        died_at = time.monotonic()
        for witness in witnesses:
            witness.server_died(died_at)
        await site.bury()
        for witness in witnesses:
            witness.has_tape = parts.inbox.find(witness.call_sid) is not None or bool(parts.log.steps(witness.call_sid))


async def _ring(site: Site, number: int, calls: int) -> list[Witness]:
    phones = [Witness(index, f"{site.url}/twilio/voice", f"CA{number:08x}{index:024x}") for index in range(calls)]
    await asyncio.gather(*(phone.ring() for phone in phones))
    await asyncio.gather(*(phone.heard(10) for phone in phones))
    return phones


async def _compare(parts: Parts, witnesses: list[Witness], counts: Counts, started: float) -> None:
    """Wait for the records of the calls that were killed, and hold them against what the phones know."""
    for witness in witnesses:
        if not witness.has_tape:
            counts.calls += 1
            counts.without_tape += 1
            counts.lost_said_ms.append(witness.sent_frames * 20.0)
    waiting = {witness.call_sid: witness for witness in witnesses if witness.has_tape}
    end = time.monotonic() + RECOVERY_SECONDS
    while waiting and time.monotonic() < end:
        for call_sid in [sid for sid in waiting if set(parts.log.steps(sid).values()) == {"done"}]:
            await asyncio.to_thread(_look_at, parts, waiting.pop(call_sid), counts)
        await asyncio.sleep(0.1)
    counts.recovery_seconds.append(time.monotonic() - started)
    counts.calls += len(waiting)
    counts.not_closed += len(waiting)


def _look_at(parts: Parts, witness: Witness, counts: Counts) -> None:
    counts.calls += 1
    record = parts.store.call(witness.call_sid)
    if record is None or record.outcome.end_reason != "interrupted":
        counts.not_closed += 1
    messages = _carrier_messages(parts, witness.call_sid)
    counts.lost_said_ms.append(max(0, witness.sent_frames - messages["carrier.in media"]) * 20.0)
    kept = messages["carrier.out media"]
    lost_since = witness.heard_at[kept] if kept < len(witness.heard_at) else witness.died_at
    counts.lost_heard_ms.append((witness.died_at - lost_since) * 1000)


def _carrier_messages(parts: Parts, call_sid: str) -> Counter[str]:
    """How many messages of each kind are on the tape: ``carrier.in media``."""
    with tape_of(call_sid, parts.inbox, parts.recordings) as path:
        return Counter(
            f"{found.channel} {orjson.loads(found.data).get('event')}"
            for found in TapeReader(path)
            if found.channel.startswith("carrier.")
        )


def _check_bookings(parts: Parts, counts: Counts) -> None:
    with parts.database.reading() as session:
        booked = {str(number) for number in session.scalars(text("SELECT id FROM desk_appointments"))}
    records = [parts.store.call(call_id) for call_id in parts.log.call_ids()]
    told = {change.id for record in records if record for change in record.outcome.changes}
    counts.booked = len(booked)
    counts.bookings_unrecorded = len(booked - told)
    counts.bookings_invented = len(told - booked)


def report(counts: Counts, console: Console) -> None:
    """Print the counts."""
    table = Table("what", "figure", box=None)
    for name, value in (
        ("kills", counts.kills),
        ("calls in progress at a kill", counts.calls),
        ("of these too young to have a tape", counts.without_tape),
        ("calls without a record, or not closed as interrupted", counts.not_closed),
        ("said and not on the tape, ms: median, worst", _spread(counts.lost_said_ms)),
        ("heard and not on the tape, ms: median, worst", _spread(counts.lost_heard_ms)),
        ("calls that lost more than a second", counts.over_bound),
        ("start to the last record, s: median, worst", _spread(counts.recovery_seconds, 1)),
        ("appointments in the books", counts.booked),
        ("of these on no record", counts.bookings_unrecorded),
        ("on a record and not in the books", counts.bookings_invented),
    ):
        table.add_row(name, str(value))
    console.print(table)


def _spread(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f}, {max(values):.{digits}f}" if values else "-"


def main() -> int:
    """The command; exit status 1 where anything was lost that must not be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--calls", type=int, default=10, help="in progress at each kill")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="switchboard-kill-") as folder, Progress(console=console) as progress:
        task = progress.add_task("Killing servers", total=options.kills)
        counts = asyncio.run(
            run(
                Path(folder),
                kills=options.kills,
                calls=options.calls,
                seed=options.seed,
                done=lambda: progress.advance(task),
            )
        )
    report(counts, console)
    return 1 if counts.over_bound or counts.not_closed or counts.bookings_unrecorded or counts.bookings_invented else 0


if __name__ == "__main__":
    sys.exit(main())
