"""Conferences, their participants and payments, as resources of the stand-in exchange.

A caller is in a conference because its TwiML said so. A participant made through REST is the `Callee` of that number:
after they answer, the callers hear what they say, and they leave after `talks_ms`.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.twilio.exchange import Exchange, Form, Handler, moment, page
from sandbox.twilio.lines import Json, Refused
from sandbox.twilio.parties import Callee
from sandbox.twilio.record import new_sid


def _find(exchange: Exchange, request: Request) -> Json:
    """By sid, or by name as `Conferences/{name}/Participants` allows. Raises Refused 20404."""
    wanted = request.path_params["conference"]
    for conference in exchange.conferences.values():
        named = conference["friendly_name"] == wanted and conference["status"] != "completed"
        if conference["sid"] == wanted or named:
            return conference
    raise Refused(404, 20404, f"The requested resource /Conferences/{wanted}.json was not found")


def _shown(conference: Json) -> Json:
    return {name: value for name, value in conference.items() if name != "participants"}


async def list_conferences(exchange: Exchange, request: Request, form: Form) -> Response:
    """Conferences: list; filters FriendlyName, Status."""
    query = request.query_params
    found = [
        _shown(each)
        for each in exchange.conferences.values()
        if query.get("FriendlyName") in (None, each["friendly_name"]) and query.get("Status") in (None, each["status"])
    ]
    return page(request, "conferences", found)


async def fetch_conference(exchange: Exchange, request: Request, form: Form) -> Response:
    """Conferences: fetch."""
    return JSONResponse(_shown(_find(exchange, request)))


async def update_conference(exchange: Exchange, request: Request, form: Form) -> Response:
    """Conferences: end it with `Status=completed`."""
    conference = _find(exchange, request)
    if form.one("Status") == "completed":
        await _end(exchange, conference)
    return JSONResponse(_shown(conference))


async def _end(exchange: Exchange, conference: Json) -> None:
    conference["status"] = "completed"
    for sid in list(conference["participants"]):
        await _order(exchange, sid, {"over": True})
    conference["participants"].clear()


async def _order(exchange: Exchange, sid: str, given: Json) -> None:
    if sid in exchange.lines:
        await exchange.lines[sid].order("confer", given)


def _participant(exchange: Exchange, conference: Json, sid: str) -> Json:
    state = conference["participants"][sid]
    path = f"/2010-04-01/Accounts/{exchange.account_sid}/Conferences/{conference['sid']}/Participants/{sid}"
    return {
        "account_sid": exchange.account_sid,
        "call_sid": sid,
        "call_sid_to_coach": state.get("call_sid_to_coach"),
        "coaching": bool(state.get("call_sid_to_coach")),
        "conference_sid": conference["sid"],
        "date_created": moment(),
        "date_updated": moment(),
        "end_conference_on_exit": state["ends_on_exit"],
        "hold": state["hold"],
        "label": state["label"] or None,
        "muted": state["muted"],
        "queue_time": "0",
        "start_conference_on_enter": state["starts"],
        "status": state.get("status", "connected"),
        "uri": f"{path}.json",
    }


async def list_participants(exchange: Exchange, request: Request, form: Form) -> Response:
    """Participants: list."""
    conference = _find(exchange, request)
    shown = [_participant(exchange, conference, sid) for sid in conference["participants"]]
    return page(request, "participants", shown)


async def create_participant(exchange: Exchange, request: Request, form: Form) -> Response:
    """Participants: call somebody into a conference, which begins if it is not running."""
    form.number("From")
    to = form.number("To")
    assert exchange.phone is not None
    callee = exchange.phone.callees.get(to) or exchange.phone.callees.get("", Callee())
    wanted = request.path_params["conference"]
    conference = exchange.conferences.get(wanted) or exchange.conference(wanted)
    sid = new_sid("CA")
    conference["participants"][sid] = {
        "label": form.one("Label"),
        "muted": form.one("Muted") == "true",
        "hold": False,
        "starts": form.one("StartConferenceOnEnter", "true") == "true",
        "ends_on_exit": form.one("EndConferenceOnExit") == "true",
        "call_sid_to_coach": form.one("CallSidToCoach") or None,
        "status": "queued",
    }
    exchange.later(_take_part(exchange, conference, sid, callee, form.one("StatusCallback")))
    return JSONResponse(_participant(exchange, conference, sid), 201)


async def _take_part(exchange: Exchange, conference: Json, sid: str, callee: Callee, callback: str) -> None:
    """What a person called into a conference does there."""
    assert exchange.phone is not None
    state, pace = conference["participants"][sid], exchange.phone.pace
    state["status"] = "ringing"
    await pace.sleep(callee.rings_ms / 1000)
    status = callee.outcome
    if callee.outcome == "completed":
        state["status"] = "connected"
        await _tell(exchange, conference, sid, callback, "in-progress")
        for other in list(conference["participants"]):
            if other != sid and callee.says and not state["muted"]:
                await _order(exchange, other, {"says": callee.says})
        await pace.sleep(callee.talks_ms / 1000)
    if conference["participants"].pop(sid, None) and (state["ends_on_exit"] or not conference["participants"]):
        await _end(exchange, conference)
    await _tell(exchange, conference, sid, callback, status)


async def _tell(exchange: Exchange, conference: Json, sid: str, callback: str, status: str) -> None:
    if not callback:
        return
    assert exchange.phone is not None
    fields = {"AccountSid": exchange.account_sid, "CallSid": sid, "CallStatus": status}
    async with contextlib.aclosing(exchange.phone.webhooks(callback)) as webhooks:
        await webhooks.request(callback, fields | {"ConferenceSid": conference["sid"], "Timestamp": moment()})


def _participant_sid(conference: Json, request: Request) -> str:
    """A participant by call sid or label. Raises Refused 20404."""
    wanted = request.path_params["participant"]
    for sid, state in conference["participants"].items():
        if wanted in (sid, state["label"]):
            return str(sid)
    raise Refused(404, 20404, f"The requested resource /Participants/{wanted}.json was not found")


async def fetch_participant(exchange: Exchange, request: Request, form: Form) -> Response:
    """Participants: fetch, by call sid or label."""
    conference = _find(exchange, request)
    return JSONResponse(_participant(exchange, conference, _participant_sid(conference, request)))


async def update_participant(exchange: Exchange, request: Request, form: Form) -> Response:
    """Participants: mute, hold, coach, end the conference when they leave; `AnnounceUrl` is not fetched."""
    conference = _find(exchange, request)
    sid = _participant_sid(conference, request)
    state = conference["participants"][sid]
    switches = {"Muted": "muted", "Hold": "hold", "EndConferenceOnExit": "ends_on_exit"}
    changes = {key: form.one(name) == "true" for name, key in switches.items() if name in form}
    await _order(exchange, sid, changes)
    state = conference["participants"][sid] = state | changes
    if "CallSidToCoach" in form:
        state["call_sid_to_coach"] = form.one("CallSidToCoach") or None
    return JSONResponse(_participant(exchange, conference, sid))


async def remove_participant(exchange: Exchange, request: Request, form: Form) -> Response:
    """Participants: take somebody out."""
    conference = _find(exchange, request)
    sid = _participant_sid(conference, request)
    await _order(exchange, sid, {"over": True})
    await asyncio.sleep(0)
    conference["participants"].pop(sid, None)
    return Response(status_code=204)


async def create_payment(exchange: Exchange, request: Request, form: Form) -> Response:
    """Payments of a call: create; the same IdempotencyKey gives the same payment."""
    if not form.one("IdempotencyKey"):
        raise Refused(400, 20001, "IdempotencyKey is required")
    call_sid = request.path_params["sid"]
    exchange.line(call_sid)
    sid = exchange.payments.setdefault((call_sid, form.one("IdempotencyKey")), new_sid("PK"))
    return JSONResponse(_payment(exchange, call_sid, sid), 201)


async def update_payment(exchange: Exchange, request: Request, form: Form) -> Response:
    """Payments of a call: update."""
    call_sid, sid = request.path_params["sid"], request.path_params["payment"]
    if sid not in exchange.payments.values():
        raise Refused(404, 20404, f"The requested resource /Payments/{sid}.json was not found")
    return JSONResponse(_payment(exchange, call_sid, sid))


def _payment(exchange: Exchange, call_sid: str, sid: str) -> Json:
    path = f"/2010-04-01/Accounts/{exchange.account_sid}/Calls/{call_sid}/Payments/{sid}.json"
    dates = {"date_created": moment(), "date_updated": moment()}
    return {"account_sid": exchange.account_sid, "call_sid": call_sid, "sid": sid, "uri": path} | dates


_ONE = "/Conferences/{conference:str}"
ROUTES: dict[str, dict[str, Handler]] = {
    "/Conferences.json": {"GET": list_conferences},
    f"{_ONE}/Participants.json": {"GET": list_participants, "POST": create_participant},
    f"{_ONE}/Participants/{{participant:str}}.json": {
        "GET": fetch_participant,
        "POST": update_participant,
        "DELETE": remove_participant,
    },
    f"{_ONE}.json": {"GET": fetch_conference, "POST": update_conference},
}
