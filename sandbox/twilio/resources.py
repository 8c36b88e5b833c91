"""The resources of the stand-in exchange, one function for each method of each path."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import wave
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.twilio.call import FINAL, LiveCall
from sandbox.twilio.exchange import Exchange, Form, Handler, moment, page
from sandbox.twilio.lines import Json, Refused, snapshot
from sandbox.twilio.parties import Callee
from sandbox.twilio.record import new_sid
from sandbox.twilio.twiml import TwimlError, check_inline


async def account(exchange: Exchange, request: Request, form: Form) -> Response:
    """Accounts: fetch."""
    sid = exchange.account_sid
    return JSONResponse(
        {
            "sid": sid,
            "auth_token": exchange.auth_token,
            "date_created": moment(),
            "date_updated": moment(),
            "friendly_name": "Stand-in account (not Twilio)",
            "owner_account_sid": sid,
            "status": "active",
            "subresource_uris": {},
            "type": "Full",
            "uri": f"/2010-04-01/Accounts/{sid}.json",
        }
    )


# Calls


async def list_calls(exchange: Exchange, request: Request, form: Form) -> Response:
    """Calls: list, newest first; filters To, From, Status."""
    query = request.query_params
    shown = [line.state["shown"] for line in reversed(exchange.lines.values())]
    for name, key in (("To", "to"), ("From", "from"), ("Status", "status")):
        shown = [each for each in shown if name not in query or each[key] == query[name]]
    return page(request, "calls", shown)


async def create_call(exchange: Exchange, request: Request, form: Form) -> Response:
    """Calls: create. The call rings when its turn comes; its webhook is asked when somebody answers."""
    for name, code in (("To", 21201), ("From", 21213)):
        if not form.one(name):
            raise Refused(400, code, f"No '{name}' number is specified")
    url, twiml = form.one("Url"), "" if form.one("Url") else form.one("Twiml")
    if not url and not twiml:
        raise Refused(400, 21205, "Url parameter is required.")
    _check_twiml(twiml)
    assert exchange.phone is not None
    to = form.number("To")
    callee = exchange.phone.callees.get(to) or exchange.phone.callees.get("", Callee())
    call = exchange.phone.dial(
        url or "http://twiml.invalid/",
        caller=callee.caller() if callee.caller else None,
        from_=form.number("From"),
        to=to,
        direction="outbound-api",
        method=form.one("Method", "POST"),
        fallback_url=form.one("FallbackUrl"),
        status_callback=form.one("StatusCallback"),
        status_callback_events=tuple(form.get("StatusCallbackEvent", ["completed"])),
        time_limit=float(form.one("TimeLimit", "14400")),
        ring_timeout=float(form.one("Timeout", "60")),
        twiml=twiml,
        detect_machine=_detection(form),
    )
    await exchange.add_line(call)
    loop = asyncio.get_running_loop()
    starts = exchange.next_call_at = max(loop.time(), exchange.next_call_at)
    exchange.next_call_at += 1 / exchange.calls_per_second
    exchange.later(_place(exchange, call, starts, form))
    return JSONResponse(snapshot(call)["shown"], 201)


def _detection(form: Form) -> str:
    if not form.one("MachineDetection"):
        return ""
    return form.one("AsyncAmdStatusCallback") if form.one("AsyncAmd") == "true" else "sync"


async def _place(exchange: Exchange, call: LiveCall, starts: float, form: Form) -> None:
    await asyncio.sleep(starts - asyncio.get_running_loop().time())
    if call.status in FINAL:
        return
    running = asyncio.create_task(call.run())
    if form.one("Record") == "true":
        await call.answered.wait()
        await exchange.line(call.sid).order("start_recording", _recording_wishes(form, "OutboundAPI"))
    await running


async def fetch_call(exchange: Exchange, request: Request, form: Form) -> Response:
    """Calls: fetch."""
    return JSONResponse(exchange.line(request.path_params["sid"]).state["shown"])


async def update_call(exchange: Exchange, request: Request, form: Form) -> Response:
    """Calls: update. `Status=canceled` does nothing to a call that was answered."""
    line = exchange.line(request.path_params["sid"])
    status, url, twiml = form.one("Status"), form.one("Url"), form.one("Twiml")
    if status not in ("", "completed", "canceled"):
        raise Refused(400, 20001, f"Status {status!r} is neither 'completed' nor 'canceled'")
    if not (status or url or twiml):
        raise Refused(400, 21218, "One of Status, Url and Twiml is required")
    _check_twiml("" if url else twiml)
    answered = line.state["shown"]["status"] == "in-progress"
    if not (status == "canceled" and answered):
        order = {"method": form.one("Method", "POST"), "fallback_url": form.one("FallbackUrl")}
        await line.order("update", order | {"status": status, "url": url, "twiml": twiml})
    return JSONResponse(line.state["shown"])


def _check_twiml(twiml: str) -> None:
    try:
        if twiml:
            check_inline(twiml)
    except TwimlError as problem:
        raise Refused(400, problem.code, problem.text) from None


# Recordings


def _recording_wishes(form: Form, source: str = "StartCallRecordingAPI") -> Json:
    events = form.get("RecordingStatusCallbackEvent", ["completed"])
    return {
        "channels": 2 if form.one("RecordingChannels") == "dual" else 1,
        "track": form.one("RecordingTrack", "both"),
        "source": source,
        "callback": form.one("RecordingStatusCallback"),
        "events": [event for given in events for event in given.split()],
    }


async def create_recording(exchange: Exchange, request: Request, form: Form) -> Response:
    """Recordings of a call: create."""
    line = exchange.line(request.path_params["sid"])
    resource = await line.order("start_recording", _recording_wishes(form))
    exchange.recordings[resource["sid"]] = (resource, b"")
    return JSONResponse(resource, 201)


async def update_recording(exchange: Exchange, request: Request, form: Form) -> Response:
    """Recordings of a call: pause, resume, stop; `Twilio.CURRENT` is the latest."""
    line = exchange.line(request.path_params["sid"])
    order = {
        "sid": request.path_params["recording"],
        "status": form.one("Status"),
        "pause_behavior": form.one("PauseBehavior", "silence"),
    }
    resource = await line.order("change_recording", order)
    exchange.recordings[resource["sid"]] = (resource, b"")
    return JSONResponse(resource)


async def list_recordings(exchange: Exchange, request: Request, form: Form) -> Response:
    """Recordings of the account or of one call: list."""
    call = request.path_params.get("sid") or request.query_params.get("CallSid")
    found = [resource for resource, _ in exchange.recordings.values() if call in (None, resource["call_sid"])]
    return page(request, "recordings", found)


def _recording(exchange: Exchange, request: Request) -> tuple[Json, bytes]:
    sid = request.path_params["recording"].removesuffix(".wav")
    if sid not in exchange.recordings:
        raise Refused(404, 20404, f"The requested resource /Recordings/{sid}.json was not found")
    return exchange.recordings[sid]


async def fetch_recording(exchange: Exchange, request: Request, form: Form) -> Response:
    """Recordings: fetch."""
    return JSONResponse(_recording(exchange, request)[0])


async def delete_recording(exchange: Exchange, request: Request, form: Form) -> Response:
    """Recordings: delete."""
    resource, _ = _recording(exchange, request)
    del exchange.recordings[resource["sid"]]
    return Response(status_code=204)


async def recording_media(exchange: Exchange, request: Request, form: Form) -> Response:
    """Recordings: the audio, as WAV; a dual one is mixed unless `RequestedChannels=2`."""
    resource, audio = _recording(exchange, request)
    if resource["status"] in ("in-progress", "paused"):
        raise Refused(404, 20404, f"Recording {resource['sid']} is not ready")
    if not audio:
        result = await exchange.line(resource["call_sid"]).order("recording_wav", {"sid": resource["sid"]})
        audio = base64.b64decode(result["wav"])
    if request.query_params.get("RequestedChannels") == "1":
        audio = _mono(audio)
    return Response(audio, media_type="audio/x-wav")


def _mono(audio: bytes) -> bytes:
    import numpy as np

    with wave.open(io.BytesIO(audio)) as reader:
        samples = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2")
        mixed = samples.reshape(-1, reader.getnchannels()).sum(axis=1, dtype=np.int32)
        rate = reader.getframerate()
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(np.clip(mixed, -32768, 32767).astype("<i2").tobytes())
    return file.getvalue()


# Telephone numbers and messages


async def list_numbers(exchange: Exchange, request: Request, form: Form) -> Response:
    """IncomingPhoneNumbers: list; filter PhoneNumber."""
    wanted = request.query_params.get("PhoneNumber", "")
    found = [each for each in exchange.numbers if wanted in each["phone_number"]]
    return page(request, "incoming_phone_numbers", found)


def _of(resources: list[Json], sid: str, path: str) -> Json:
    for resource in resources:
        if resource["sid"] == sid:
            return resource
    raise Refused(404, 20404, f"The requested resource /{path}/{sid}.json was not found")


async def fetch_number(exchange: Exchange, request: Request, form: Form) -> Response:
    """IncomingPhoneNumbers: fetch."""
    return JSONResponse(_of(exchange.numbers, request.path_params["sid"], "IncomingPhoneNumbers"))


async def update_number(exchange: Exchange, request: Request, form: Form) -> Response:
    """IncomingPhoneNumbers: update. A URL that is none is refused with 21402."""
    number = _of(exchange.numbers, request.path_params["sid"], "IncomingPhoneNumbers")
    fields = {
        "VoiceUrl": "voice_url",
        "VoiceMethod": "voice_method",
        "VoiceFallbackUrl": "voice_fallback_url",
        "VoiceFallbackMethod": "voice_fallback_method",
        "StatusCallback": "status_callback",
        "StatusCallbackMethod": "status_callback_method",
        "FriendlyName": "friendly_name",
    }
    for name in form:
        value = form.one(name)
        if name.endswith(("Url", "StatusCallback")) and value and not value.startswith(("http://", "https://")):
            raise Refused(400, 21402, f"{name} is not a valid URL: {value}")
        if name in fields:
            number[fields[name]] = value
    number["date_updated"] = moment()
    return JSONResponse(number)


async def create_message(exchange: Exchange, request: Request, form: Form) -> Response:
    """Messages: create. Nothing is sent; the callback says `sent`, then `delivered`."""
    if not form.one("From") and not form.one("MessagingServiceSid"):
        raise Refused(400, 21603, "A 'From' phone number is required.")
    if not form.one("Body"):
        raise Refused(400, 21602, "Message body is required.")
    sid = new_sid("SM")
    message: Json = {
        "account_sid": exchange.account_sid,
        "api_version": "2010-04-01",
        "body": form.one("Body"),
        "date_created": moment(),
        "date_sent": None,
        "date_updated": moment(),
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": form.one("From") or None,
        "messaging_service_sid": form.one("MessagingServiceSid") or None,
        "num_media": "0",
        "num_segments": "1",
        "price": None,
        "price_unit": "USD",
        "sid": sid,
        "status": "queued",
        "subresource_uris": {},
        "to": form.number("To"),
        "uri": f"/2010-04-01/Accounts/{exchange.account_sid}/Messages/{sid}.json",
    }
    exchange.messages.append(message)
    exchange.later(_deliver(exchange, message, form.one("StatusCallback")))
    return JSONResponse(dict(message), 201)


async def _deliver(exchange: Exchange, message: Json, callback: str) -> None:
    assert exchange.phone is not None
    async with contextlib.aclosing(exchange.phone.webhooks(callback)) as webhooks:
        for status in ("sent", "delivered"):
            message["status"] = status
            fields = {"MessageSid": message["sid"], "SmsSid": message["sid"], "MessageStatus": status}
            fields |= {"AccountSid": exchange.account_sid, "From": message["from"] or "", "To": message["to"]}
            if callback:
                await webhooks.request(callback, fields | {"ApiVersion": "2010-04-01", "SmsStatus": status})


async def list_messages(exchange: Exchange, request: Request, form: Form) -> Response:
    """Messages: list, newest first; filter To."""
    to = request.query_params.get("To")
    return page(request, "messages", [each for each in reversed(exchange.messages) if to in (None, each["to"])])


async def fetch_message(exchange: Exchange, request: Request, form: Form) -> Response:
    """Messages: fetch."""
    return JSONResponse(_of(exchange.messages, request.path_params["sid"], "Messages"))


# What is known of a call afterwards


async def notifications(exchange: Exchange, request: Request, form: Form) -> Response:
    """Notifications of a call: what Twilio's debugger would show."""
    sid = request.path_params["sid"]
    shown = [
        {
            "account_sid": exchange.account_sid,
            "api_version": "2010-04-01",
            "call_sid": sid,
            "date_created": moment(),
            "date_updated": moment(),
            "error_code": str(each["code"]),
            "log": "0",
            "message_date": moment(),
            "message_text": each["text"],
            "more_info": f"https://www.twilio.com/docs/errors/{each['code']}",
            "request_method": "POST",
            "request_url": "",
            "sid": new_sid("NO"),
            "uri": f"/2010-04-01/Accounts/{exchange.account_sid}/Calls/{sid}/Notifications.json",
        }
        for each in exchange.line(sid).state["errors"]
    ]
    return page(request, "notifications", shown)


async def summary(exchange: Exchange, request: Request, form: Form) -> Response:
    """Insights: the summary of a call that is over."""
    shown = exchange.line(request.path_params["sid"]).state["shown"]
    if shown["status"] not in FINAL:
        raise Refused(404, 20404, "The call summary is not ready")
    times = {
        name: parsedate_to_datetime(shown[key]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if shown[key] else None
        for name, key in (("created_time", "date_created"), ("start_time", "start_time"), ("end_time", "end_time"))
    }
    connected = int(shown["duration"] or 0)
    whole = parsedate_to_datetime(shown["end_time"]) - parsedate_to_datetime(shown["date_created"])
    facts: dict[str, Any] = {
        "account_sid": exchange.account_sid,
        "answered_by": shown["answered_by"],
        "call_sid": shown["sid"],
        "call_state": {"no-answer": "noanswer", "failed": "fail"}.get(shown["status"], shown["status"]),
        "call_type": "carrier",
        "connect_duration": connected,
        "duration": max(int(whole.total_seconds()), connected),
        "from": {"caller": shown["from"]},
        "processing_state": "complete",
        "to": {"callee": shown["to"]},
        "url": str(request.url),
        "properties": {"direction": shown["direction"], "queried": datetime.now(UTC).isoformat()},
    }
    return JSONResponse(facts | times)


def _routes() -> dict[str, dict[str, Handler]]:
    from sandbox.twilio import conferences

    call, recording = "/Calls/{sid:str}", "/Recordings/{recording:str}"
    return {
        ".json": {"GET": account},
        "/Calls.json": {"GET": list_calls, "POST": create_call},
        f"{call}/Recordings.json": {"GET": list_recordings, "POST": create_recording},
        f"{call}{recording}.json": {
            "GET": fetch_recording,
            "POST": update_recording,
            "DELETE": delete_recording,
        },
        f"{call}/Notifications.json": {"GET": notifications},
        f"{call}/Payments.json": {"POST": conferences.create_payment},
        f"{call}/Payments/{{payment:str}}.json": {"POST": conferences.update_payment},
        f"{call}.json": {"GET": fetch_call, "POST": update_call},
        "/Recordings.json": {"GET": list_recordings},
        f"{recording}.json": {"GET": fetch_recording, "DELETE": delete_recording},
        recording: {"GET": recording_media},
        "/IncomingPhoneNumbers.json": {"GET": list_numbers},
        "/IncomingPhoneNumbers/{sid:str}.json": {"GET": fetch_number, "POST": update_number},
        "/Messages.json": {"GET": list_messages, "POST": create_message},
        "/Messages/{sid:str}.json": {"GET": fetch_message},
        "/v1/Voice/{sid:str}/Summary": {"GET": summary},
        **conferences.ROUTES,
    }


ROUTES = _routes()
