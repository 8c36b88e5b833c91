"""Recordings over HTTP: a folder's files in ranges, a bucket's by an address; and who heard what, in the audit log."""

from __future__ import annotations

import asyncio

from fastapi import Response
from starlette.responses import FileResponse, RedirectResponse
from starlette.types import Message, Receive, Scope, Send

from bot.ports import Clock
from console.access import Session
from console.library import CONTENT_TYPES, Found, Library

HEARING_SECONDS = 3600.0
"""Requests of one login for one recording are the same hearing until none has come for so long."""
HEARINGS_KEPT = 10_000
DEEDS = {"stereo.ogg": "listened", "stereo.flac": "listened", "tape.mcap": "downloaded the tape"}
"""What the audit log says of who was sent it."""


class Hearings:
    """Writes each hearing into the audit log once, before its first byte is sent.

    A player asks for a recording range by range; what it asks for again, in the same login, is no further hearing.
    """

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        self._last: dict[tuple[str, str, str], float] = {}
        self._one_by_one = asyncio.Lock()

    async def note(self, session: Session, call_id: str, name: str) -> None:
        """Somebody is about to be sent bytes of it. Raises `RecordsAway` where that cannot be written down."""
        if name not in DEEDS:
            return
        hearing = (session.id, call_id, name)
        async with self._one_by_one:
            now = self._clock.now_ns() / 1e9
            last = self._last.get(hearing)
            if last is None or now - last >= HEARING_SECONDS:
                detail = {"name": name, "session": session.id}
                await self._library.audit(session.who, DEEDS[name], call_id, detail)
            # The newest stand last: what is dropped here, at worst, is written down a second time.
            self._last.pop(hearing, None)
            self._last[hearing] = now
            while len(self._last) > HEARINGS_KEPT:
                del self._last[next(iter(self._last))]


class _File(FileResponse):
    """A file, or the ranges of it that are asked for (RFC 9110, section 14), read piece by piece in threads."""

    def __init__(self, found: Found, call_id: str, name: str, hearings: Hearings, session: Session) -> None:
        assert found.file
        path, status = found.file
        super().__init__(
            path,
            headers={"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"},
            media_type=CONTENT_TYPES[name],
            filename=f"{call_id}.{name}",
            stat_result=status,
            content_disposition_type="attachment" if name == "tape.mcap" else "inline",
        )
        self._hearings, self._hearing = hearings, (session, call_id, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 206) and is_get:
                await self._hearings.note(*self._hearing)
            await send(message)

        is_get = scope["method"] == "GET"
        await super().__call__(scope, receive, send_noted)


async def recording_response(
    found: Found, method: str, call_id: str, name: str, hearings: Hearings, session: Session
) -> Response:
    """The answer to ``GET`` or ``HEAD`` of a recording that was found. Raises `RecordsAway`."""
    if not found.url:
        return _File(found, call_id, name, hearings, session)
    headers = {"Cache-Control": "private, no-store", "Accept-Ranges": "bytes"}
    if method == "HEAD":  # the address is signed for GET
        headers |= {"Content-Length": str(found.size)}
        return Response(headers=headers, media_type=CONTENT_TYPES[name])
    await hearings.note(session, call_id, name)
    return RedirectResponse(found.url, 307, headers)
