"""The JSON API: calls, and their recordings."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response, Security
from fastapi.security import APIKeyCookie
from pydantic import AwareDatetime, BaseModel

from console.access import Access
from console.library import CONTENT_TYPES, Library, Shelf, find_recording
from console.recordings import Hearings, recording_response
from records.search import CallFilter, Hit, ListedCall, Page
from records.store import CallPage

COOKIE = "switchboard_session"
Answer = TypeVar("Answer")
_CALL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_Text = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
_Moment = Annotated[
    AwareDatetime | None, Query(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC))
]
_Number = Annotated[float | None, Query(allow_inf_nan=False)]
_After = Annotated[str, Query(pattern=r"^[0-9]{0,18}$", description="`next` of the page before.")]
_Limit = Annotated[int, Query(ge=1, le=200, description="Calls on a page.")]


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str


def is_call_id(text: str) -> bool:
    """Whether this can be a call's id."""
    return bool(_CALL_ID.fullmatch(text))


def filter_of(
    began_from: _Moment = None,
    began_until: _Moment = None,
    number: Annotated[_Text, Query(description="The caller's, or how it begins.")] = "",
    flow: _Text = "",
    disposition: _Text = "",
    tool: Annotated[_Text, Query(description="A function that was called.")] = "",
    flag: Annotated[_Text, Query(description="A kind of flag.")] = "",
    duration_ms_from: _Number = None,
    duration_ms_to: _Number = None,
    latency_ms_from: _Number = None,
    latency_ms_to: _Number = None,
    cost_usd_from: _Number = None,
    cost_usd_to: _Number = None,
    score_from: _Number = None,
    score_to: _Number = None,
) -> CallFilter:
    """Which calls (docs/store.md); what is not given does not matter."""
    return CallFilter(
        (began_from, began_until),
        number,
        flow,
        disposition,
        tool,
        flag,
        (duration_ms_from, duration_ms_to),
        (latency_ms_from, latency_ms_to),
        (cost_usd_from, cost_usd_to),
        (score_from, score_to),
    )


_Which = Annotated[CallFilter, Depends(filter_of)]


def api_router(access: Access, library: Library, hearings: Hearings) -> APIRouter:
    """The routes under ``/api``: each needs the cookie of a session and answers 401 without one."""
    cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="Set by the login at /console/login.")

    async def signed_in(request: Request, value: str | None = Security(cookie)) -> None:
        request.state.session = access.session(value)
        if request.state.session is None:
            headers = {"WWW-Authenticate": 'Session realm="/console/login"', "Cache-Control": "no-store"}
            raise HTTPException(401, "Log in at /console/login.", headers)

    async def wanted(call_id: str, name: str = "") -> str:
        if not is_call_id(call_id) or (name and name not in CONTENT_TYPES):
            raise _unknown()
        return call_id

    router = APIRouter(
        prefix="/api",
        tags=["calls"],
        dependencies=[Depends(signed_in)],
        responses={401: {"model": Problem}, 503: {"model": Problem}},
    )

    @router.get("/calls", responses={200: {"model": Page[ListedCall]}})
    async def calls(which: _Which, after: _After = "", limit: _Limit = 50) -> Response:
        """Calls, newest first."""
        return await _json(library, lambda shelf: shelf.store.calls(which, after, limit))

    @router.get("/search", responses={200: {"model": Page[Hit]}})
    async def search(q: _Text, which: _Which, after: _After = "", limit: _Limit = 20) -> Response:
        """Calls in which all words of `q` were said, newest first, each with an excerpt."""
        return await _json(library, lambda shelf: shelf.store.search(q, which, after, limit))

    @router.get("/calls/{call_id}", responses={200: {"model": CallPage}, 404: {"model": Problem}})
    async def call(call_id: str = Depends(wanted)) -> Response:
        """The record of a call, with its scores and the names of its recordings."""
        return await _json(library, lambda shelf: shelf.store.page(call_id))

    async def recording(request: Request, name: str, call_id: str = Depends(wanted)) -> Response:
        """`stereo.ogg`, `stereo.flac`, `peaks.json` or `tape.mcap` of a call, in ranges (RFC 9110).

        Where recordings lie in a bucket, a redirect to an address that works for five minutes.
        """
        found = await library.ask(lambda shelf: find_recording(shelf, call_id, name))
        if found is None:
            raise _unknown()
        return await recording_response(found, request.method, call_id, name, hearings, request.state.session)

    for method in ("GET", "HEAD"):
        router.add_api_route(
            "/calls/{call_id}/recordings/{name}",
            recording,
            methods=[method],
            operation_id=f"{method.lower()}_recording",
            response_class=Response,
            responses=_RECORDING,
        )
    return router


_BYTES: dict[str, Any] = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in CONTENT_TYPES.values()}
_RECORDING: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole recording.", "content": _BYTES},
    206: {"description": "The range that was asked for.", "content": _BYTES},
    307: {"description": "It lies in a bucket, at the address in `Location`."},
    404: {"model": Problem, "description": "Never recorded, expired or erased."},
    416: {"description": "The range is not inside the recording."},
}


async def _json(library: Library, question: Callable[[Shelf], Answer]) -> Response:
    """The answer to a question, encoded where it was found; 404 where there is none."""

    def encoded(shelf: Shelf) -> bytes | None:
        answer = question(shelf)
        return None if answer is None else orjson.dumps(answer)

    body = await library.ask(encoded)
    if body is None:
        raise _unknown()
    return Response(body, media_type="application/json", headers={"Cache-Control": "private, no-store"})


def _unknown() -> HTTPException:
    return HTTPException(404, "There is no such call or recording.")
