"""Twilio's ways: its signatures, its TwiML and its REST API.

The only module that imports the Twilio SDK. The routes that Twilio calls are in `bot.carriers.webhooks`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request, WebSocket
from starlette.requests import ClientDisconnect, HTTPConnection
from twilio.auth_strategy.auth_strategy import AuthStrategy
from twilio.auth_strategy.auth_type import AuthType
from twilio.base.exceptions import TwilioException
from twilio.credential.credential_provider import CredentialProvider
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.request_validator import (
    HMAC_SHA1,
    HMAC_SHA256,
    SIGNATURE_HEADER,
    SIGNATURE_SETTINGS_HEADER,
    RequestValidator,
    get_signature_algorithm,
)
from twilio.rest import Client, api  # noqa: F401 - the SDK would import `api`, 250 ms, in the middle of the first call
from twilio.twiml.voice_response import Connect, Dial, Gather, Stream, VoiceResponse

from bot.carriers import Briefing, Ring
from bot.errors import CarrierUnreachable, ConfigurationError, SignatureRejected
from bot.handover import RECORD_SECONDS
from bot.ports import Clock
from bot.settings import Settings

MAX_BODY = 64 * 1024
_QUIET_SECONDS = 5
"""So much silence ends a recorded message."""
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

Form = dict[str, str]


# -- signatures -------------------------------------------------------------------------------------------------------


class SignatureCheck:
    """Tells whether a request comes from Twilio (Twilio documentation, "Webhooks security" and "Shared keys").

    The signature is an HMAC over the address that Twilio used. Behind a TLS proxy that address cannot be seen from
    here, so it is made from ``PUBLIC_URL``; without one from the Host header and scheme as received, which is good for
    a phone on the same machine only. Accepted are SHA-1 with our auth token and, where a header says so, SHA-256 with
    `shared_key` (the auth token, if there is none). A request signed by another account, a sub-account included, is
    refused.
    """

    def __init__(self, settings: Settings, shared_key: str | None = None) -> None:
        token = _credentials(settings)[1]
        self._public_url = settings.public_url
        self._validators = {HMAC_SHA1: RequestValidator(token), HMAC_SHA256: RequestValidator(shared_key or token)}

    def base_url(self, connection: HTTPConnection) -> str:
        """``https://host``: what our own addresses in TwiML begin with."""
        if self._public_url:
            return self._public_url
        scheme = "https" if connection.scope.get("scheme") in ("https", "wss") else "http"
        return f"{scheme}://{connection.headers.get('host', '')}"

    async def form(self, request: Request) -> Form:
        """The fields of a signed request, the last value of each name.

        Raises `bot.errors.SignatureRejected`.
        """
        body = await _read_body(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            return self._json(request, body)
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
        except ValueError:
            raise SignatureRejected("The body is not a form.") from None
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        self._verify(request, self.base_url(request), _Fields(values))
        return {name: several[-1] for name, several in values.items()}

    def upgrade(self, websocket: WebSocket) -> None:
        """Check the upgrade of a media socket. Twilio opens and signs ``wss`` addresses only, without parameters.

        Raises `bot.errors.SignatureRejected`.
        """
        self._verify(websocket, socket_url(self.base_url(websocket)), _Fields({}))

    def _json(self, request: Request, body: bytes) -> Form:
        # A JSON body is not signed itself: the signed address carries its hash.
        claimed = request.query_params.get("bodySHA256", "")
        if not hmac.compare_digest(hashlib.sha256(body).hexdigest(), claimed.encode().decode("ascii", "replace")):
            raise SignatureRejected("The JSON body is not the one that was signed.")
        self._verify(request, self.base_url(request), _Fields({}))
        try:
            values = json.loads(body)
        except ValueError:
            raise SignatureRejected("The body is not JSON.") from None
        return {name: str(value) for name, value in values.items()} if isinstance(values, dict) else {}

    def _verify(self, connection: HTTPConnection, base: str, fields: _Fields) -> None:
        algorithm = get_signature_algorithm(connection.headers.get(SIGNATURE_SETTINGS_HEADER, "")).upper()
        validator = self._validators.get(algorithm)
        if validator is None:
            raise SignatureRejected("The signature's algorithm is unknown.")
        given = connection.headers.get(SIGNATURE_HEADER, "").encode()
        query = connection.scope["query_string"].decode("latin-1")
        path = connection.scope.get("raw_path", connection.scope["path"].encode()).decode("latin-1")
        for url in _spellings(f"{base}{path}{'?' if query else ''}{query}"):
            expected = validator.compute_signature(url, fields, algorithm)
            if hmac.compare_digest(expected.encode(), given):
                return
        raise SignatureRejected("The signature is missing or wrong.")


class _Fields(dict[str, list[str]]):
    """Form fields as the SDK's validator reads them: every value of a repeated name counts."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise SignatureRejected(f"The body is longer than {MAX_BODY} bytes.")
    except ClientDisconnect:
        raise SignatureRejected("The request was cut off.") from None
    return bytes(body)


def _spellings(url: str) -> list[str]:
    """The address with and without its port: Twilio signs either."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SignatureRejected("The Host header is not a host.") from None
    if port is None:
        return [url, parts._replace(netloc=f"{parts.netloc}:{_DEFAULT_PORTS[parts.scheme]}").geturl()]
    return [url, parts._replace(netloc=parts.netloc.rpartition(":")[0]).geturl()]


def socket_url(base_url: str) -> str:
    """The same host for a media socket: Twilio opens ``wss`` only."""
    return "wss" + base_url[base_url.index("://") :]


# -- TwiML ------------------------------------------------------------------------------------------------------------


def connect_twiml(base_url: str, token: str, *, say: str = "", language: str = "") -> str:
    """TwiML that opens a media stream to us, after `say` if there are such words.

    The token travels as a parameter of the start message, because a media socket's address may have no query. When the
    stream is over while the caller is still there, Twilio asks ``after-stream``.
    """
    response = VoiceResponse()
    if say:
        response.say(say, language=language)
    connect = Connect(action=f"{base_url}/twilio/after-stream")
    stream = Stream(
        url=f"{socket_url(base_url)}/twilio/media",
        status_callback=f"{base_url}/twilio/stream-status",
    )
    stream.parameter(name="token", value=token)
    connect.append(stream)
    response.append(connect)
    return str(response)


def hang_up_twiml(say: str = "", language: str = "") -> str:
    """TwiML that says something (or nothing) and hangs up."""
    response = VoiceResponse()
    if say:
        response.say(say, language=language)
    response.hangup()
    return str(response)


def ring_twiml(base_url: str, ring: Ring, *, say: str = "", language: str = "") -> str:
    """TwiML that rings a person and connects the caller to them; then Twilio asks ``after-dial``.

    Whoever picks up is first briefed by ``briefing``, and only a key connects them: an answering machine presses none.
    """
    response = VoiceResponse()
    if say:
        response.say(say, language=language)
    dial = Dial(
        action=f"{base_url}/twilio/after-dial",
        timeout=ring.seconds,
        answer_on_bridge=True,
        caller_id=ring.caller_id or None,
    )
    dial.number(ring.number, url=f"{base_url}/twilio/briefing")
    response.append(dial)
    return str(response)


def briefing_twiml(base_url: str, briefing: Briefing) -> str:
    """TwiML for the person who picked up: who calls and why; a key takes the call, no key is like no answer."""
    response = VoiceResponse()
    gather = Gather(action=f"{base_url}/twilio/accept", num_digits=1, timeout=briefing.seconds)
    gather.say(briefing.say, language=briefing.language)
    response.append(gather)
    response.hangup()
    return str(response)


def accept_twiml() -> str:
    """TwiML for the person who pressed a key: nothing more, so the caller is put through."""
    return str(VoiceResponse())


def record_twiml(base_url: str, say: str, goodbye: str, language: str) -> str:
    """TwiML that says something, records what the caller says after a tone, and asks ``after-message``.

    The recording is told of twice, so that a message is stored even if one of the two requests is lost; ``recording``
    is asked for again where it fails (Twilio documentation, "Webhooks: connection overrides"). Silence leads on to the
    goodbye.
    """
    response = VoiceResponse()
    if say:
        response.say(say, language=language)
    response.record(
        action=f"{base_url}/twilio/after-message",
        max_length=RECORD_SECONDS,
        timeout=_QUIET_SECONDS,
        play_beep=True,
        recording_status_callback=f"{base_url}/twilio/recording#rc=5&rp=all",
        recording_status_callback_event="completed",
    )
    response.say(goodbye, language=language)
    response.hangup()
    return str(response)


# -- what we ask of Twilio --------------------------------------------------------------------------------------------

REQUEST_SECONDS = 5.0
HANG_UP_SECONDS = 10.0
"""The longest that a hang-up is tried. Then the socket is closed and ``after-stream`` answers with a hang-up."""
_BACKOFF_SECONDS = (0.25, 0.5, 1.0)
_REMEMBERED = 1_000
"""So many of the last calls that were hung up are not hung up again."""
# "not found" and "call is not in progress": the call that should end is over already.
_ALREADY_OVER = (20404, 21220)


@dataclass(frozen=True)
class Number:
    """A telephone number of the account and where Twilio sends its calls.

    `diverted_to` is a SIP trunk or TwiML application that takes the calls instead of the URLs; empty where none does.
    """

    sid: str
    phone_number: str
    voice_url: str
    fallback_url: str
    status_callback: str
    diverted_to: str


class CarrierRest:
    """Twilio's REST API, through the official client; nothing here blocks the event loop or waits without an end.

    The SDK's asynchronous client ignores its own ``timeout`` setting (9.13), so every request is bounded here.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._account_sid, self._token = _credentials(settings)
        self._base_url = settings.twilio_api_base_url
        self._clock = clock
        self._client: Client | None = None
        self._hang_ups: dict[str, asyncio.Task[None]] = {}
        self._hung_up: dict[str, None] = {}

    async def close(self) -> None:
        """Stop hanging up, and close the connections."""
        asking = list(self._hang_ups.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if self._client is not None:
            await self._client.http_client.close()
            self._client = None

    async def hang_up(self, call_sid: str) -> None:
        """End the call. Asked again, or at the same time, it is still one hang-up; a call that is over is success.

        Raises `bot.errors.CarrierUnreachable` when Twilio refused, failed or did not answer within `HANG_UP_SECONDS`;
        it may then be tried again.
        """
        if call_sid in self._hung_up:
            return
        task = self._hang_ups.get(call_sid)
        if task is None:
            task = asyncio.create_task(self._hang_up(call_sid), name=f"hang up {call_sid}")
            task.add_done_callback(lambda done: self._asked(call_sid, done))
            self._hang_ups[call_sid] = task
        await asyncio.shield(task)

    async def check_credentials(self) -> str:
        """The account's friendly name.

        Raises `bot.errors.CarrierUnreachable`, naming what is wrong, also for an account that is not active.
        """
        account = await self._request(lambda client: client.api.accounts(self._account_sid).fetch_async())
        if account.status != "active":
            raise CarrierUnreachable(f"The Twilio account is {account.status}; reactivate it in the Twilio console.")
        return str(account.friendly_name)

    async def numbers(self) -> list[Number]:
        """The account's telephone numbers (at most 100)."""
        found = await self._request(lambda client: client.incoming_phone_numbers.list_async(limit=100))
        return [
            Number(
                sid=number.sid,
                phone_number=number.phone_number,
                voice_url=number.voice_url or "",
                fallback_url=number.voice_fallback_url or "",
                status_callback=number.status_callback or "",
                diverted_to=number.trunk_sid or number.voice_application_sid or "",
            )
            for number in found
        ]

    async def set_number_urls(self, number_sid: str, base_url: str) -> None:
        """Send a number's calls to this server: webhook, fallback and status callback; nothing else takes them."""
        urls = number_urls(base_url)
        await self._request(
            lambda client: client.incoming_phone_numbers(number_sid).update_async(
                voice_url=urls["voice_url"],
                voice_method="POST",
                voice_fallback_url=urls["fallback_url"],
                voice_fallback_method="POST",
                status_callback=urls["status_callback"],
                status_callback_method="POST",
                voice_application_sid="",
                trunk_sid="",
            )
        )

    def _asked(self, call_sid: str, task: asyncio.Task[None]) -> None:
        """A hang-up came to its end. Whoever asked may have stopped waiting: then nobody else looks at how."""
        del self._hang_ups[call_sid]
        if task.cancelled() or task.exception():
            return
        self._hung_up[call_sid] = None
        if len(self._hung_up) > _REMEMBERED:
            del self._hung_up[next(iter(self._hung_up))]

    async def _hang_up(self, call_sid: str) -> None:
        try:
            async with asyncio.timeout(HANG_UP_SECONDS):
                await self._request(
                    lambda client: client.calls(call_sid).update_async(status="completed"), gone=_ALREADY_OVER
                )
        except TimeoutError:
            raise CarrierUnreachable(f"Twilio did not hang up within {HANG_UP_SECONDS:g} s.") from None

    async def _request(self, ask: Callable[[Client], Awaitable[Any]], *, gone: tuple[int, ...] = ()) -> Any:
        """Ask, and again after busy answers, failures and silence; None where the thing asked for is `gone`."""
        problem = ""
        for pause in (*_BACKOFF_SECONDS, None):
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    return await ask(self._connected())
            except TwilioException as error:
                status, code = getattr(error, "status", 0), getattr(error, "code", 0)
                if code in gone:
                    return None
                problem = f"Twilio answered {status} (error {code})."
                if status == 401:
                    problem += " Check TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN."
                if status != 429 and status < 500:
                    break
            except TimeoutError:
                problem = f"Twilio did not answer within {REQUEST_SECONDS:g} s."
            except Exception as error:  # whatever else the HTTP client raises is a connection that failed
                problem = f"Twilio cannot be reached ({type(error).__name__})."
            if pause is not None:
                await self._clock.sleep(pause)
        raise CarrierUnreachable(problem)

    def _connected(self) -> Client:
        if self._client is None:
            # Given an environment of its own, the SDK does not look for TWILIO_EDGE and TWILIO_REGION in the real one.
            self._client = Client(
                self._account_sid,
                http_client=AsyncTwilioHttpClient(),
                credential_provider=_Basic(f"{self._account_sid}:{self._token}"),
                environment={"TWILIO_EDGE": "", "TWILIO_REGION": ""},
            )
            if self._base_url:
                self._client.api.base_url = self._base_url
        return self._client


class _Basic(CredentialProvider, AuthStrategy):  # type: ignore[misc]
    """HTTP Basic as a header: the SDK's own way (9.13) goes through a class that aiohttp is about to remove."""

    def __init__(self, account_and_token: str) -> None:
        super().__init__(AuthType.BASIC)
        self._header = "Basic " + base64.b64encode(account_and_token.encode()).decode()

    def to_auth_strategy(self) -> AuthStrategy:
        return self

    def get_auth_string(self) -> str:
        return self._header

    def requires_authentication(self) -> bool:
        return True


def number_urls(base_url: str) -> dict[str, str]:
    """What a number must point at, by the field names of `Number`."""
    return {
        "voice_url": f"{base_url}/twilio/voice",
        "fallback_url": f"{base_url}/twilio/fallback",
        "status_callback": f"{base_url}/twilio/status",
    }


def _credentials(settings: Settings) -> tuple[str, str]:
    if settings.twilio_account_sid is None or settings.twilio_auth_token is None:
        raise ConfigurationError("TWILIO_ACCOUNT_SID", "is not set.", "Set it together with TWILIO_AUTH_TOKEN.")
    return settings.twilio_account_sid, settings.twilio_auth_token.get_secret_value()
