"""How REST reaches a live call: what it may order, and the WebSocket by which a phone in another process is reached.

The socket is the sandbox's own, not Twilio's: `/sandbox/lines/{CallSid}`, JSON messages. The phone sends `call` (a
snapshot) whenever something changed, `recording` with its audio once the call is over, and `conference` to learn a sid.
The exchange sends orders (`id`, `order`, `with`); the phone answers each with `id` and `result` or `refused`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect

from sandbox.twilio.call import FINAL, CallOver, LiveCall

Json = dict[str, Any]


class Refused(Exception):
    """REST says no: HTTP `status`, Twilio's error `code`, and its words."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.status = status
        self.code = code
        self.text = text


def snapshot(call: LiveCall) -> Json:
    """A call as `Calls/{sid}.json` shows it, and what the exchange has to know beside that."""
    path = f"/2010-04-01/Accounts/{call.phone.account_sid}/Calls/{call.sid}"
    moments = {
        name: format_datetime(moment) if moment else None
        for name, moment in (("date_created", call.created), ("start_time", call.started), ("end_time", call.ended))
    }
    shown = {
        "account_sid": call.phone.account_sid,
        "answered_by": call.answered_by or None,
        "api_version": "2010-04-01",
        "caller_name": None,
        "date_updated": moments["end_time"] or moments["start_time"] or moments["date_created"],
        "direction": call.direction,
        "duration": str(call.record.duration_seconds) if call.status in FINAL else None,
        "forwarded_from": None,
        "from": call.from_,
        "from_formatted": call.from_,
        "group_sid": None,
        "parent_call_sid": None,
        "phone_number_sid": None,
        "price": None,
        "price_unit": "USD",
        "queue_time": "0",
        "sid": call.sid,
        "status": "queued" if call.status == "initiated" else call.status,
        "subresource_uris": {"recordings": f"{path}/Recordings.json"},
        "to": call.to,
        "to_formatted": call.to,
        "trunk_sid": None,
        "uri": f"{path}.json",
    }
    conference = call.conference
    return {
        "shown": shown | moments,
        "recordings": [recording.resource() for recording in call.recordings.values()],
        "errors": [{"code": notice.code, "text": notice.text} for notice in call.record.errors],
        "conference": {
            "sid": conference.sid,
            "name": conference.name,
            "label": conference.label,
            "muted": conference.muted,
            "hold": conference.hold,
            "starts": conference.starts,
            "ends_on_exit": conference.ends_on_exit,
        }
        if conference
        else None,
    }


def obey(call: LiveCall, order: str, given: Mapping[str, Any]) -> Json:
    """Do what REST orders a live call to do. Raises Refused."""
    try:
        return _ORDERS[order](call, given)
    except CallOver as over:
        raise Refused(400, 21220, f"Invalid call state. {over}") from None
    except KeyError as missing:
        raise Refused(404, 20404, f"The requested resource {missing} was not found") from None
    except ValueError as problem:
        raise Refused(400, 20001, str(problem)) from None


def _update(call: LiveCall, given: Mapping[str, Any]) -> Json:
    call.update(**given)
    return {}


def _start_recording(call: LiveCall, given: Mapping[str, Any]) -> Json:
    if not call.record.answered or call.status in FINAL:
        raise CallOver("Requested resource is not eligible for recording")
    events = tuple(given["events"])
    return call.start_recording(**{**given, "events": events}).resource()


def _change_recording(call: LiveCall, given: Mapping[str, Any]) -> Json:
    if given["status"] == "absent":
        raise ValueError("a recording cannot be set to 'absent'")
    return call.change_recording(given["sid"], given["status"], pause_behavior=given["pause_behavior"]).resource()


def _recording_wav(call: LiveCall, given: Mapping[str, Any]) -> Json:
    return {"wav": base64.b64encode(call.recording_wav(given["sid"])).decode()}


def _confer(call: LiveCall, given: Mapping[str, Any]) -> Json:
    if call.conference is None:
        raise KeyError("conference")
    if given.get("over"):
        call.conference.over.set()
    if given.get("says"):
        call.conference.talk.put_nowait(given["says"])
    call.conference.muted = given.get("muted", call.conference.muted)
    call.conference.hold = given.get("hold", call.conference.hold)
    return {}


_ORDERS: dict[str, Callable[[LiveCall, Mapping[str, Any]], Json]] = {
    "update": _update,
    "start_recording": _start_recording,
    "change_recording": _change_recording,
    "recording_wav": _recording_wav,
    "confer": _confer,
}


class OnLine(Protocol):
    """A call as the exchange sees it, wherever it runs."""

    state: Json

    async def order(self, order: str, given: Mapping[str, Any]) -> Json:
        """Have the call do something. Raises Refused."""


@dataclass
class LocalLine:
    """A call in the exchange's own process."""

    call: LiveCall

    @property
    def state(self) -> Json:
        """See `snapshot`."""
        return snapshot(self.call)

    @state.setter
    def state(self, value: Json) -> None:
        raise AttributeError("a local line's state is that of its call")

    async def order(self, order: str, given: Mapping[str, Any]) -> Json:
        """See `OnLine.order`."""
        result = obey(self.call, order, given)
        await asyncio.sleep(0)  # the call acts on it before REST answers
        return result


class RemoteExchange:
    """The exchange in another process, as the registry of a `Phone`.

    `url` is the exchange's REST address. Raises OSError or a `websockets` exception if it cannot be reached.
    """

    def __init__(self, url: str, account_sid: str, auth_token: str) -> None:
        parts = urlsplit(url)
        self._base = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}/sandbox/lines/"
        secret = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self._headers = {"Authorization": f"Basic {secret}"}
        self._sockets: dict[str, ClientConnection] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._sids: asyncio.Queue[str] = asyncio.Queue()

    async def _connect(self, sid: str) -> ClientConnection:
        return await connect(
            self._base + sid, additional_headers=self._headers, proxy=None, max_size=2**28, compression=None
        )

    async def check(self) -> None:
        """Raises OSError or a `websockets` exception if the exchange cannot be used."""
        await (await self._connect("check")).close()

    async def add_line(self, call: LiveCall) -> None:
        """See `sandbox.twilio.call.Registry`."""
        socket = await self._connect(call.sid)
        self._sockets[call.sid] = socket
        self._readers[call.sid] = asyncio.create_task(self._obey(call, socket))
        await self.line_changed(call)

    async def line_changed(self, call: LiveCall) -> None:
        """See `sandbox.twilio.call.Registry`."""
        socket = self._sockets[call.sid]
        with contextlib.suppress(websockets.ConnectionClosed):  # the exchange is gone; the call goes on
            await socket.send(json.dumps({"call": snapshot(call)}))
            if call.status in FINAL:
                for sid in call.recordings:
                    await socket.send(json.dumps({"recording": sid} | _recording_wav(call, {"sid": sid})))
        if call.status in FINAL:
            self._readers.pop(call.sid).cancel()
            await self._sockets.pop(call.sid).close()

    async def conference_sid(self, name: str) -> str:
        """See `sandbox.twilio.call.Registry`."""
        socket = next(iter(self._sockets.values()))
        await socket.send(json.dumps({"conference": name}))
        return await self._sids.get()

    async def _obey(self, call: LiveCall, socket: ClientConnection) -> None:
        async for message in socket:
            order = json.loads(message)
            if "conference_sid" in order:
                self._sids.put_nowait(order["conference_sid"])
                continue
            try:
                answer: Json = {"id": order["id"], "result": obey(call, order["order"], order["with"])}
            except Refused as no:
                answer = {"id": order["id"], "refused": [no.status, no.code, no.text]}
            await self.line_changed(call)
            await socket.send(json.dumps(answer))
