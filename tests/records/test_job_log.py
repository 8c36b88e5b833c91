"""How jobs stand: claims, tries, retries by hand, and workers' heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from desk.database import open_database
from records.inbox import Tape
from records.job_log import ARCHIVE, MOST_TRIES, PAUSES, JobGone, JobLog

PLAN = [ARCHIVE, "derive", "score"]


@pytest.fixture
def log(database_url: str, clock: Any) -> Iterator[JobLog]:
    database = open_database(database_url)
    yield JobLog(database, clock)
    database.close()


def tape(sha256: str) -> Tape:
    return Tape(Path("CA1.mcap"), "CA1", sha256, 100)


def test_of_many_who_claim_an_id_one_gets_it(log: JobLog) -> None:
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda n: log.claim("CA1", tape(f"{n}"), PLAN), range(8)))
    assert sorted(claimed) == [False] * 7 + [True]
    assert log.call_id_of(f"{claimed.index(True)}") == "CA1"
    assert log.steps("CA1") == dict.fromkeys(PLAN, "pending")


def test_a_failed_step_is_due_later_and_later_and_at_last_only_by_hand(log: JobLog, clock: Any) -> None:
    log.claim("CA1", tape("a"), PLAN)
    for again in range(MOST_TRIES):
        assert log.begin("CA1", "derive") == 0
        log.failed("CA1", "derive", "TapeError: damaged")
        assert log.due() == []
        clock.now += timedelta(seconds=PAUSES[min(again, len(PAUSES) - 1)])
        assert log.due() == ([("CA1", "derive")] if again < MOST_TRIES - 1 else [])
    [job] = [job for job in log.jobs() if job.status == "failed"]
    assert (job.call_id, job.step, job.tries, job.note) == ("CA1", "derive", MOST_TRIES, "TapeError: damaged")
    assert log.retry("CA1") == ["derive"]
    assert log.due() == [("CA1", "derive")]
    log.begin("CA1", "derive")
    log.done("CA1", "derive", "with a note")
    assert log.counts() == {"pending": 2, "running": 0, "failed": 0}
    assert [job.step for job in log.jobs("CA1")] == list(PLAN)
    assert [(job.status, job.note) for job in log.jobs("CA1") if job.step == "derive"] == [("done", "with a note")]


def test_a_step_in_which_workers_die_is_told(log: JobLog) -> None:
    log.claim("CA1", tape("a"), PLAN)
    assert [log.begin("CA1", "derive") for _ in range(4)] == [0, 1, 2, 3]


def test_jobs_that_stand_still_are_found(log: JobLog, clock: Any) -> None:
    for number, steps in enumerate(("", "archive", "archive derive")):
        log.claim(f"CA{number}", tape(f"{number}"), PLAN)
        for step in steps.split():
            log.begin(f"CA{number}", step)
            log.done(f"CA{number}", step)
    assert log.unfinished(timedelta(seconds=30)) == []
    clock.now += timedelta(seconds=31)
    assert sorted(log.unfinished(timedelta(seconds=30))) == [("CA1", "derive"), ("CA2", "score")]
    assert log.with_done("derive", ["CA0", "CA1", "CA2"]) == {"CA2"}


def test_the_steps_of_a_call_that_was_deleted_are_gone(log: JobLog) -> None:
    with pytest.raises(JobGone):
        log.begin("CA1", "derive")


def test_a_dead_worker_is_taken_over_by_one(log: JobLog, clock: Any) -> None:
    log.beat("one")
    beat = log.beats()["one"]
    clock.now += timedelta(seconds=5)
    log.beat("one")
    assert not log.take_over("one", beat), "it lives"
    beat = log.beats()["one"]
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: log.take_over("one", beat), range(4))) == [False] * 3 + [True]
    log.bury("one")
    assert log.beats() == {}
