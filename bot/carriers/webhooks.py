"""The routes that Twilio calls: webhooks and the media socket.

What a call does lies behind the protocols of `bot.carriers`; the handlers here turn signed requests into calls of them
and the answers into TwiML. Whatever goes wrong behind a signed request, the caller hears a sentence.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import get_args

from fastapi import APIRouter, Request, Response, WebSocket
from loguru import logger
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from bot.carriers import (
    START_SECONDS,
    Calls,
    Dialled,
    NextStep,
    OpenStream,
    RecordedMessage,
    Refusal,
    Ring,
    TakeMessage,
)
from bot.carriers.media_stream import MediaStream, StreamEvent
from bot.carriers.twilio import (
    Form,
    SignatureCheck,
    accept_twiml,
    briefing_twiml,
    connect_twiml,
    hang_up_twiml,
    record_twiml,
    ring_twiml,
)
from bot.errors import CarrierError, SignatureRejected, StreamRejected
from bot.events import Trouble
from bot.metrics import Metrics
from bot.ports import Clock
from bot.settings import Settings

_MESSAGES_BEFORE_START = 50
_CALL_SID = re.compile(r"CA[0-9a-fA-F]{32}")
_RECORDING_SID = re.compile(r"RE[0-9a-fA-F]{32}")
_ERROR_CODE = re.compile(r"[1-9][0-9]{4}")
_SECONDS = re.compile(r"[0-9]{1,5}")
_SEQUENCE = re.compile(r"[0-9]{1,9}")


def twilio_router(
    calls: Calls,
    settings: Settings,
    metrics: Metrics,
    clock: Clock,
    *,
    sorry: NextStep,
    shared_key: str | None = None,
    start_seconds: float = START_SECONDS,
) -> APIRouter:
    """The routes under ``/twilio``. `sorry` is what a caller hears when something of ours fails.

    `shared_key` is the secret of a Twilio webhook shared key, for accounts that sign with one.

    Serve them with ``ws_max_size`` of about 1 MiB and ``ws_per_message_deflate=False`` (uvicorn): messages up to there
    are counted and survived, and compressing 20 ms of mu-law costs more than it saves.
    """
    check = SignatureCheck(settings, shared_key)
    routes = _Routes(calls, check, metrics, clock, sorry, start_seconds)
    router = APIRouter(prefix="/twilio", include_in_schema=False)
    router.add_api_route("/voice", routes.spoken(routes.voice), methods=["POST"])
    router.add_api_route("/after-stream", routes.spoken(routes.after_stream), methods=["POST"])
    router.add_api_route("/after-dial", routes.spoken(routes.after_dial), methods=["POST"])
    router.add_api_route("/briefing", routes.spoken(routes.briefing), methods=["POST"])
    router.add_api_route("/accept", routes.spoken(routes.accept), methods=["POST"])
    router.add_api_route("/after-message", routes.spoken(routes.after_message), methods=["POST"])
    router.add_api_route("/recording", routes.silent(routes.recording), methods=["POST"])
    router.add_api_route("/fallback", routes.spoken(routes.fallback), methods=["POST"])
    router.add_api_route("/status", routes.silent(routes.status), methods=["POST"])
    router.add_api_route("/stream-status", routes.silent(routes.stream_status), methods=["POST"])
    router.add_api_websocket_route("/media", routes.media)
    return router


Handler = Callable[[Request], Awaitable[Response]]


class _Routes:
    """The handlers. Those of web requests get the signed form and our base URL; they may raise whatever they like."""

    def __init__(
        self,
        calls: Calls,
        check: SignatureCheck,
        metrics: Metrics,
        clock: Clock,
        sorry: NextStep,
        start_seconds: float,
    ) -> None:
        self._calls = calls
        self._check = check
        self._metrics = metrics
        self._clock = clock
        self._sorry = sorry
        self._start_seconds = start_seconds
        self._one_by_one = asyncio.Lock()
        self._logged_ns: int | None = None
        self._unlogged = 0

    # -- web requests

    def spoken(self, answer: Callable[[Form, str], str]) -> Handler:
        """A route whose answer the caller hears: TwiML, even where `answer` raises."""

        async def route(request: Request) -> Response:
            began_ns = self._clock.now_ns()
            form = await self._signed(request)
            if form is None:
                return Response("Forbidden", 403, media_type="text/plain")
            try:
                # Ten webhooks come together after a radio spot, and a call takes a millisecond to start: one in each
                # turn of the event loop, so that those who are talking do not wait for all of them.
                async with self._one_by_one:
                    await asyncio.sleep(0)
                    twiml = answer(form, self._check.base_url(request))
            except Exception:
                logger.exception("{} failed; the caller is told so", request.url.path)
                self._failed("webhook_failed", form.get("CallSid", ""), heard="sorry_unreachable")
                twiml = hang_up_twiml(self._sorry.say, self._sorry.language)
            self._metrics.webhook_seconds.observe((self._clock.now_ns() - began_ns) / 1e9)
            return Response(twiml, media_type="text/xml")

        return route

    def silent(self, take: Callable[[Form], Awaitable[None] | None]) -> Handler:
        """A route that only takes note; what it has to wait for is waited for before the answer."""

        async def route(request: Request) -> Response:
            form = await self._signed(request)
            if form is None:
                return Response("Forbidden", 403, media_type="text/plain")
            try:
                if work := take(form):
                    await work
            except Exception:
                logger.exception("{} failed", request.url.path)
                self._failed("webhook_failed", form.get("CallSid", ""))
                return Response(status_code=500)
            return Response(status_code=204)

        return route

    def voice(self, form: Form, base_url: str) -> str:
        """A call comes in."""
        answer = self._calls.receive(
            call_sid=_call_sid(form),
            account_sid=form.get("AccountSid", ""),
            from_number=form.get("From", ""),
            to_number=form.get("To", ""),
        )
        if isinstance(answer, Refusal):
            return hang_up_twiml(answer.say, answer.language)
        return connect_twiml(base_url, answer.stream_token)

    def after_stream(self, form: Form, base_url: str) -> str:
        """A media stream is over and the caller is still there."""
        return self._after_stream(_call_sid(form), base_url)

    def after_dial(self, form: Form, base_url: str) -> str:
        """Nobody was reached for the caller, or the talk with them is over."""
        status, bridged = form.get("DialCallStatus", ""), form.get("DialBridged", "true") == "true"
        known: Dialled = status if status in get_args(Dialled) else "failed"  # type: ignore[assignment]
        bridged = bridged and known in ("completed", "answered")
        return self._twiml(self._calls.after_dial(_call_sid(form), known, bridged=bridged), base_url)

    def briefing(self, form: Form, base_url: str) -> str:
        """A person has picked up, on a call of their own whose parent is the caller's."""
        return briefing_twiml(base_url, self._calls.briefing(form.get("ParentCallSid", "")))

    def accept(self, form: Form, base_url: str) -> str:
        """The person has pressed a key."""
        self._calls.accepted(form.get("ParentCallSid", ""))
        return accept_twiml()

    def after_message(self, form: Form, base_url: str) -> str:
        """A caller has spoken to the recorder."""
        return self._twiml(self._calls.after_message(_message(form)), base_url)

    def recording(self, form: Form) -> Awaitable[None] | None:
        """A message lies ready."""
        done = form.get("RecordingStatus", "completed") == "completed"
        return self._calls.keep_message(_message(form)) if done else None

    def fallback(self, form: Form, base_url: str) -> str:
        """Twilio could not use our answer. If the call lives, the caller gets what comes next all the same."""
        code = form.get("ErrorCode", "")
        self._failed(f"twilio_{code}" if _ERROR_CODE.fullmatch(code) else "twilio_fallback", form.get("CallSid", ""))
        logger.error("Twilio fell back with error {} for {}", code[:5], form.get("CallSid", "")[:34])
        match form.get("ErrorUrl", "").rpartition("/")[2]:
            case "after-dial":
                # Nobody is to be rung again: that answer may fail again.
                return self._twiml(self._calls.after_dial(_call_sid(form), "failed", bridged=False), base_url)
            case "after-message":
                return hang_up_twiml()
        return self._after_stream(_call_sid(form), base_url)

    def status(self, form: Form) -> None:
        """The call's status changed."""
        call = self._calls.get(_call_sid(form))
        sequence = form.get("SequenceNumber", "")
        if call is not None:
            call.carrier_status(form.get("CallStatus", ""), int(sequence) if _SEQUENCE.fullmatch(sequence) else None)

    def stream_status(self, form: Form) -> None:
        """A media stream started, stopped or failed; why a handshake failed is told here only."""
        if form.get("StreamEvent") == "stream-error":
            error = form.get("StreamError", "")[:200]
            self._failed("stream_error", _call_sid(form), detail=error)
            logger.error("Twilio reports for the stream of {}: {}", _call_sid(form), error)

    def _after_stream(self, call_sid: str, base_url: str) -> str:
        call = self._calls.get(call_sid)
        step = call.after_stream() if call else self._sorry
        if call and step.then == "reconnect":
            return connect_twiml(base_url, call.stream_token, say=step.say, language=step.language)
        return self._twiml(step, base_url)

    def _twiml(self, step: NextStep, base_url: str) -> str:
        match step.then:
            case Ring() as ring:
                return ring_twiml(base_url, ring, say=step.say, language=step.language)
            case TakeMessage(afterwards=goodbye):
                return record_twiml(base_url, step.say, goodbye, step.language)
            case _:
                return hang_up_twiml(step.say, step.language)

    # -- the media socket

    async def media(self, websocket: WebSocket) -> None:
        """One media stream: signed upgrade, start message in time, token, then the call takes over."""
        try:
            self._check.upgrade(websocket)
        except SignatureRejected as rejected:
            self._note_rejection(websocket, rejected)
            await websocket.close()
            return
        await websocket.accept()
        call_sid = ""
        try:
            opened = await self._open(websocket)
            call_sid = opened.started.call_sid
            call = self._calls.claim_stream(call_sid, opened.started.parameters.get("token", ""))
            await call.serve_stream(opened)
        except StreamRejected as rejected:
            self._failed(f"stream_{rejected.kind}", call_sid)
            logger.warning("A media stream is refused: {}", rejected)
            await _close(websocket, 1008)
        except WebSocketDisconnect:
            self._failed("stream_no_start")
        except Exception:
            logger.exception("A media stream failed")
            self._failed("stream_failed", call_sid)
            await _close(websocket, 1011)
        else:
            await _close(websocket, 1000)

    async def _open(self, websocket: WebSocket) -> OpenStream:
        stream = MediaStream()
        messages: list[str | bytes] = []
        events: list[StreamEvent] = []
        try:
            async with asyncio.timeout(self._start_seconds):
                while stream.started is None:
                    message = await websocket.receive()
                    if message["type"] == "websocket.disconnect":
                        raise WebSocketDisconnect(message["code"])
                    text = message.get("text")
                    messages.append(message["bytes"] if text is None else text)
                    events += stream.receive(messages[-1])
                    if stream.problems["media_format"]:
                        raise StreamRejected("media_format", "Its format is not mu-law, 8000 Hz, mono.")
                    if len(messages) > _MESSAGES_BEFORE_START:
                        raise StreamRejected("no_start", f"{len(messages)} messages and no start.")
        except TimeoutError:
            raise StreamRejected("no_start", f"No start within {self._start_seconds:g} s.") from None
        return OpenStream(websocket, stream, stream.started, tuple(messages), tuple(events))

    # -- failures

    def _failed(self, kind: str, call_sid: str = "", *, heard: str = "nothing", detail: str = "") -> None:
        """Count a failure; where it is known whose call it is, it stands on the tape of that call too."""
        if call := self._calls.get(call_sid):
            call.carrier_failed(Trouble(kind, "carrier", heard, detail))
        else:
            self._metrics.failures.labels(kind).inc()

    async def _signed(self, request: Request) -> Form | None:
        try:
            return await self._check.form(request)
        except SignatureRejected as rejected:
            self._note_rejection(request, rejected)
            return None

    def _note_rejection(self, connection: HTTPConnection, rejected: SignatureRejected) -> None:
        self._failed("signature_rejected")
        now_ns = self._clock.now_ns()
        if self._logged_ns is not None and now_ns - self._logged_ns < 1_000_000_000:
            self._unlogged += 1
            return
        logger.warning("{} refused: {} ({} more unlogged)", connection.url.path, rejected, self._unlogged)
        self._logged_ns, self._unlogged = now_ns, 0


def _call_sid(form: Form) -> str:
    call_sid = form.get("CallSid", "")
    if not _CALL_SID.fullmatch(call_sid):
        raise CarrierError("The signed request names no call.")
    return call_sid


def _message(form: Form) -> RecordedMessage:
    seconds, sid = form.get("RecordingDuration", ""), form.get("RecordingSid", "")
    if not _RECORDING_SID.fullmatch(sid):
        raise CarrierError("The signed request names no recording.")
    return RecordedMessage(
        call_sid=_call_sid(form),
        from_number=form.get("From", ""),
        recording_sid=sid,
        url=form.get("RecordingUrl", "")[:500],
        seconds=float(seconds) if _SECONDS.fullmatch(seconds) else 0.0,
    )


async def _close(websocket: WebSocket, code: int) -> None:
    with suppress(Exception):
        async with asyncio.timeout(1.0):
            await websocket.close(code)
