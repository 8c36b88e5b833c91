"""Webhooks, taken by a real HTTP server that checks their signatures by the letter of the specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fakes.worker import WorkerProcess, leave_tape, parts_of, wait_until
from sqlalchemy import select

from desk.database import Database, open_database
from records.__main__ import main
from records.models import AttemptRow, DeliveryRow
from records.record import CallRecord
from records.webhooks import PAUSES, NotDelivered, Webhooks, delivery_counts, delivery_log, retry_deliveries

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass
class Receiver:
    """An HTTP server on loopback. `answers` are the statuses it gives in turn, then 204."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    messages: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    holds: threading.Event = field(default_factory=threading.Event)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.messages]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    found.holds.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
            found.holds.wait(20)
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/calls?token=hush"
    yield found
    found.holds.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = open_database(database_url)
    yield found
    found.close()


@pytest.fixture
def open_webhooks(database: Database, clock: Any) -> Callable[..., Webhooks]:
    def make(*urls: str, record: CallRecord | None, secret: str = SECRET) -> Webhooks:
        return Webhooks(database, clock, urls, secret, lambda _: record)

    return make


def rows(database: Database, of: type) -> list[Any]:
    with database.reading() as session:
        return list(session.scalars(select(of)).all())


def test_a_message_is_signed_as_the_specification_has_it(
    open_webhooks: Any, make_record: Any, receiver: Receiver, clock: Any
) -> None:
    record = make_record(flags=())
    webhooks = open_webhooks(receiver.url, record=record)
    [delivery] = webhooks.announce(record)
    webhooks.deliver(delivery.id)
    [(headers, body)] = receiver.messages
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    version, _, given = headers["webhook-signature"].partition(",")
    assert version == "v1"
    assert base64.b64decode(given) == hmac.new(KEY, signed, hashlib.sha256).digest()
    assert int(headers["webhook-timestamp"]) == clock.wall_ns() // 10**9
    assert headers["content-type"] == "application/json"


def test_what_is_told_and_what_is_not(open_webhooks: Any, make_record: Any, receiver: Receiver) -> None:
    record = make_record()
    webhooks = open_webhooks(receiver.url, record=record)
    for delivery in webhooks.announce(record):
        webhooks.deliver(delivery.id)
    assert [body["type"] for body in receiver.bodies()] == ["call.finished", "call.flagged"]
    body = receiver.bodies()[0]
    assert body["timestamp"].startswith("2026-05-01T12:01:01")
    assert body["data"]["disposition"] == "booked"
    assert body["data"]["changes"][0]["id"] == "12"
    assert body["data"]["cost"] == {"usd": 0.0123, "complete": False}
    assert "turns" not in body["data"]
    assert "por favor" not in json.dumps(body)


def test_a_message_is_written_down_once_and_delivered_once(
    open_webhooks: Any, make_record: Any, receiver: Receiver, database: Database
) -> None:
    record = make_record(flags=())
    webhooks = open_webhooks(receiver.url, record=record)
    first, again = webhooks.announce(record), webhooks.announce(record)
    assert first == again
    for _ in range(3):
        webhooks.deliver(first[0].id)
    assert len(receiver.messages) == 1
    [row] = rows(database, DeliveryRow)
    assert (row.state, row.target) == ("delivered", receiver.url.partition("?")[0])
    [attempt] = rows(database, AttemptRow)
    assert attempt.body_sha256 == hashlib.sha256(receiver.messages[0][1]).hexdigest()
    assert (attempt.status, attempt.error) == (204, "")


def test_it_is_sent_again_later_and_later_with_the_same_id(
    open_webhooks: Any, make_record: Any, receiver: Receiver, database: Database, clock: Any
) -> None:
    record = make_record(flags=())
    webhooks = open_webhooks(receiver.url, record=record)
    [delivery] = webhooks.announce(record)
    receiver.answers = [500, 302, 404] + [503] * (len(PAUSES) - 2)
    for pause in PAUSES:
        assert webhooks.due() == [(delivery.id, delivery.target_key)]
        webhooks.queued(delivery.id)
        with pytest.raises(NotDelivered):
            webhooks.deliver(delivery.id)
        assert webhooks.due() == []
        clock.now += timedelta(seconds=pause)
    webhooks.deliver(delivery.id)
    assert webhooks.due() == [], "a day of it is enough"
    assert {headers["webhook-id"] for headers, _ in receiver.messages} == {delivery.id}
    attempts = rows(database, AttemptRow)
    assert [attempt.status for attempt in attempts][:4] == [500, 302, 404, 503]
    assert attempts[0].error == "answered 500"
    assert retry_deliveries(database, record.call_id, clock) == 1
    webhooks.deliver(delivery.id)
    assert rows(database, DeliveryRow)[0].state == "delivered"


@pytest.mark.parametrize("how", ["gone", "not in WEBHOOK_URLS", "erased"])
def test_who_wants_no_more_gets_no_more(
    how: str, open_webhooks: Any, make_record: Any, receiver: Receiver, database: Database
) -> None:
    record = make_record(flags=())
    [delivery] = open_webhooks(receiver.url, record=record).announce(record)
    receiver.answers = [410]
    urls = () if how == "not in WEBHOOK_URLS" else (receiver.url,)
    open_webhooks(*urls, record=None if how == "erased" else record).deliver(delivery.id)
    assert [row.state for row in rows(database, DeliveryRow)] == ["given_up"]
    assert len(receiver.messages) == (1 if how == "gone" else 0)


def test_a_receiver_that_cannot_be_reached_is_told_in_words(
    open_webhooks: Any, make_record: Any, database: Database
) -> None:
    record = make_record(flags=())
    webhooks = open_webhooks("http://127.0.0.1:1/", record=record)
    [delivery] = webhooks.announce(record)
    with pytest.raises(NotDelivered, match="ConnectError"):
        webhooks.deliver(delivery.id)
    [attempt] = rows(database, AttemptRow)
    assert (attempt.status, attempt.error) == (None, "ConnectError")


def test_a_receiver_that_hangs_holds_up_nobody(tmp_path: Path, receiver: Receiver) -> None:
    receiver.holds.clear()
    parts = parts_of(data_dir=tmp_path)
    for number in range(6):
        leave_tape(tmp_path, f"CA{number}")
    with WorkerProcess(data_dir=tmp_path, webhook_urls=receiver.url, webhook_secret=SECRET):
        wait_until(lambda: receiver.messages, 90)
        wait_until(lambda: not any(parts.log.counts().values()) and len(parts.log.call_ids()) == 6)
        assert not any(row.state == "delivered" for row in rows(parts.database, DeliveryRow))
        receiver.holds.set()
        wait_until(lambda: [row.state for row in rows(parts.database, DeliveryRow)] == ["delivered"] * 6)
    assert {body["data"]["call_id"] for body in receiver.bodies()} == {f"CA{number}" for number in range(6)}


def test_a_message_whose_sender_is_gone_is_sent_again_by_the_next_one(tmp_path: Path, receiver: Receiver) -> None:
    receiver.holds.clear()
    parts = parts_of(data_dir=tmp_path)
    leave_tape(tmp_path, "CA1")
    settings = {"data_dir": tmp_path, "webhook_urls": receiver.url, "webhook_secret": SECRET}
    with WorkerProcess(**settings):
        wait_until(lambda: receiver.messages, 90)
        wait_until(lambda: set(parts.log.steps("CA1").values()) == {"done"}, 90)
    # As docs/jobs.md allows while nothing runs.
    for file in tmp_path.glob("jobs.db*"):
        file.unlink()
    assert [row.state for row in rows(parts.database, DeliveryRow)] == ["queued"]
    receiver.holds.set()
    with WorkerProcess(**settings):
        wait_until(lambda: [row.state for row in rows(parts.database, DeliveryRow)] == ["delivered"], 90)
    assert [(attempt.status, attempt.error) for attempt in rows(parts.database, AttemptRow)] == [
        (None, "whoever was to send it has failed"),
        (204, ""),
    ]


def test_only_what_is_queued_can_be_lost_and_it_is_not_lost_for_ever(
    open_webhooks: Any, make_record: Any, receiver: Receiver, database: Database, clock: Any
) -> None:
    record = make_record(flags=())
    webhooks = open_webhooks(receiver.url, record=record)
    [delivery] = webhooks.announce(record)
    webhooks.lost(delivery.id)
    assert rows(database, AttemptRow) == []
    for pause in PAUSES:
        webhooks.queued(delivery.id)
        webhooks.lost(delivery.id)
        clock.now += timedelta(seconds=pause)
        assert webhooks.due() == [(delivery.id, delivery.target_key)]
    webhooks.queued(delivery.id)
    webhooks.lost(delivery.id)
    assert [row.state for row in rows(database, DeliveryRow)] == ["given_up"]


def test_an_address_that_cannot_be_used_is_a_failure_like_any_other(
    open_webhooks: Any, make_record: Any, database: Database
) -> None:
    record = make_record(flags=())
    webhooks = open_webhooks("https://crm.example.com:port/", record=record)
    [delivery] = webhooks.announce(record)
    with pytest.raises(NotDelivered):
        webhooks.deliver(delivery.id)
    [row] = rows(database, DeliveryRow)
    assert (row.state, row.tries) == ("failed", 1)


def test_what_is_not_delivered_is_told_and_counted(
    open_webhooks: Any, make_record: Any, receiver: Receiver, database: Database, database_url: str, clock: Any,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    record = make_record(flags=())
    webhooks = open_webhooks(receiver.url, record=record)
    [delivery] = webhooks.announce(record)
    assert delivery_counts(database) == {"webhooks_pending": 1, "webhooks_failed": 0}
    receiver.answers = [500, 503]
    for _ in range(2):
        webhooks.queued(delivery.id)
        with pytest.raises(NotDelivered):
            webhooks.deliver(delivery.id)
        clock.now += timedelta(seconds=PAUSES[0])
    assert delivery_counts(database) == {"webhooks_pending": 0, "webhooks_failed": 1}
    assert main(["jobs"]) == 0
    told = capsys.readouterr().out
    for words in ("CA1", "call.finished", "/calls ", "failed", "2026-05-01T12:00:35", "answered 503"):
        assert words in told
    assert "hush" not in told
    assert "answered 500" not in told
    assert main(["jobs", "--call", "CA1"]) == 0
    told = capsys.readouterr().out
    assert told.index("answered 500") < told.index("answered 503")
    webhooks.deliver(delivery.id)
    assert delivery_counts(database) == {"webhooks_pending": 0, "webhooks_failed": 0}
    assert main(["jobs"]) == 0
    assert capsys.readouterr().out == "Nothing is left to do.\n"
    assert main(["jobs", "--call", "CA1"]) == 0
    assert "delivered" in capsys.readouterr().out


def test_of_what_was_tried_out_a_receiver_lacks_something_and_of_what_it_refused_nothing(
    open_webhooks: Any, make_record: Any, receiver: Receiver, database: Database
) -> None:
    record = make_record()
    webhooks = open_webhooks(receiver.url, record=record)
    refused, lacking = webhooks.announce(record)
    receiver.answers = [410] + [500] * (len(PAUSES) + 1)
    webhooks.deliver(refused.id)
    for _ in PAUSES:
        with pytest.raises(NotDelivered):
            webhooks.deliver(lacking.id)
    webhooks.deliver(lacking.id)
    assert [(logged.event, logged.state) for logged in delivery_log(database)] == [(lacking.event, "given_up")]
    assert delivery_counts(database) == {"webhooks_pending": 0, "webhooks_failed": 1}


def test_an_address_without_what_may_be_secret(open_webhooks: Any, make_record: Any, database: Database) -> None:
    record = replace(make_record(), flags=())
    open_webhooks("https://user:word@crm.example.com/in?key=1", record=record).announce(record)
    assert [row.target for row in rows(database, DeliveryRow)] == ["https://crm.example.com/in"]
