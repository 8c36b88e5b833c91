"""``uv run -m benchmarks.growth``: how the store's lists, searches and pages stay fast as calls pile up.

Fills SQLite, and Postgres where its address is given, with made-up calls, and times what the console asks for through
`records.store.Store` at 1,000, 10,000 and 100,000 calls. Writes docs/store.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from sqlalchemy import Engine, func, insert, text

from benchmarks.made_calls import FIRST_CALL, SECONDS_BETWEEN, TURNS, calls, score_of
from bot.ports import SystemClock
from desk.database import make_engine
from records import rows
from records.models import Base, CallRow, ScoreRow, SearchRow
from records.scorecard import JUDGE, SCORECARD
from records.search import CallFilter, Page
from records.store import Store, migrate

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "store.md"
_BEGIN, _END = (
    "<!-- written by uv run -m benchmarks.growth: begin -->",
    "<!-- written by uv run -m benchmarks.growth: end -->",
)
_AT_ONCE = 500
ROUNDS = 40
MARKS_MS = {"list": 50.0, "search": 50.0, "call page": 100.0}


@dataclass(frozen=True)
class Case:
    """Something the console asks for; `ask` gives what it found and is asked anew in each round."""

    kind: str
    name: str
    ask: Callable[[Store, random.Random], Any]


@dataclass(frozen=True)
class Timing:
    """How long a case took at a number of calls, in ms, and how much it found."""

    case: Case
    engine: str
    calls: int
    times_ms: tuple[float, ...]
    found: int

    def quantile(self, part: float) -> float:
        """The time that this part of the rounds stayed within."""
        return sorted(self.times_ms)[min(len(self.times_ms) - 1, int(part * len(self.times_ms)))]


def cases(total: int) -> list[Case]:
    """What is asked: lists with each filter, common and rare; searches for common and rare words; pages of calls."""
    last = FIRST_CALL + timedelta(seconds=SECONDS_BETWEEN * total)
    month = (last - timedelta(days=40), last - timedelta(days=10))
    (caller,) = calls(1, start=total // 2)

    def list_(name: str, **filter: Any) -> Case:
        return Case("list", name, lambda store, _: store.calls(CallFilter(**filter)))

    def search(name: str, words: str | Callable[[random.Random], str], **filter: Any) -> Case:
        def ask(store: Store, chance: random.Random) -> Page[Any]:
            return store.search(words if isinstance(words, str) else words(chance), CallFilter(**filter))

        return Case("search", name, ask)

    def deep(store: Store, chance: random.Random) -> Page[Any]:
        moment = FIRST_CALL + timedelta(seconds=SECONDS_BETWEEN * chance.randrange(total))
        return store.calls(after=str(int(moment.timestamp() * 1000)))

    def page(store: Store, chance: random.Random) -> Any:
        moment = FIRST_CALL + timedelta(seconds=SECONDS_BETWEEN * (1 + chance.randrange(total)))
        (call,) = store.calls(after=str(int(moment.timestamp() * 1000)), size=1).items
        began = time.perf_counter()
        found = store.page(call.call_id)
        return found, time.perf_counter() - began

    return [
        list_("newest"),
        Case("list", "any page, however deep", deep),
        list_("a month", began=month),
        list_("flow, 70 %", flow="dental"),
        list_("flow, 1 %", flow="garage"),
        list_("disposition, 45 %", disposition="booked"),
        list_("disposition, 1 %", disposition="failed"),
        list_("tool, every call", tool="find_slots"),
        list_("tool, 0.1 %", tool="export"),
        list_("tool, never called", tool="none"),
        list_("flag, 4 %", flag="voice_without_words"),
        list_("flag, 0.1 %", flag="promise_without_result"),
        list_("number, whole", number=caller.from_number),
        list_("number, begins +1212", number="+1212"),
        list_("number, begins +49: nobody", number="+49"),
        list_("longer than 10 minutes, 1 %", duration_ms=(600_000.0, None)),
        list_("latency over 3 s: nearly nobody", latency_ms=(3000.0, None)),
        list_("cost over 1 USD: nobody", cost_usd=(1.0, None)),
        list_("scored 100, 70 %", score=(100.0, None)),
        list_("scored up to 40, 1 %", score=(None, 40.0)),
        list_("flow 1 %, disposition 1 %, tool", flow="garage", disposition="failed", tool="find_slots"),
        search("word of every call", "appointment"),
        search("word of every second call", "insurance"),
        search("word of one call in a hundred", "stavin"),
        search("last name, rare", lambda chance: "".join(chance.choices(("Ber", "mor", "ket", "son", "ley"), k=3))),
        search("word that nobody said", "unsaidword"),
        search("two common words", "insurance parking"),
        search("phrase", '"works for me"'),
        search("beginning of a word", "insur*"),
        search("word of every call, flow 1 %", "appointment", flow="garage"),
        search("word of every call, flag 0.1 %", "appointment", flag="promise_without_result"),
        search("word of every call, cost: nobody", "appointment", cost_usd=(1.0, None)),
        search("word of every second call, a month", "insurance", began=month),
        Case("call page", "any call", page),
    ]


def fill(engines: dict[str, Engine], start: int, count: int, progress: Callable[[int], None]) -> None:
    """Insert calls as `Store.save` and `Store.add_score` lay them, many in a transaction."""
    now = datetime.now(UTC)
    batch: list[rows.Laid] = []

    def flush() -> None:
        for engine in engines.values():
            _insert(engine, batch)
        progress(len(batch))
        batch.clear()

    for record in calls(count, start):
        laid, score = rows.lay(record, {}, now), float(score_of(record))
        judged = {"scorecard": SCORECARD, "judge": JUDGE, "score": score, "answers": {}, "scored_at": now}
        batch.append(rows.Laid(laid.call | {"score": score}, {**laid.parts, ScoreRow: [judged]}))
        if len(batch) == _AT_ONCE:
            flush()
    flush()
    for engine in engines.values():
        if engine.dialect.name == "postgresql":  # which would do so by itself, a minute later
            with engine.begin() as connection:
                connection.execute(text("ANALYZE"))


def _insert(engine: Engine, batch: list[rows.Laid]) -> None:
    keys = [int(laid.call["began_at"].timestamp() * 1000) for laid in batch]
    with engine.begin() as connection:
        for table in (CallRow, *rows.PARTS, ScoreRow):
            found = [
                {"call": key, **row} if table is not CallRow else {"id": key, **row}
                for key, laid in zip(keys, batch, strict=True)
                for row in ([laid.call] if table is CallRow else laid.parts[table])
            ]
            _insert_rows(connection, table, found)


def _insert_rows(connection: Any, table: type[Base], found: list[dict[str, Any]]) -> None:
    if not found:
        return
    if table is SearchRow and connection.dialect.name == "postgresql":
        statement = text("INSERT INTO records_search (call, words) VALUES (:call, to_tsvector('simple', :words))")
        connection.execute(statement, found)
    else:
        connection.execute(insert(table), found)


def measure(store: Store, engine: str, total: int) -> Iterator[Timing]:
    """Time every case; the rounds go around, so that no case finds its own pages warm from the round just before."""
    chance = random.Random(total)
    todo = cases(total)
    times: dict[str, list[float]] = {case.name: [] for case in todo}
    found: dict[str, int] = {}
    for _ in range(ROUNDS):
        for case in todo:
            began = time.perf_counter()
            answer = case.ask(store, chance)
            seconds = time.perf_counter() - began
            if isinstance(answer, tuple):  # the case timed itself
                answer, seconds = answer
            times[case.name].append(seconds * 1000)
            found[case.name] = len(answer.items) if isinstance(answer, Page) else 1
    for case in todo:
        yield Timing(case, engine, total, tuple(times[case.name]), found[case.name])


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status is 1 where a mark was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument(
        "--postgres", metavar="URL", help="an empty database to fill too; its records tables are removed"
    )
    parser.add_argument("--calls", type=int, default=100_000, help="the largest number of calls (default 100,000)")
    parser.add_argument("--folder", type=Path, help="where the SQLite file is made (default: a temporary folder)")
    parser.add_argument("--no-page", action="store_true", help="print the tables, leave docs/store.md as it is")
    arguments = parser.parse_args(argv)
    sizes = [size for size in (1_000, 10_000, 100_000) if size < arguments.calls] + [arguments.calls]
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="switchboard-growth-") as folder:
        urls = {"SQLite": f"sqlite:///{folder}/growth.db"}
        if arguments.postgres:
            urls["Postgres"] = arguments.postgres
        timings, sizes_mb = _run(urls, sizes)
    written = _report(timings, sizes_mb)
    print(written)
    if not arguments.no_page:
        _write(written)
    return int(
        any(_worst(timings, kind, engine, sizes[-1]) > mark for kind, mark in MARKS_MS.items() for engine in urls)
    )


def _run(urls: dict[str, str], sizes: list[int]) -> tuple[list[Timing], dict[tuple[str, int], float]]:
    for url in urls.values():
        migrate(url, "base")
        migrate(url)
    engines = {name: make_engine(url).execution_options(writes=True) for name, url in urls.items()}
    timings: list[Timing] = []
    sizes_mb: dict[tuple[str, int], float] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as progress:
        task = progress.add_task("calls", total=sizes[-1])
        done = 0
        for size in sizes:
            fill(engines, done, size - done, lambda count: progress.update(task, advance=count))
            done = size
            for name, url in urls.items():
                progress.update(task, description=f"asking {name}")
                store = Store(url, SystemClock())
                store.open()
                timings += measure(store, name, size)
                store.close()
                sizes_mb[name, size] = _size_mb(engines[name])
            progress.update(task, description="calls")
    for engine in engines.values():
        engine.dispose()
    return timings, sizes_mb


def _size_mb(engine: Engine) -> float:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            return os.path.getsize(str(engine.url.database)) / 1e6
        return float(connection.scalar(func.pg_database_size(text("current_database()")).select()) or 0) / 1e6


def _worst(timings: list[Timing], kind: str, engine: str, size: int) -> float:
    """The p95 of the slowest case of a kind."""
    return max(t.quantile(0.95) for t in timings if (t.case.kind, t.engine, t.calls) == (kind, engine, size))


def _report(timings: list[Timing], sizes_mb: dict[tuple[str, int], float]) -> str:
    engines = list(dict.fromkeys(timing.engine for timing in timings))
    sizes = list(dict.fromkeys(timing.calls for timing in timings))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    lines = [
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC at commit `{commit}` on {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}; {ROUNDS} rounds. Milliseconds.",
        "",
        "| | calls | turns | database MB | "
        + " | ".join(f"{kind} p50 / p95 / slowest case's p95" for kind in MARKS_MS)
        + " |",
        "|---" * (4 + len(MARKS_MS)) + "|",
    ]
    for engine in engines:
        for size in sizes:
            cells = []
            for kind, mark in MARKS_MS.items():
                times = [
                    ms for t in timings if (t.case.kind, t.engine, t.calls) == (kind, engine, size) for ms in t.times_ms
                ]
                p50, p95 = statistics.median(times), sorted(times)[int(0.95 * len(times))]
                worst = _worst(timings, kind, engine, size)
                cells.append(f"{p50:.1f} / {p95:.1f} / {worst:.1f}" + (f" **over {mark:g}**" if worst > mark else ""))
            row = (engine, f"{size:,}", f"{size * TURNS:,}", f"{sizes_mb[engine, size]:.0f}", *cells)
            lines.append("| " + " | ".join(row) + " |")
    lines += ["", f"Each case at {sizes[-1]:,} calls, p50 / p95, and how many calls its page shows:", ""]
    lines += ["| asked for | " + " | ".join(engines) + " | found |", "|---" * (2 + len(engines)) + "|"]
    last = {(t.case.kind, t.case.name, t.engine): t for t in timings if t.calls == sizes[-1]}
    for kind, name in dict.fromkeys(key[:2] for key in last):
        of = [last[kind, name, engine] for engine in engines]
        cells = [f"{t.quantile(0.5):.1f} / {t.quantile(0.95):.1f}" for t in of]
        lines.append(f"| {kind}: {name} | " + " | ".join(cells) + f" | {of[0].found} |")
    return "\n".join(lines) + "\n"


def _write(written: str) -> None:
    page = PAGE.read_text()
    before, after = page.split(_BEGIN)[0], page.split(_END)[1]
    PAGE.write_text(f"{before}{_BEGIN}\n{written}{_END}{after}")


if __name__ == "__main__":
    raise SystemExit(main())
