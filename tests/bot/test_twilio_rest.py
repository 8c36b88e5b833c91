"""Hanging up and setting up by REST, through the official client against a server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest

from bot.carriers import twilio
from bot.carriers.twilio import CarrierRest, Number, number_urls
from bot.errors import CarrierUnreachable, ConfigurationError
from bot.settings import Settings

ACCOUNT = "AC" + "0" * 32
TOKEN = "0123456789abcdef0123456789abcdef"
CALL = "CA" + "1" * 32
CALL_PATH = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json"
OVER = {"code": 21220, "message": "Call is not in-progress. Cannot redirect.", "status": 400}


class PausingClock:
    """Real time does not pass in its sleeps; they are written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return 0

    def wall_ns(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Api:
    """A REST server over a raw socket. `answers` are given in turn, the last one again and again.

    An answer is (status, JSON), ``"hang"`` (no answer), ``"drop"`` (the connection is cut after the request was done).
    """

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [(200, {"sid": CALL, "status": "completed"})]
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.authorizations: list[str] = []
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ")
                headers: dict[str, str] = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(": ")
                    headers[name.lower()] = value
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append((method, path, dict(parse_qsl(body.decode(), keep_blank_values=True))))
                self.authorizations.append(headers.get("authorization", ""))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer == "hang":
                    continue
                if answer == "drop":
                    writer.close()
                    return
                status, content = answer
                data = json.dumps(content).encode() if not isinstance(content, bytes) else content
                head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
                writer.write(head.encode() + data)
                await writer.drain()
        finally:
            writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


Make = Callable[..., Any]


@pytest.fixture
async def rest() -> AsyncIterator[Make]:
    """Makes a `CarrierRest` against an `Api` with the given answers."""
    made: list[tuple[CarrierRest, asyncio.Server, Api]] = []

    async def make(*answers: Any) -> tuple[CarrierRest, Api, PausingClock]:
        api, clock = Api(*answers), PausingClock()
        server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
        api.port = server.sockets[0].getsockname()[1]
        client = CarrierRest(settings(f"http://127.0.0.1:{api.port}"), clock)
        made.append((client, server, api))
        return client, api, clock

    yield make
    for client, server, api in made:
        await client.close()
        server.close()
        api.close()
        await server.wait_closed()
    await asyncio.sleep(0)


def settings(base_url: str | None) -> Settings:
    return Settings(_env_file=None, twilio_account_sid=ACCOUNT, twilio_auth_token=TOKEN, twilio_api_base_url=base_url)  # type: ignore[call-arg]


# -- hanging up -------------------------------------------------------------------------------------------------------


async def test_a_hang_up_is_one_signed_request(rest: Make) -> None:
    client, api, clock = await rest()
    await client.hang_up(CALL)
    assert api.requests == [("POST", CALL_PATH, {"Status": "completed"})]
    assert api.authorizations == ["Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()]
    assert clock.slept == []


async def test_asked_again_or_at_once_it_is_still_one_hang_up(rest: Make) -> None:
    client, api, _ = await rest()
    await asyncio.gather(*(client.hang_up(CALL) for _ in range(5)))
    await client.hang_up(CALL)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (404, {"code": 20404, "message": "not found", "status": 404}),
        (400, OVER),
        (404, {"type": "about:blank", "title": "Not found", "status": 404, "code": 20404}),
    ],
)
async def test_a_call_that_is_over_already_is_a_success(rest: Make, answer: Any) -> None:
    client, api, _ = await rest(answer)
    await client.hang_up(CALL)
    assert len(api.requests) == 1


@pytest.mark.parametrize("answer", [(429, {"code": 20429, "message": "", "status": 429}), (503, {}), (500, b"<html>")])
async def test_busy_and_failing_answers_are_tried_again_after_a_pause(rest: Make, answer: Any) -> None:
    client, api, clock = await rest(answer, answer, (200, {"sid": CALL}))
    await client.hang_up(CALL)
    assert len(api.requests) == 3
    assert clock.slept == [0.25, 0.5]


async def test_a_lost_answer_is_tried_again_and_the_call_is_found_over(rest: Make) -> None:
    client, api, _ = await rest("drop", (400, OVER))
    await client.hang_up(CALL)
    assert len(api.requests) == 2


async def test_a_server_that_hangs_is_given_up_and_asked_again(rest: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio, "REQUEST_SECONDS", 0.5)
    client, api, _ = await rest("hang", (200, {"sid": CALL}))
    await client.hang_up(CALL)
    assert len(api.requests) == 2


async def test_a_server_that_only_hangs_is_not_waited_for_without_end(
    rest: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twilio, "HANG_UP_SECONDS", 0.5)
    client, _, _ = await rest("hang")
    with pytest.raises(CarrierUnreachable, match="did not hang up within"):
        await asyncio.wait_for(client.hang_up(CALL), 5)


async def test_failures_without_end_are_bounded(rest: Make) -> None:
    client, api, clock = await rest((503, {"message": "busy"}))
    with pytest.raises(CarrierUnreachable, match="answered 503"):
        await client.hang_up(CALL)
    assert len(api.requests) == 4
    assert clock.slept == [0.25, 0.5, 1.0]


async def test_after_a_failure_it_may_be_tried_again(rest: Make) -> None:
    client, api, _ = await rest((401, {"code": 20003, "message": "Authenticate", "status": 401}), (200, {"sid": CALL}))
    with pytest.raises(CarrierUnreachable, match="TWILIO_AUTH_TOKEN"):
        await client.hang_up(CALL)
    await client.hang_up(CALL)
    assert len(api.requests) == 2


@pytest.mark.parametrize("answer", [(400, {"code": 21218, "message": "no", "status": 400}), (404, {}), (403, {})])
async def test_a_refusal_is_final_and_a_bare_404_is_no_proof_that_the_call_is_over(rest: Make, answer: Any) -> None:
    client, api, clock = await rest(answer)
    with pytest.raises(CarrierUnreachable, match=f"answered {answer[0]}"):
        await client.hang_up(CALL)
    assert len(api.requests) == 1
    assert clock.slept == []


async def test_nobody_listening_is_unreachable() -> None:
    client = CarrierRest(settings("http://127.0.0.1:9"), PausingClock())
    with pytest.raises(CarrierUnreachable, match="cannot be reached"):
        await client.hang_up(CALL)
    await client.close()


async def test_whoever_stops_waiting_does_not_stop_the_hang_up(rest: Make) -> None:
    client, api, _ = await rest((503, {}), (200, {"sid": CALL}))
    waiting = asyncio.create_task(client.hang_up(CALL))
    while not api.requests:
        await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await client.hang_up(CALL)
    assert len(api.requests) == 2


async def test_twilios_own_address_is_used_unless_another_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_EDGE", "sydney")
    monkeypatch.setenv("TWILIO_REGION", "au1")
    client = CarrierRest(settings(None), PausingClock())
    sdk = client._connected()
    assert sdk.api.base_url == "https://api.twilio.com"
    assert sdk.get_hostname("https://api.twilio.com/x") == "https://api.twilio.com/x"
    await client.close()


def test_an_account_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="TWILIO_ACCOUNT_SID"):
        CarrierRest(Settings(_env_file=None), PausingClock())  # type: ignore[call-arg]


# -- the doctor's questions -------------------------------------------------------------------------------------------


async def test_credentials_are_checked_by_fetching_the_account(rest: Make) -> None:
    client, api, _ = await rest((200, {"sid": ACCOUNT, "status": "active", "friendly_name": "Smile Dental"}))
    assert await client.check_credentials() == "Smile Dental"
    assert api.requests == [("GET", f"/2010-04-01/Accounts/{ACCOUNT}.json", {})]


async def test_an_account_that_is_not_active_is_told(rest: Make) -> None:
    client, _, _ = await rest((200, {"sid": ACCOUNT, "status": "suspended", "friendly_name": "Smile Dental"}))
    with pytest.raises(CarrierUnreachable, match="suspended"):
        await client.check_credentials()


NUMBER = {
    "sid": "PN" + "2" * 32,
    "phone_number": "+15005550006",
    "voice_url": "https://old.example.com/",
    "voice_fallback_url": None,
    "status_callback": "",
    "voice_application_sid": "AP" + "3" * 32,
    "trunk_sid": None,
}


async def test_numbers_tell_where_their_calls_go(rest: Make) -> None:
    client, api, _ = await rest((200, {"incoming_phone_numbers": [NUMBER], "next_page_uri": None}))
    assert await client.numbers() == [
        Number("PN" + "2" * 32, "+15005550006", "https://old.example.com/", "", "", "AP" + "3" * 32)
    ]
    assert api.requests[0][:2] == ("GET", f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json?PageSize=100")


async def test_a_number_is_pointed_at_this_server(rest: Make) -> None:
    client, api, _ = await rest((200, NUMBER))
    await client.set_number_urls(NUMBER["sid"], "https://bot.example.com")
    method, path, fields = api.requests[0]
    assert (method, path) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/{NUMBER['sid']}.json")
    assert fields == {
        "VoiceUrl": "https://bot.example.com/twilio/voice",
        "VoiceMethod": "POST",
        "VoiceFallbackUrl": "https://bot.example.com/twilio/fallback",
        "VoiceFallbackMethod": "POST",
        "StatusCallback": "https://bot.example.com/twilio/status",
        "StatusCallbackMethod": "POST",
        "VoiceApplicationSid": "",
        "TrunkSid": "",
    }
    assert set(number_urls("https://x").values()) == {
        "https://x/twilio/voice",
        "https://x/twilio/fallback",
        "https://x/twilio/status",
    }
