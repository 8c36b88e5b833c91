"""A process of its own that uses a desk, for tests that run several or kill them.

Run as ``python tests/desk/booker.py JOB``; stdin brings a pickle of (database URL, business, moment in UTC, details).
It prints JSON lines.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from fakes.clock import StillClock
from sqlalchemy import event
from sqlalchemy.engine import Engine

from bot.errors import SlotTaken
from desk.business import Business
from desk.desk import Desk


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def race(url: str, business: Business, clock: StillClock, details: dict[str, Any]) -> None:
    """For each booking (a pickle) on stdin try it from several threads at once; tell what came of it."""
    desk = Desk(url, business, clock)
    desk.open()

    def attempt(number: int) -> int | str:
        try:
            return desk.book(**{"key": f"{os.getpid()}/{number}", **booking}).id
        except SlotTaken:
            return "taken"

    with ThreadPoolExecutor(details["threads"]) as pool:
        say("ready")
        for _ in range(details["rounds"]):
            booking = pickle.load(sys.stdin.buffer)
            say(list(pool.map(attempt, range(details["threads"]))))
    desk.close()


def loop(url: str, business: Business, clock: StillClock, details: dict[str, Any]) -> None:
    """Book, move and cancel until killed; tell each appointment once its booking has returned."""
    desk = Desk(url, business, clock)
    day = details["day"]
    for number in count():
        key = f"{details['round']}/{number}"
        free = desk.find_slots("checkup", day, day + timedelta(days=40), limit=20)
        start = free[number % len(free)].start
        made = desk.book(service_id="checkup", start=start, customer_id=details["customer_id"], key=key)
        say([key, made.id])
        if number % 3 == 1:
            desk.reschedule(appointment_id=made.id, start=free[(number + 1) % len(free)].start, key=f"{key}/move")
        if number % 3 == 2:
            desk.cancel(appointment_id=made.id, key=f"{key}/cancel")


def crash(url: str, business: Business, clock: StillClock, details: dict[str, Any]) -> None:
    """Kill a process before the first, second, third... statement of a booking (or its commit), until one survives."""
    for start in details["starts"]:
        child = os.fork()
        if child == 0:
            try:
                _book_and_crash(Desk(url, business, clock), start, details)
            except BaseException:
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        say([start.isoformat(), status])
        if status != -signal.SIGKILL:
            return


def _book_and_crash(desk: Desk, start: datetime, details: dict[str, Any]) -> None:
    desk.open()
    statements = count()

    def die_in_turn(*_: Any) -> None:
        if next(statements) == details["starts"].index(start):
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", die_in_turn)
    event.listen(Engine, "commit", die_in_turn)
    desk.book(service_id="cleaning", start=start, customer_id=details["customer_id"], key=start.isoformat())


if __name__ == "__main__":
    url, business, moment, details = pickle.load(sys.stdin.buffer)
    {"race": race, "loop": loop, "crash": crash}[sys.argv[1]](url, business, StillClock(moment), details)
