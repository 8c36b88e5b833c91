"""Signed requests as Twilio makes them: voice webhooks with fallback, retries and redirects, and status callbacks.

Sources: Twilio documentation, "Webhooks security", "Webhooks: shared keys", "Voice webhooks", "Connection overrides".
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import json
import ssl
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, urldefrag, urlencode, urljoin, urlsplit, urlunsplit
from xml.sax.saxutils import escape

import httpx

from sandbox.twilio import twiml

Fields = Mapping[str, str | list[str]]
SIGNATURE_HEADER = "X-Twilio-Signature"
SETTINGS_HEADER = "X-Twilio-Webhooks-Signature-Settings"
IDEMPOTENCY_HEADER = "I-Twilio-Idempotency-Token"
_HASHES: dict[str, Any] = {"HMAC_SHA1": hashlib.sha1, "HMAC_SHA256": hashlib.sha256}
_MOST_REDIRECTS = 10


@functools.cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()  # takes 20 ms, so once for all calls


def pairs(fields: Fields) -> list[tuple[str, str]]:
    """Form fields as name and value, a list giving one pair for each of its values."""
    return [
        (name, value) for name, values in fields.items() for value in ([values] if isinstance(values, str) else values)
    ]


def signature(secret: str, url: str, fields: Iterable[tuple[str, str]] = (), algorithm: str = "HMAC_SHA1") -> str:
    """The signature of a request: base64 of the HMAC over the URL and, for forms, every sorted name and value.

    The URL is the public one, exactly as written, with its query and without its fragment. Repeated fields count once
    for each different value, blank ones count with their name.
    """
    text = urldefrag(url).url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), _HASHES[algorithm]).digest()).decode()


def url_for_json(url: str, body: bytes) -> str:
    """The URL that a JSON body is posted to and signed with: it carries the body's SHA-256."""
    return f"{url}{'&' if urlsplit(url).query else '?'}bodySHA256={hashlib.sha256(body).hexdigest()}"


@dataclass(frozen=True)
class Signer:
    """Who signs, and how. `fault` makes wrong signatures on purpose.

    With `shared_key` (its id) `secret` is the shared key's secret, and the newer SHA-256 form is used.
    """

    secret: str
    shared_key: str = ""
    fault: Literal["", "missing", "wrong"] = ""

    def headers(self, url: str, fields: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
        """The headers that prove where a request to the public `url` comes from."""
        if self.fault == "missing":
            return {}
        secret = "not-" + self.secret if self.fault == "wrong" else self.secret
        if not self.shared_key:
            return {SIGNATURE_HEADER: signature(secret, url, fields)}
        settings = f"key={self.shared_key},algorithm=HMAC_SHA256"
        return {SIGNATURE_HEADER: signature(secret, url, fields, "HMAC_SHA256"), SETTINGS_HEADER: settings}


@dataclass(frozen=True)
class Route:
    """The way to a server: requests name its `public` address and connect to its `local` one.

    Both are `scheme://host[:port]`. It plays the TLS proxy in front of the server. Other hosts are reached directly.
    """

    local: str
    public: str

    def public_form(self, url: str) -> str:
        """`url` as it is signed: where it names the local address, with the public one in its place."""
        here = urlsplit(url).netloc == urlsplit(self.local).netloc
        return self.public + url.removeprefix(self.local) if here else url

    def to(self, url: str) -> tuple[str, dict[str, str]]:
        """Where to connect for `url`, and the headers that the proxy would add."""
        parts, public, local = urlsplit(url), urlsplit(self.public), urlsplit(self.local)
        if parts.netloc != public.netloc:
            return urldefrag(url).url, {}
        headers = {"Host": parts.netloc}
        if parts.scheme in ("https", "wss") and local.scheme == "http":
            headers["X-Forwarded-Proto"] = "https"
        web_socket = parts.scheme in ("ws", "wss")
        scheme = {"http": "ws", "https": "wss"}[local.scheme] if web_socket else local.scheme
        return urlunsplit((scheme, local.netloc, parts.path or "/", parts.query, "")), headers


@dataclass
class Sent:
    """One request and what came back. `status` 0: no answer; then `error` tells why."""

    url: str
    method: str
    fields: list[tuple[str, str]]
    headers: dict[str, str]
    status: int = 0
    content_type: str = ""
    location: str = ""
    body: bytes = b""
    error: str = ""
    code: int = 0
    seconds: float = 0.0

    @property
    def form(self) -> dict[str, str]:
        """The fields, the last value of each."""
        return dict(self.fields)


class WebhookFailed(Exception):
    """A webhook, and its fallback if there is one, gave no usable answer. `code` is Twilio's error number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True)
class _Limits:
    connect: float = 5.0
    read: float = 15.0
    total: float = 15.0
    retries: int = 0
    policy: frozenset[str] = frozenset({"ct"})

    @classmethod
    def of(cls, url: str, total: float) -> _Limits:
        """Connection overrides in the URL's fragment: ct, rt, tt in ms, rc a count, rp what is tried again."""
        given = {key: values[-1] for key, values in parse_qs(urlsplit(url).fragment).items()}
        return cls(
            connect=int(given["ct"]) / 1000 if "ct" in given else cls.connect,
            read=int(given["rt"]) / 1000 if "rt" in given else total,
            total=int(given["tt"]) / 1000 if "tt" in given else total,
            retries=int(given.get("rc", 0)),
            policy=frozenset(given.get("rp", "ct").split(",")),
        )

    def again(self, sent: Sent) -> bool:
        kind = f"{sent.status // 100}xx" if sent.status else {11205: "ct"}.get(sent.code, "rt")
        return sent.error != "" and (kind in self.policy or "all" in self.policy)


@dataclass
class Webhooks:
    """Makes the requests of one call; cookies live as long as the call does."""

    signer: Signer
    route: Route
    timeout: float = 15.0
    log: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = httpx.AsyncClient(verify=_trusted(), trust_env=False)
        self._cookies: dict[str, str] = {}

    async def aclose(self) -> None:
        """Drop the connections."""
        # Cancelled half way, httpx would leave sockets open.
        await asyncio.shield(self._client.aclose())

    async def request(self, url: str, fields: Fields, *, method: str = "POST") -> Sent:
        """One signed request, tried again as the URL's fragment says, redirects followed; never raises."""
        limits = _Limits.of(url, self.timeout)
        token = str(uuid.uuid4())
        for _ in range(limits.retries + 1):
            sent = await self._try(urldefrag(url).url, pairs(fields), method.upper(), token, limits)
            self.log.append(sent)
            if not limits.again(sent):
                break
        return sent

    async def post_json(self, url: str, content: Any) -> Sent:
        """A JSON event; its body is covered by the `bodySHA256` in the signed URL."""
        body = json.dumps(content).encode()
        sent = Sent(url_for_json(url, body), "POST", [], {"Content-Type": "application/json"})
        sent.headers |= self.signer.headers(sent.url)
        await self._send(sent, body, _Limits(total=self.timeout))
        self.log.append(sent)
        return sent

    async def _try(self, url: str, fields: list[tuple[str, str]], method: str, token: str, limits: _Limits) -> Sent:
        started = asyncio.get_running_loop().time()
        for _ in range(_MOST_REDIRECTS + 1):
            sent = self._build(url, fields, method, token)
            await self._send(sent, urlencode(fields).encode() if method == "POST" else None, limits)
            sent.seconds = asyncio.get_running_loop().time() - started
            if not (300 <= sent.status < 400 and sent.location):
                return sent
            if sent.status < 307:
                method = "GET"
            url = urljoin(sent.url, sent.location)
        sent.error, sent.code = f"more than {_MOST_REDIRECTS} redirects", 11215
        return sent

    def _build(self, url: str, fields: list[tuple[str, str]], method: str, token: str) -> Sent:
        signed = fields
        if method == "GET" and fields:
            url, signed = f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(fields)}", []
        headers = {IDEMPOTENCY_HEADER: token, "User-Agent": "TwilioProxy/1.1", "Accept": "*/*"}
        headers |= self.signer.headers(url, signed)
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
        return Sent(url, method, fields, headers)

    async def _send(self, sent: Sent, body: bytes | None, limits: _Limits) -> None:
        url, added = self.route.to(sent.url)
        sent.headers |= added
        if self._cookies:
            sent.headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        timeout = httpx.Timeout(limits.read, connect=limits.connect)
        try:
            async with asyncio.timeout(limits.total):
                answer = await self._client.request(
                    sent.method, url, content=body, headers=sent.headers, timeout=timeout
                )
        except (TimeoutError, httpx.ReadTimeout):
            sent.error, sent.code = f"no answer within {limits.total:g} s", 11200
        except httpx.ConnectTimeout:
            sent.error, sent.code = f"no connection within {limits.connect:g} s", 11205
        except httpx.HTTPError as problem:
            sent.error, sent.code = f"{type(problem).__name__}: {problem}", 11205
        else:
            sent.status, sent.body = answer.status_code, answer.content
            sent.content_type = answer.headers.get("content-type", "").split(";")[0].strip().lower()
            self._cookies.update(answer.cookies)
            sent.location = answer.headers.get("location", "")
            self._client.cookies.clear()
            if answer.status_code >= 400:
                sent.error, sent.code = f"answered {answer.status_code}", 11200

    async def twiml(
        self, url: str, fields: Fields, *, method: str = "POST", fallback: str = ""
    ) -> tuple[str, WebhookFailed | None]:
        """Ask for TwiML; if that fails, ask `fallback` with ErrorCode and ErrorUrl added.

        Returns the document, and what was wrong with the first answer where the fallback gave it. Raises WebhookFailed
        if there is no usable document.
        """
        sent = await self.request(url, fields, method=method)
        failed = _usable(sent)
        if failed and fallback:
            added = {"ErrorCode": str(failed.code), "ErrorUrl": urldefrag(url).url}
            sent = await self.request(fallback, {**fields, **added})
        problem = _usable(sent)
        if problem:
            raise problem
        return _document(sent), failed


def _usable(sent: Sent) -> WebhookFailed | None:
    if sent.error:
        return WebhookFailed(sent.code, f"{urlsplit(sent.url).path} {sent.error}")
    try:
        twiml.parse(_document(sent))
    except twiml.TwimlError as problem:
        return WebhookFailed(problem.code, f"{urlsplit(sent.url).path}: {problem.text}")
    return None


def _document(sent: Sent) -> str:
    """The answer as TwiML: audio is played and text is read aloud. Raises TwimlError 12300 for anything else."""
    text = sent.body.decode("utf-8", "replace")
    if sent.content_type in ("text/xml", "application/xml", "text/html"):
        return text
    if sent.content_type.startswith("audio/"):
        return f"<Response><Play>{escape(sent.url)}</Play></Response>"
    if sent.content_type == "text/plain":
        return f"<Response><Say>{escape(text)}</Say></Response>"
    raise twiml.TwimlError(12300, f"the content type {sent.content_type!r} is not one of TwiML")
