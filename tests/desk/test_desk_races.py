"""Many at once, and processes that die: nothing is booked twice, nothing half, nothing lost."""

from __future__ import annotations

import json
import pickle
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import pytest

from bot.errors import DeskRefusal, SlotTaken

MONDAY = date(2026, 5, 4)
BOOKER = Path(__file__).with_name("booker.py")


def at(hour, minute=0, day=MONDAY):
    return datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001


def all_at_once(calls):
    """Run calls in a thread each, released together; the results or the refusals."""
    barrier = Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            return call()
        except DeskRefusal as refusal:
            return refusal

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.fixture
def assert_consistent(rows):
    """Appointments, cells and commands agree: each booked appointment has its cells, and nothing else has any."""

    def check():
        cells = dict(rows("SELECT appointment_id, count(*) FROM desk_booked_cells GROUP BY appointment_id"))
        minutes = {"checkup": 30, "cleaning": 60, "root-canal": 120}
        booked = rows("SELECT id, service_id FROM desk_appointments WHERE status = 'booked'")
        assert cells == {number: minutes[service] // 5 for number, service in booked}
        strays = rows(
            "SELECT count(*) FROM desk_booked_cells c JOIN desk_appointments a ON a.id = c.appointment_id"
            " WHERE a.staff_id <> c.staff_id OR a.business_id <> c.business_id"
        )
        assert strays == [(0,)]
        assert rows("SELECT count(*) FROM desk_commands WHERE result IS NULL") == [(0,)]
        (made,), (kept,) = (
            rows("SELECT count(*) FROM desk_commands WHERE kind = 'book'"),
            rows("SELECT count(*) FROM desk_appointments"),
        )
        assert made == kept

    return check


@pytest.fixture
def start_booker(database_url, clinic, clock):
    """Start a process of tests/desk/booker.py."""
    running = []

    def start(job, **details):
        process = subprocess.Popen([sys.executable, BOOKER, job], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(process)
        pickle.dump((database_url, clinic, clock.now, details), process.stdin)
        process.stdin.flush()
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_fifty_bookings_of_one_slot_give_exactly_one(desk, customer_id, rows, assert_consistent):
    def book(number):
        return lambda: desk.book(service_id="checkup", start=at(9), customer_id=customer_id, key=f"k{number}")

    results = all_at_once([book(number) for number in range(50)])
    refusals = [result for result in results if isinstance(result, SlotTaken)]
    assert len(refusals) == 49
    assert all(len(refusal.alternatives) == 3 for refusal in refusals)
    assert rows("SELECT count(*) FROM desk_appointments") == [(1,)]
    assert_consistent()


def test_fifty_bookings_of_one_slot_with_two_people_give_exactly_two(desk, customer_id, assert_consistent):
    def book(number):
        return lambda: desk.book(service_id="cleaning", start=at(9), customer_id=customer_id, key=f"k{number}")

    results = all_at_once([book(number) for number in range(50)])
    assert sorted(result.staff_id for result in results if not isinstance(result, SlotTaken)) == ["ana", "ben"]
    assert_consistent()


def test_fifty_overlapping_bookings_never_overlap(desk, customer_id, rows, assert_consistent):
    def book(number):
        service, start = ("checkup", "cleaning", "root-canal")[number % 3], at(9) + timedelta(minutes=30 * (number % 6))
        return lambda: desk.book(
            service_id=service, start=start, staff_id="ana", customer_id=customer_id, key=f"k{number}"
        )

    all_at_once([book(number) for number in range(50)])
    spans = sorted(
        (item.start, item.end + timedelta(minutes={"checkup": 0, "cleaning": 15, "root-canal": 30}[item.service_id]))
        for item in desk.appointments(customer_id)
    )
    assert spans
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))
    assert_consistent()


def test_fifty_commands_with_one_key_are_one_and_answer_the_same(desk, customer_id, rows, assert_consistent):
    results = all_at_once(
        [lambda: desk.book(service_id="cleaning", start=at(9), customer_id=customer_id, key="one")] * 50
    )
    assert results == [results[0]] * 50
    assert rows("SELECT count(*) FROM desk_appointments") == [(1,)]
    people = all_at_once([lambda: desk.create_customer(name="Jo Day", phone="+12125550123", key="jo")] * 20)
    assert people == [people[0]] * 20
    assert_consistent()


def test_one_person_created_under_many_keys_is_one(desk, rows):
    def create(number):
        name = ("Jo Day", "jo  day", " JO DAY")[number % 3]
        return lambda: desk.create_customer(name=name, phone="+12125550123", key=f"k{number}")

    assert len({person.id for person in all_at_once([create(number) for number in range(20)])}) == 1
    assert rows("SELECT count(*) FROM desk_customers WHERE phone = '+12125550123'") == [(1,)]


def test_four_processes_book_one_slot_once(customer_id, start_booker, rows, assert_consistent):
    bookings = [{"service_id": "checkup", "start": at(hour), "customer_id": customer_id} for hour in (9, 10)]
    bookings[1]["key"] = "shared"
    processes = [start_booker("race", threads=13, rounds=2) for _ in range(4)]
    for process in processes:
        assert json.loads(process.stdout.readline()) == "ready"
    for number, booking in enumerate(bookings):
        for process in processes:
            pickle.dump(booking, process.stdin)
            process.stdin.flush()
        results = [result for process in processes for result in json.loads(process.stdout.readline())]
        made = rows("SELECT id FROM desk_appointments ORDER BY id")[number:]
        expected = [str(made[0][0])] * 52 if "key" in booking else [str(made[0][0])] + ["taken"] * 51
        assert len(made) == 1
        assert sorted(map(str, results)) == expected
    assert_consistent()


def test_rescheduling_two_appointments_to_one_slot_moves_one(desk, customer_id, assert_consistent):
    for number, target in enumerate((at(13), at(14), at(15))):
        pair = [
            desk.book(service_id="checkup", start=start, customer_id=customer_id, key=f"{number}/{start}")
            for start in (at(9), at(10))
        ]

        def move(one, target=target):
            return lambda: desk.reschedule(appointment_id=one.id, start=target, key=f"move {one.id}")

        moved = all_at_once([move(one) for one in pair])
        refused = [isinstance(result, SlotTaken) for result in moved]
        assert sorted(refused) == [False, True]
        kept = pair[refused.index(True)]
        assert kept in desk.appointments(customer_id)
        assert_consistent()
        desk.cancel(appointment_id=kept.id, key=f"cancel {kept.id}")


def test_swapping_two_appointments_deadlocks_nobody_and_loses_nothing(desk, customer_id, assert_consistent):
    one, two = (
        desk.book(service_id="checkup", start=start, customer_id=customer_id, key=str(start))
        for start in (at(9), at(10))
    )
    for number in range(10):

        def move(mine, target, number=number):
            return lambda: desk.reschedule(appointment_id=mine.id, start=target, key=f"{number}/{mine.id}")

        results = all_at_once([move(one, at(10)), move(two, at(9))])
        assert [type(result) for result in results] == [SlotTaken, SlotTaken]
    assert desk.appointments(customer_id) == [one, two]
    assert_consistent()


def test_one_appointment_moved_and_cancelled_by_many_ends_in_one_place(desk, customer_id, assert_consistent):
    mine = desk.book(service_id="cleaning", start=at(9), customer_id=customer_id, key="book")

    def move(hour):
        return lambda: desk.reschedule(appointment_id=mine.id, start=at(hour), key=f"to {hour}")

    all_at_once([move(hour) for hour in (10, 11, 13, 14, 10, 11, 13, 14)])
    assert_consistent()
    all_at_once([move(9), move(15), lambda: desk.cancel(appointment_id=mine.id, key="cancel")])
    assert desk.appointments(customer_id) == []
    assert_consistent()


def test_a_storm_of_bookings_moves_and_cancellations_keeps_the_calendar_whole(desk, customer_id, assert_consistent):
    starts = [at(hour, minute) for hour in (9, 10, 11, 13, 14, 15) for minute in (0, 30)]

    def worker(seed):
        chance = random.Random(seed)
        for number in range(15):
            key, start = f"{seed}/{number}", chance.choice(starts)
            mine = desk.appointments(customer_id)
            try:
                if chance.random() < 0.5 or not mine:
                    service = chance.choice(("checkup", "cleaning", "root-canal"))
                    desk.book(service_id=service, start=start, customer_id=customer_id, key=key)
                elif chance.random() < 0.7:
                    desk.reschedule(appointment_id=chance.choice(mine).id, start=start, key=key)
                else:
                    desk.cancel(appointment_id=chance.choice(mine).id, key=key)
            except DeskRefusal:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(8)))
    assert_consistent()


def test_a_process_killed_while_it_books_leaves_nothing_half(customer_id, start_booker, rows, assert_consistent):
    told = []
    for number in range(4):
        process = start_booker("loop", day=MONDAY, customer_id=customer_id, round=number)
        told += [json.loads(process.stdout.readline()) for _ in range(3 + number)]
        process.kill()
        told += [json.loads(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        process.wait()
        assert_consistent()
    kept = {key: result for key, result in rows("SELECT key, result FROM desk_commands WHERE kind = 'book'")}
    for key, number in told:
        result = kept[key]
        assert (result if isinstance(result, dict) else json.loads(result))["id"] == number


def test_a_process_killed_before_any_statement_of_a_booking_leaves_nothing_and_its_key_works(
    desk, customer_id, start_booker, rows, assert_consistent
):
    starts = [at(hour, day=MONDAY + timedelta(days=days)) for days in range(4) for hour in (9, 10, 11, 13, 14)]
    process = start_booker("crash", starts=starts, customer_id=customer_id)
    crashes = [json.loads(line) for line in process.stdout]
    assert [status for _, status in crashes] == [-signal.SIGKILL] * (len(crashes) - 1) + [0]
    assert len(crashes) > 6
    assert rows("SELECT key FROM desk_commands WHERE kind = 'book'") == [(crashes[-1][0],)]
    assert_consistent()
    for start, _ in crashes:
        desk.book(service_id="cleaning", start=datetime.fromisoformat(start), customer_id=customer_id, key=start)
    assert rows("SELECT count(*) FROM desk_appointments") == [(len(crashes),)]
    assert_consistent()
