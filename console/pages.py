"""The pages, made on the server: the login, and a call with its recording and its words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from loguru import logger
from starlette.requests import ClientDisconnect

from bot.metrics import Metrics
from bot.settings import Settings
from console.access import SESSION_SECONDS, Access, Login, Session
from console.api import COOKIE, is_call_id
from console.library import Library, RecordsAway, Shelf

LARGEST_FORM = 4096
"""Bytes of a login form."""
_HERE = re.compile(r"/console(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_WORDS = {
    "wrong_password": "This is not the password.",
    "throttled": "Too many wrong passwords came from here. Try again in {seconds} s.",
    "closed": "The console is closed: its password could not be kept. The server's log says why.",
    "foreign_origin": "The form was sent from another site.",
    "records_away": "The records cannot be reached at the moment. Try again in a while.",
}


class Pages:
    """The handlers."""

    def __init__(self, access: Access, library: Library, settings: Settings, metrics: Metrics) -> None:
        self._access = access
        self._library = library
        self._metrics = metrics
        self._public = urlsplit(settings.public_url or "")
        folder = FileSystemLoader(Path(__file__).parent / "templates")
        self._templates = Environment(
            loader=folder,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
            auto_reload=False,
        )
        self._templates.filters.update(clock=_clock, moment=_moment)

    def open(self) -> None:
        """Compile the templates, so that no page holds the event loop for it. Blocks."""
        for name in self._templates.list_templates():
            self._templates.get_template(name)

    def router(self) -> APIRouter:
        """The routes under ``/console``."""
        router = APIRouter(prefix="/console", include_in_schema=False)
        router.add_api_route("/login", self.login, methods=["GET"])
        router.add_api_route("/login", self.log_in, methods=["POST"])
        router.add_api_route("/logout", self.log_out, methods=["POST"])
        router.add_api_route("", self.home, methods=["GET"])
        router.add_api_route("/calls/{call_id}", self.call, methods=["GET"])
        return router

    # -- the login ----------------------------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """The form; somebody who is logged in is led on."""
        following = _within(request.query_params.get("next", ""))
        if self._session(request):
            return RedirectResponse(following, 303)
        return self._login_page(following)

    async def log_in(self, request: Request) -> Response:
        """Take the password, and give a session's cookie for it."""
        if not self._is_ours(request):
            return self._refused("foreign_origin", 403, "/console")
        fields = await _form(request)
        following = _within(fields.get("next", ""))
        client = request.client.host if request.client else ""
        login = self._access.log_in(fields.get("password", ""), client)
        try:
            if login.outcome == "wrong_password":
                await self._library.audit("unknown", "login failed", detail={"client": client})
            if login.session:
                await self._library.audit(
                    login.session.who, "logged in", detail={"session": login.session.id, "client": client}
                )
        except RecordsAway:  # nobody is let in whose deeds cannot be written down
            if login.session:
                return self._refused("records_away", 503, following)
        if login.session is None:
            return self._refused_login(login, following)
        self._metrics.console_logins.labels("logged_in").inc()
        answer = RedirectResponse(following, 303)
        answer.set_cookie(COOKIE, login.cookie, SESSION_SECONDS, **self._cookie())
        return answer

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        if not self._is_ours(request):
            return self._refused("foreign_origin", 403, "/console")
        answer = RedirectResponse("/console/login", 303)
        if session := self._session(request):
            self._access.log_out(session)
            answer.delete_cookie(COOKIE, **self._cookie())
            try:
                await self._library.audit(session.who, "logged out", detail={"session": session.id})
            except RecordsAway:
                logger.warning("A logout could not be written into the audit log")
        return answer

    def _refused_login(self, login: Login, following: str) -> Response:
        status = {"wrong_password": 401, "throttled": 429}.get(login.outcome, 503)
        answer = self._refused(login.outcome, status, following, seconds=ceil(login.wait_seconds))
        if login.wait_seconds:
            answer.headers["Retry-After"] = str(ceil(login.wait_seconds))
        return answer

    def _refused(self, outcome: str, status: int, following: str, **values: object) -> Response:
        self._metrics.console_logins.labels(outcome).inc()
        return self._login_page(following, _WORDS[outcome].format(**values), status)

    def _login_page(self, following: str, problem: str = "", status: int = 200) -> Response:
        return self._page("login.html", {"next": following, "problem": problem}, status)

    def _session(self, request: Request) -> Session | None:
        return self._access.session(request.cookies.get(COOKIE))

    def _cookie(self) -> dict[str, Any]:
        return {"httponly": True, "samesite": "lax", "secure": self._public.scheme == "https"}

    def _is_ours(self, request: Request) -> bool:
        """Whether a form was sent by a page of ours: a browser says from where, and no other site can forge it."""
        origin = request.headers.get("origin", "")
        if self._public.scheme == "https" and origin == f"https://{self._public.netloc}":
            return True
        return bool(origin) and urlsplit(origin).netloc == request.headers.get("host")

    # -- the pages ----------------------------------------------------------------------------------------------------

    async def home(self, request: Request, call: str = "") -> Response:
        """Where a call is asked for by its id."""
        if self._session(request) is None:
            return _to_login(request)
        if is_call_id(call.strip()):
            return RedirectResponse(f"/console/calls/{call.strip()}", 303)
        return self._page("home.html", {"problem": "This is not the id of a call." if call else ""})

    async def call(self, request: Request, call_id: str) -> Response:
        """A call: what it was, its recording, who said what."""
        if self._session(request) is None:
            return _to_login(request)
        try:
            made = await self._library.ask(lambda shelf: self._call_page(shelf, call_id))
        except RecordsAway:
            return self._page("problem.html", {"problem": _WORDS["records_away"]}, 503)
        if made is None:
            return self._page("problem.html", {"problem": "There is no such call."}, 404)
        html, bucket = made
        return HTMLResponse(html, headers=_headers(bucket))

    def _call_page(self, shelf: Shelf, call_id: str) -> tuple[str, str] | None:
        """The page, and where its recording lies if not here. Blocks: it is made where the record was read."""
        page = shelf.store.page(call_id) if is_call_id(call_id) else None
        if page is None:
            return None
        names = {recording.key.partition("/")[2] for recording in page.recordings}
        address = urlsplit(shelf.recordings.url(f"{call_id}/stereo.ogg") or "")
        html = self._html("call.html", {"page": page, "call": page.record, "names": names})
        return html, f"{address.scheme}://{address.netloc}" if address.netloc else ""

    def _page(self, template: str, values: Mapping[str, object], status: int = 200) -> Response:
        return HTMLResponse(self._html(template, values), status, _headers())

    def _html(self, template: str, values: Mapping[str, object]) -> str:
        return self._templates.get_template(template).render(values)


def _headers(bucket: str = "") -> dict[str, str]:
    """For every page: nothing is loaded from elsewhere, but sound from the `bucket` that a recording leads to."""
    policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    return {
        "Content-Security-Policy": f"{policy}; media-src 'self' {bucket}" if bucket else policy,
        "X-Content-Type-Options": "nosniff",
        # By no-referrer a browser would call the origin of our own forms "null".
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _to_login(request: Request) -> Response:
    return RedirectResponse(f"/console/login?next={quote(_within(request.url.path))}", 303)


def _within(path: str) -> str:
    """A page of the console to go on to; its home for anything else, so that nobody is led to another site."""
    return path if _HERE.fullmatch(path) else "/console"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; none of one that is larger, cut off or no form."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_FORM:
                return {}
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10)
    except (ClientDisconnect, ValueError):
        return {}
    return {name: values[-1] for name, values in fields.items()}


def _clock(ms: float) -> str:
    """Minutes and seconds, as players show them."""
    seconds = max(0, int(ms)) // 1000
    return f"{seconds // 60}:{seconds % 60:02}"


def _moment(moment: datetime) -> str:
    return f"{moment:%A, %-d %B %Y, %H:%M} UTC"
