"""The stand-in exchange, driven by the official `twilio` client."""

from __future__ import annotations

import asyncio
import io
import re
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import numpy as np
import pytest
from requests.exceptions import ReadTimeout
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from sandbox import sound
from sandbox.conversation import Conversation, Habits, Turn
from sandbox.twilio import Callee, Exchange, Phone, RemoteExchange, RestFault
from sandbox.twilio.webhook import Route

PUBLIC = "https://bot.example.com"
T = TypeVar("T")
do = asyncio.to_thread


@pytest.fixture
async def exchange(account: tuple[str, str], server: Any, voice: Any) -> AsyncIterator[Exchange]:
    callees = {"": Callee(rings_ms=100, talks_ms=300, caller=lambda: Conversation(habits=Habits(stays=True)))}
    phone = Phone(*account, voice=voice, route=Route(local=server.url, public=PUBLIC), callees=callees)
    async with Exchange(*account, phone=phone, calls_per_second=20) as running:
        yield running


@pytest.fixture
def clients(exchange: Exchange) -> Iterator[Callable[..., Client]]:
    """Makes official clients, pointed at the exchange by nothing but their base URL."""
    sessions = []

    def make(token: str = exchange.auth_token, timeout: float = 5) -> Client:
        http = TwilioHttpClient(timeout=timeout)
        sessions.append(http.session)
        client = Client(exchange.account_sid, token, http_client=http)
        client.api.base_url = exchange.api_base_url
        client.insights.base_url = exchange.api_base_url
        return client

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def client(clients: Callable[..., Client]) -> Client:
    return clients()


@pytest.fixture
async def open_call(account: tuple[str, str], exchange: Exchange, server: Any, voice: Any) -> AsyncIterator[Any]:
    """A call with an open stream that plays a long tone, registered at the exchange."""
    playing = asyncio.Event()

    async def stream(sock: Any) -> None:
        await sock.begin()
        await sock.say(sound.tone((440,), 60_000))
        playing.set()
        await sock.drain()

    server.pages["/voice"] = server.connect()
    server.stream = stream
    phone = Phone(*account, public_url=PUBLIC, voice=voice, exchange=exchange)
    caller = Conversation([Turn(play=sound.tone((700,), 30_000), at_once=True)], Habits(stays=True))
    call = phone.dial(f"{server.url}/voice", caller=caller)
    running = asyncio.create_task(call.run())
    await playing.wait()
    yield call
    if not running.done():
        call.hang_up()
    await running


async def refused(work: Callable[[], object]) -> TwilioRestException:
    with pytest.raises(TwilioRestException) as caught:
        await do(work)
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


class TestErrors:
    async def test_a_wrong_token_is_20003(self, clients: Callable[..., Client]) -> None:
        error = await refused(clients(token="wrong").calls("CA" + "0" * 32).fetch)
        assert (error.status, error.code) == (401, 20003)

    async def test_an_unknown_call_is_20404_with_more_info(self, client: Client) -> None:
        error = await refused(client.calls("CA" + "0" * 32).fetch)
        assert (error.status, error.code) == (404, 20404)

    async def test_bodies_sids_and_dates_have_twilios_shape(
        self, exchange: Exchange, open_call: Any, account: tuple[str, str]
    ) -> None:
        import httpx

        base = f"{exchange.api_base_url}/2010-04-01/Accounts/{account[0]}"
        async with httpx.AsyncClient(auth=account) as http:
            error = await http.get(f"{base}/Calls/CA{'0' * 32}.json")
            call = (await http.get(f"{base}/Calls/{open_call.sid}.json")).json()
        assert error.json() == {
            "code": 20404,
            "message": f"The requested resource /Calls/CA{'0' * 32}.json was not found",
            "more_info": "https://www.twilio.com/docs/errors/20404",
            "status": 404,
        }
        assert re.fullmatch(r"CA[0-9a-f]{32}", call["sid"])
        assert parsedate_to_datetime(call["date_created"]).tzinfo is not None
        assert call["date_created"].endswith("+0000")

    async def test_an_unknown_path_is_20404(self, client: Client) -> None:
        error = await refused(client.addresses("AD" + "0" * 32).fetch)
        assert (error.status, error.code) == (404, 20404)

    @pytest.mark.parametrize(
        ("wrong", "code"),
        [
            ({"to": "12345"}, 21211),
            ({"from_": "me"}, 21212),
            ({"to": ""}, 21201),
            ({"from_": ""}, 21213),
            ({"url": ""}, 21205),
            ({"url": "", "twiml": "<Response>" + " " * 4000 + "</Response>"}, 21218),
            ({"url": "", "twiml": "<Oops/>"}, 12100),
        ],
    )
    async def test_a_call_that_cannot_be_made_says_why(self, client: Client, wrong: dict[str, str], code: int) -> None:
        good = {"to": "+15005550010", "from_": "+15005550006", "url": f"{PUBLIC}/out"}
        error = await refused(lambda: client.calls.create(**(good | wrong)))
        assert (error.status, error.code) == (400, code)

    async def test_a_finished_call_cannot_be_redirected(self, client: Client, open_call: Any) -> None:
        open_call.hang_up()
        await until(lambda: open_call.status == "completed")
        for change in ({"status": "completed"}, {"twiml": "<Response/>"}, {"url": f"{PUBLIC}/x"}):
            error = await refused(lambda change=change: client.calls(open_call.sid).update(**change))
            assert (error.status, error.code) == (400, 21220)

    async def test_an_unknown_status_is_refused(self, client: Client, open_call: Any) -> None:
        error = await refused(lambda: client.calls(open_call.sid).update(status="hangup"))
        assert error.status == 400


class TestLiveCalls:
    async def test_fetch_shows_a_call_in_progress_and_its_end(self, client: Client, open_call: Any) -> None:
        call = await do(client.calls(open_call.sid).fetch)
        assert (call.status, call.direction, call.duration) == ("in-progress", "inbound", None)
        assert call.start_time.tzinfo is not None
        ended = await do(lambda: client.calls(open_call.sid).update(status="completed"))
        assert ended.sid == open_call.sid
        await until(lambda: open_call.status == "completed")
        call = await do(client.calls(open_call.sid).fetch)
        assert (call.status, call.duration) == ("completed", str(open_call.record.duration_seconds))
        assert call.end_time >= call.start_time
        assert open_call.record.ended_by == "ended by REST"

    async def test_twiml_replaces_the_stream(self, client: Client, open_call: Any, server: Any) -> None:
        await do(lambda: client.calls(open_call.sid).update(twiml="<Response><Say>One moment</Say></Response>"))
        await until(lambda: open_call.status == "completed")
        assert open_call.interpreter.executed == ["Connect/Stream", "Say"]
        assert server.sockets[0].messages[-1]["event"] == "stop"

    async def test_a_url_is_asked_with_a_signed_request(self, client: Client, open_call: Any, server: Any) -> None:
        server.pages["/new"] = "<Response><Hangup/></Response>"
        await do(lambda: client.calls(open_call.sid).update(url=f"{PUBLIC}/new", method="GET"))
        await until(lambda: open_call.status == "completed")
        (got,) = server.at("/new")
        assert (got.method, got.signed) == ("GET", True)
        assert f"CallSid={open_call.sid}" in got.query

    async def test_a_failing_url_leads_to_its_own_fallback(self, client: Client, open_call: Any, server: Any) -> None:
        server.pages["/safety"] = "<Response><Say>Safe</Say></Response>"
        update = {"url": f"{PUBLIC}/broken", "fallback_url": f"{PUBLIC}/safety"}
        await do(lambda: client.calls(open_call.sid).update(**update))
        await until(lambda: open_call.status == "completed")
        assert server.at("/safety")[0].form["ErrorCode"] == "11200"
        assert [text for _, text in open_call.record.announcements] == ["Safe"]

    async def test_cancelling_does_nothing_to_an_answered_call(self, client: Client, open_call: Any) -> None:
        call = await do(lambda: client.calls(open_call.sid).update(status="canceled"))
        assert call.status == "in-progress"

    async def test_notifications_tell_the_errors(self, client: Client, open_call: Any, server: Any) -> None:
        await server.sockets[0].web.close()
        await until(lambda: open_call.status == "completed")
        (note,) = await do(client.calls(open_call.sid).notifications.list)
        assert note.error_code == "31921"

    async def test_insights_sum_up_a_call_that_is_over(self, client: Client, open_call: Any) -> None:
        fetch = client.insights.v1.calls(open_call.sid).summary().fetch
        assert (await refused(fetch)).status == 404
        open_call.hang_up()
        await until(lambda: open_call.status == "completed")
        summary = await do(fetch)
        assert (summary.call_state, summary.processing_state) == ("completed", "complete")
        assert summary.end_time is not None

    async def test_payments_are_idempotent(self, client: Client, open_call: Any) -> None:
        payments = client.calls(open_call.sid).payments
        make = lambda key: payments.create(idempotency_key=key, status_callback=f"{PUBLIC}/pay")  # noqa: E731
        first, again, other = [await do(make, key) for key in ("a", "a", "b")]
        assert first.sid == again.sid != other.sid
        changed = await do(
            lambda: payments(first.sid).update(idempotency_key="c", status_callback=f"{PUBLIC}/pay", status="complete")
        )
        assert changed.sid == first.sid


class TestOutboundCalls:
    async def test_a_call_rings_is_answered_and_asks_for_twiml(
        self, client: Client, exchange: Exchange, server: Any
    ) -> None:
        server.pages |= {"/out": "<Response><Say>Hello</Say></Response>", "/status": "<Response/>"}
        events = ["initiated", "ringing", "answered", "completed"]
        call = await do(
            lambda: client.calls.create(
                to="+15005550010",
                from_="+15005550006",
                url=f"{PUBLIC}/out",
                status_callback=f"{PUBLIC}/status",
                status_callback_event=events,
            )
        )
        assert (call.status, call.direction) == ("queued", "outbound-api")
        await until(lambda: len(server.at("/status")) == 4)
        assert [got.form["CallStatus"] for got in server.at("/status")] == [
            "initiated",
            "ringing",
            "in-progress",
            "completed",
        ]
        assert [got.form["SequenceNumber"] for got in server.at("/status")] == ["0", "1", "2", "3"]
        assert all(got.signed for got in server.got)
        (asked,) = server.at("/out")
        assert asked.form["Direction"] == "outbound-api"
        assert asked.form["CallStatus"] == "in-progress"

    @pytest.mark.parametrize("outcome", ["busy", "no-answer", "failed"])
    async def test_nobody_answers(self, client: Client, exchange: Exchange, server: Any, outcome: str) -> None:
        assert exchange.phone is not None
        exchange.phone.callees = {"+15005550011": Callee(outcome=outcome, rings_ms=10)}
        call = await do(lambda: client.calls.create(to="+15005550011", from_="+15005550006", url=f"{PUBLIC}/out"))
        await until(lambda: exchange.line(call.sid).state["shown"]["status"] == outcome)
        assert server.at("/out") == []

    async def test_ringing_ends_with_the_timeout(self, client: Client, exchange: Exchange) -> None:
        assert exchange.phone is not None
        exchange.phone.callees = {"": Callee(rings_ms=60_000)}
        call = await do(
            lambda: client.calls.create(to="+15005550011", from_="+15005550006", twiml="<Response/>", timeout=1)
        )
        await until(lambda: exchange.line(call.sid).state["shown"]["status"] == "no-answer")

    async def test_a_ringing_call_can_be_cancelled(self, client: Client, exchange: Exchange) -> None:
        assert exchange.phone is not None
        exchange.phone.callees = {"": Callee(rings_ms=60_000)}
        call = await do(lambda: client.calls.create(to="+15005550011", from_="+15005550006", twiml="<Response/>"))
        await until(lambda: exchange.line(call.sid).state["shown"]["status"] == "ringing")
        await do(lambda: client.calls(call.sid).update(status="canceled"))
        await until(lambda: exchange.line(call.sid).state["shown"]["status"] == "canceled")

    async def test_machine_detection_is_in_the_webhook_or_posted_later(
        self, client: Client, exchange: Exchange, server: Any
    ) -> None:
        assert exchange.phone is not None
        exchange.phone.callees = {"": Callee(rings_ms=10, answered_by="machine_start")}
        server.pages |= {"/out": "<Response><Pause/></Response>", "/amd": "<Response/>"}
        call = {"to": "+15005550011", "from_": "+15005550006", "url": f"{PUBLIC}/out", "machine_detection": "Enable"}
        await do(lambda: client.calls.create(**call))
        await until(lambda: len(server.at("/out")) == 1)
        assert server.at("/out")[0].form["AnsweredBy"] == "machine_start"
        later = {"async_amd": "true", "async_amd_status_callback": f"{PUBLIC}/amd"}
        await do(lambda: client.calls.create(**call, **later))
        await until(lambda: len(server.at("/amd")) == 1 and len(server.at("/out")) == 2)
        assert server.at("/amd")[0].form["AnsweredBy"] == "machine_start"
        assert "AnsweredBy" not in server.at("/out")[1].form

    async def test_calls_start_one_after_the_other(self, client: Client, exchange: Exchange, server: Any) -> None:
        exchange.calls_per_second = 1
        begun: list[float] = []

        def out(_: Any) -> str:
            begun.append(asyncio.get_running_loop().time())
            return "<Response/>"

        server.pages["/out"] = out
        for _ in range(2):
            await do(lambda: client.calls.create(to="+15005550011", from_="+15005550006", url=f"{PUBLIC}/out"))
        await until(lambda: len(begun) == 2)
        assert begun[1] - begun[0] > 0.5

    async def test_lists_are_paged_and_filtered(self, client: Client) -> None:
        for number in range(3):
            await do(
                lambda number=number: client.calls.create(
                    to=f"+1500555002{number}", from_="+15005550006", twiml="<Response/>"
                )
            )
        listed = await do(lambda: client.calls.list(page_size=2))
        assert [call.to for call in listed] == ["+15005550022", "+15005550021", "+15005550020"]
        assert len(await do(lambda: client.calls.list(to="+15005550021"))) == 1


class TestRecordings:
    async def test_a_dual_recording_pauses_resumes_stops_and_is_fetched(
        self, client: Client, exchange: Exchange, open_call: Any, server: Any
    ) -> None:
        server.pages["/rec"] = "<Response/>"
        recordings = client.calls(open_call.sid).recordings
        made = await do(
            lambda: recordings.create(
                recording_channels="dual",
                recording_track="both",
                recording_status_callback=f"{PUBLIC}/rec",
                recording_status_callback_event=["in-progress", "completed"],
            )
        )
        assert (made.status, made.channels, made.source) == ("in-progress", 2, "StartCallRecordingAPI")
        await asyncio.sleep(0.6)
        paused = await do(lambda: recordings("Twilio.CURRENT").update(status="paused", pause_behavior="skip"))
        assert (paused.sid, paused.status) == (made.sid, "paused")
        before = open_call.line.now_ms
        await asyncio.sleep(0.6)
        skipped = open_call.line.now_ms - before
        await do(lambda: recordings("Twilio.CURRENT").update(status="in-progress"))
        await asyncio.sleep(0.3)
        stopped = await do(lambda: recordings(made.sid).update(status="stopped"))
        assert stopped.status == "completed"
        audio = await _media(exchange, f"/Recordings/{made.sid}.wav?RequestedChannels=2")
        with wave.open(io.BytesIO(audio)) as reader:
            assert (reader.getnchannels(), reader.getframerate()) == (2, 8000)
            samples = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2").reshape(-1, 2)
        assert 500 < len(samples) / 8 < open_call.line.now_ms - skipped
        assert [_pitch(samples[:, channel]) for channel in (0, 1)] == [700, 440]
        with wave.open(io.BytesIO(await _media(exchange, f"/Recordings/{made.sid}.wav?RequestedChannels=1"))) as mono:
            assert mono.getnchannels() == 1
        await until(lambda: len(server.at("/rec")) == 2)
        assert [got.form["RecordingStatus"] for got in server.at("/rec")] == ["in-progress", "completed"]
        assert all(got.signed for got in server.at("/rec"))

        assert (await refused(lambda: recordings(made.sid).update(status="in-progress"))).status == 400
        assert await do(client.recordings(made.sid).delete)
        assert (await refused(client.recordings(made.sid).fetch)).code == 20404

    async def test_no_recording_of_a_call_that_is_over(self, client: Client, open_call: Any) -> None:
        open_call.hang_up()
        await until(lambda: open_call.status == "completed")
        assert (await refused(client.calls(open_call.sid).recordings.create)).code == 21220


async def _media(exchange: Exchange, path: str) -> bytes:
    import httpx

    async with httpx.AsyncClient(auth=(exchange.account_sid, exchange.auth_token)) as http:
        answer = await http.get(f"{exchange.api_base_url}/2010-04-01/Accounts/{exchange.account_sid}{path}")
    assert answer.status_code == 200
    return answer.content


def _pitch(samples: Any) -> int:
    return round(float(np.argmax(np.abs(np.fft.rfft(samples.astype(float)))) * 8000 / len(samples)) / 10) * 10


class TestNumbersAndMessages:
    async def test_a_number_is_listed_fetched_and_pointed_somewhere(self, client: Client) -> None:
        (number,) = await do(lambda: client.incoming_phone_numbers.list(phone_number="+15005550006"))
        changed = await do(
            lambda: client.incoming_phone_numbers(number.sid).update(
                voice_url=f"{PUBLIC}/voice", voice_fallback_url=f"{PUBLIC}/fallback", status_callback=f"{PUBLIC}/s"
            )
        )
        assert (changed.voice_url, changed.voice_fallback_url) == (f"{PUBLIC}/voice", f"{PUBLIC}/fallback")
        fetched = await do(client.incoming_phone_numbers(number.sid).fetch)
        assert fetched.status_callback == f"{PUBLIC}/s"
        error = await refused(lambda: client.incoming_phone_numbers(number.sid).update(voice_url="nonsense"))
        assert error.code == 21402

    async def test_a_message_is_delivered(self, client: Client, exchange: Exchange, server: Any) -> None:
        server.pages["/sms"] = "<Response/>"
        message = await do(
            lambda: client.messages.create(
                to="+15005550010", from_="+15005550006", body="See you on Monday", status_callback=f"{PUBLIC}/sms"
            )
        )
        assert (message.status, message.body) == ("queued", "See you on Monday")
        await until(lambda: len(server.at("/sms")) == 2)
        assert [got.form["MessageStatus"] for got in server.at("/sms")] == ["sent", "delivered"]
        assert (await do(client.messages(message.sid).fetch)).status == "delivered"
        assert len(await do(client.messages.list)) == 1

    async def test_a_message_to_nobody_is_21211(self, client: Client) -> None:
        error = await refused(lambda: client.messages.create(to="5", from_="+15005550006", body="x"))
        assert error.code == 21211

    async def test_the_account(self, client: Client, exchange: Exchange) -> None:
        account = await do(client.api.accounts(exchange.account_sid).fetch)
        assert (account.sid, account.status) == (exchange.account_sid, "active")


class TestConferences:
    async def test_a_caller_meets_a_colleague(
        self, client: Client, exchange: Exchange, open_call: Any, server: Any, voice: Any
    ) -> None:
        server.pages |= {"/agent": "<Response/>", "/conf": "<Response/>"}
        await do(
            lambda: client.calls(open_call.sid).update(
                twiml='<Response><Dial><Conference participantLabel="caller" endConferenceOnExit="true"'
                f' statusCallback="{PUBLIC}/conf" statusCallbackEvent="join leave">room</Conference></Dial></Response>'
            )
        )
        await until(lambda: any(each["participants"] for each in exchange.conferences.values()))
        (conference,) = await do(lambda: client.conferences.list(friendly_name="room", status="in-progress"))
        agent = await do(
            lambda: client.conferences(conference.sid).participants.create(
                from_="+15005550006",
                to="+15005550044",
                label="agent",
                end_conference_on_exit=True,
                status_callback=f"{PUBLIC}/agent",
            )
        )
        assert agent.label == "agent"
        held = await do(lambda: client.conferences(conference.sid).participants("caller").update(hold=True, muted=True))
        assert (held.hold, held.muted, held.call_sid) == (True, True, open_call.sid)
        labels = {each.label for each in await do(client.conferences(conference.sid).participants.list)}
        assert labels == {"caller", "agent"}
        await until(lambda: open_call.status == "completed")
        assert open_call.record.announcements[-1][1] == Callee().says
        assert (await do(client.conferences(conference.sid).fetch)).status == "completed"
        assert [got.form["StatusCallbackEvent"] for got in server.at("/conf")] == [
            "participant-join",
            "participant-leave",
        ]

    async def test_rest_ends_a_conference(self, client: Client, exchange: Exchange, open_call: Any) -> None:
        twiml = "<Response><Dial><Conference>room</Conference></Dial><Say>Back again</Say></Response>"
        await do(lambda: client.calls(open_call.sid).update(twiml=twiml))
        await until(lambda: any(each["participants"] for each in exchange.conferences.values()))
        (conference,) = await do(client.conferences.list)
        await do(lambda: client.conferences(conference.sid).update(status="completed"))
        await until(lambda: open_call.status == "completed")
        assert open_call.record.announcements[-1][1] == "Back again"


class TestFaults:
    async def test_too_many_requests_then_success(self, client: Client, exchange: Exchange) -> None:
        exchange.faults.append(RestFault(refuse=(429, 20429)))
        message = {"to": "+15005550010", "from_": "+15005550006", "body": "x"}
        error = await refused(lambda: client.messages.create(**message))
        assert (error.status, error.code) == (429, 20429)
        assert exchange.messages == []
        assert (await do(lambda: client.messages.create(**message))).status == "queued"

    async def test_a_hanging_api_takes_until_the_clients_own_timeout(
        self, exchange: Exchange, clients: Callable[..., Client]
    ) -> None:
        exchange.faults.append(RestFault(path="Calls", hang=True))
        client = clients(timeout=0.5)
        with pytest.raises(ReadTimeout):
            await do(client.calls.list)

    async def test_a_lost_response_was_carried_out(self, exchange: Exchange, clients: Callable[..., Client]) -> None:
        exchange.faults.append(RestFault(path="Messages", lose=True))
        client = clients(timeout=0.5)
        with pytest.raises(ReadTimeout):
            await do(lambda: client.messages.create(to="+15005550010", from_="+15005550006", body="once"))
        assert [message["body"] for message in exchange.messages] == ["once"]

    async def test_latency(self, client: Client, exchange: Exchange) -> None:
        exchange.faults.append(RestFault(delay=0.6))
        started = asyncio.get_running_loop().time()
        await do(client.calls.list)
        assert asyncio.get_running_loop().time() - started >= 0.6


class TestPhonesInAnotherProcess:
    async def test_rest_reaches_them_over_a_web_socket(
        self, client: Client, exchange: Exchange, server: Any, account: tuple[str, str], voice: Any
    ) -> None:
        async def stream(sock: Any) -> None:
            await sock.begin()
            await sock.say(sound.tone((440,), 500))
            await sock.drain()

        server.pages["/voice"] = server.connect()
        server.stream = stream
        remote = RemoteExchange(exchange.api_base_url, *account)
        phone = Phone(*account, public_url=PUBLIC, voice=voice, exchange=remote)
        call = phone.dial(f"{server.url}/voice", caller=Conversation(habits=Habits(stays=True)))
        running = asyncio.create_task(call.run())
        await until(lambda: bool(server.sockets) and bool(server.sockets[0].messages))
        shown = await do(client.calls(call.sid).fetch)
        assert shown.status == "in-progress"
        made = await do(lambda: client.calls(call.sid).recordings.create(recording_channels="dual"))
        await asyncio.sleep(0.6)
        await do(lambda: client.calls(call.sid).update(status="completed"))
        record = await running
        assert record.ended_by == "ended by REST"
        await until(lambda: exchange.recordings[made.sid][1] != b"")
        audio = await _media(exchange, f"/Recordings/{made.sid}.wav")
        assert audio.startswith(b"RIFF")
        assert (await do(client.calls(call.sid).fetch)).status == "completed"
        assert (await refused(lambda: client.calls(call.sid).update(status="completed"))).code == 21220

    async def test_a_phone_with_a_wrong_token_is_turned_away(
        self, exchange: Exchange, server: Any, account: tuple[str, str], voice: Any
    ) -> None:
        import websockets

        remote = RemoteExchange(exchange.api_base_url, account[0], "wrong")
        phone = Phone(*account, public_url=PUBLIC, voice=voice, exchange=remote)
        with pytest.raises(websockets.InvalidStatus):
            await phone.call(f"{server.url}/voice")
        assert exchange.lines == {}
