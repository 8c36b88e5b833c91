"""The way to the Gemini Live API: one client for the whole process, one tapped WebSocket for each session.

google-genai offers no way to plain ``ws://`` and none to see the setup it sends, so the one name through which it opens
a socket, ``google.genai.live.ws_connect``, is replaced here (docs/decisions/0003, a test watches it). Everything above
that name is the SDK as it is. The caller's audio is written past ``websockets``' own ``send`` (docs/decisions/0017).
"""

from __future__ import annotations

import asyncio
import binascii
import difflib
import operator
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import orjson
from google import genai
from google.genai import live, types
from google.genai.live import AsyncSession
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import apply_mask  # type: ignore[attr-defined]
from websockets.protocol import State

from bot.audio import MODEL_IN_HZ, MODEL_OUT_HZ
from bot.errors import ModelError
from bot.gemini_frames import audio_of, speech_alone
from bot.gemini_models import classify, profile_of, speaking_config
from bot.ports import mask_key
from bot.settings import Settings
from bot.sockets import ModelSocket

SETUP_SECONDS = 5.0
"""A session that is not ready by then counts as failed."""
SPEAK_SECONDS = 60.0
PROBE_SECONDS = 20.0
_TOOLS_KEPT = 16
"""So many different sets of tools are known in the words of the SDK."""
_UNKNOWN_MODEL_SECONDS = 600.0
"""So long a model that does not exist is not asked for again while there are others."""

_SOCKET_OPTIONS: dict[str, Any] = {
    "compression": None,  # audio does not shrink, and deflating costs 30 us a message
    "open_timeout": 10,
    "ping_interval": 20,
    "ping_timeout": 60,  # pongs of the service were seen to take up to 30 s
    "close_timeout": 0.5,
    "max_size": 8 * 1024 * 1024,
    "create_connection": ModelSocket,
}

_AUDIO_MESSAGE = b'{"realtimeInput":{"audio":{"data":"%%b","mimeType":"audio/pcm;rate=%d"}}}' % MODEL_IN_HZ

Tap = Callable[[str, bytes], None]
"""Gets (``model.in`` or ``model.out``, the frame): the channel of the tape and what was on the wire."""


class Socket(Protocol):
    """What google-genai uses of a WebSocket."""

    async def send(self, message: str) -> None: ...

    async def recv(self, decode: bool | None = None) -> str | bytes: ...

    async def close(self, code: int = 1000, reason: str = "") -> None: ...


Connect = Callable[..., AbstractAsyncContextManager[Socket]]
"""``websockets.connect``, or what a replay puts in its place."""


class TappedSocket:
    """A WebSocket whose frames are also given to a tap: whole, but the caller's audio by reference.

    `tools` are put into the setup, which is the first frame; without them `said_tools` are those that it has.
    """

    def __init__(self, socket: Socket, tap: Tap | None, tools: list[Any] | None = None) -> None:
        self.said_tools: list[Any] | None = None
        self._tools = tools
        self._socket = socket
        self._tap = tap
        self._websocket = socket if isinstance(socket, ClientConnection) else None
        self._ahead: str | bytes | None = None

    async def send(self, message: str) -> None:
        """Send a frame of the SDK's."""
        if self.said_tools is None:
            message = self._set_up(message)
        if self._tap:
            self._tap("model.in", message.encode())
        await self._socket.send(message)

    def _set_up(self, message: str) -> str:
        frame = orjson.loads(message)
        self.said_tools = frame["setup"].get("tools", [])
        if not self._tools:
            return message
        self.said_tools = frame["setup"]["tools"] = self._tools
        return orjson.dumps(frame).decode()

    @property
    def takes_audio(self) -> bool:
        """Whether `send_audio` would hand over at once: the socket is open, and what was sent before is on its way."""
        websocket = self._websocket
        return websocket is None or (websocket.protocol.state is State.OPEN and not websocket.paused)

    async def send_audio(self, pcm: bytes) -> None:
        """Send the caller's audio, 16 kHz s16le, without waiting; `takes_audio` must hold.

        The SDK takes 39 us to build this message, this 1 us. ``ClientConnection.send`` is left out with its contexts
        for fragments, faults and waiting, which this message does not need: nothing of it may wait to be sent, which is
        so because nobody sends to this socket in fragments.
        """
        if self._tap:
            self._tap("model.in", _reference(len(pcm)))
        message = _AUDIO_MESSAGE % binascii.b2a_base64(pcm, newline=False)
        if self._websocket is None:
            await self._socket.send(message.decode())
        else:
            self._websocket.transport.write(_text_frame(message))

    async def recv(self, decode: bool | None = None) -> str | bytes:
        """The next frame."""
        if self._ahead is not None:
            data, self._ahead = self._ahead, None
            return data
        data = await self._socket.recv(decode=decode)
        if self._tap:
            self._tap("model.out", data.encode() if isinstance(data, str) else data)
        return data

    async def recv_speech(self) -> bytes | None:
        """The audio of the next frame where it holds nothing else; None: `recv` will give that frame, or raise."""
        try:
            frame = await self.recv(decode=False)
        except ConnectionClosed:
            return None
        speech = speech_alone(frame)
        if speech is None:
            self._ahead = frame
        return speech

    @property
    def has_more(self) -> bool:
        """Whether the next frame has come already."""
        return self._websocket is not None and len(self._websocket.recv_messages.frames) > 0

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the WebSocket."""
        await self._socket.close(code, reason)


@lru_cache(maxsize=64)
def _reference(length: int) -> bytes:
    """What the tape has in the place of so many bytes of the caller's audio."""
    ms = length / (2 * MODEL_IN_HZ) * 1000
    return b'{"realtimeInput":{"audio":{"ref":"carrier.in","ms":%g}}}' % ms


def _text_frame(message: bytes) -> bytes:
    """A client's WebSocket frame (RFC 6455, section 5.2) around at most 65,535 bytes of text."""
    length, mask = len(message), mask_key()
    head = b"\x81\xfe" + length.to_bytes(2, "big") if length > 125 else bytes((0x81, 0x80 | length))
    return head + mask + apply_mask(message, mask)


@dataclass
class _Line:
    """How the session that is being opened in this context reaches its server, and the socket once it is open."""

    connect: Connect
    plain: bool
    tap: Tap | None
    tools: list[Any] | None = None
    socket: TappedSocket | None = None


_line: ContextVar[_Line | None] = ContextVar("gemini line", default=None)


@asynccontextmanager
async def _open_socket(uri: str, **options: Any) -> AsyncIterator[Any]:
    """In the place of ``google.genai.live.ws_connect``; a session that is not ours is opened as ever."""
    line = _line.get()
    if line is None:
        async with websockets_connect(uri, **options) as socket:
            yield socket
        return
    options |= _SOCKET_OPTIONS
    if line.plain:
        # With a key google-genai turns every base URL into wss:// and brings an SSL context.
        uri = uri.replace("wss://", "ws://", 1)
        options |= {"ssl": None, "proxy": None}
    async with line.connect(uri, **options) as opened:
        line.socket = TappedSocket(opened, line.tap, line.tools)
        try:
            yield line.socket
        finally:
            # The socket's transport keeps the context it was made in, which keeps this line: a circle otherwise.
            line.socket = line.tap = None


class _Nobody:
    """The far end of a rehearsal: ready at once, and what it says is of every kind that a call begins with."""

    def __init__(self) -> None:
        audio = {"inlineData": {"mimeType": f"audio/pcm;rate={MODEL_OUT_HZ}", "data": "AAAA"}}
        content = {
            "modelTurn": {"parts": [audio]},
            "outputTranscription": {"text": "a"},
            "inputTranscription": {"text": "a"},
        }
        update = {"newHandle": "a", "resumable": True}
        self._messages = [
            {"setupComplete": {}},
            {"serverContent": content, "usageMetadata": {"totalTokenCount": 1}, "sessionResumptionUpdate": update},
        ]

    async def send(self, message: str) -> None:
        pass

    async def recv(self, decode: bool | None = None) -> str | bytes:
        return orjson.dumps(self._messages.pop(0))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        pass


@asynccontextmanager
async def _nobody(uri: str, **options: Any) -> AsyncIterator[Socket]:
    yield _Nobody()


live.ws_connect = _open_socket  # type: ignore[attr-defined, assignment]


@dataclass(frozen=True)
class Connection:
    """An open Live session: the SDK's for all that is rare, the socket for the audio of both sides."""

    session: AsyncSession
    socket: TappedSocket
    model: str

    async def messages(self) -> AsyncIterator[types.LiveServerMessage | bytes]:
        """All that the model sends; bytes are audio (24 kHz mono s16le) on which nothing else hangs.

        The SDK takes 50 us to read a message, and most are audio alone. Raises what ``AsyncSession.receive`` raises.
        """
        received = self.session.receive()
        while True:
            speech = await self.socket.recv_speech()
            if speech is not None:
                yield speech
                if self.socket.has_more:
                    # What has piled up is handled a frame in each turn of the loop: meanwhile the other calls go on.
                    await asyncio.sleep(0)
                continue
            message = await anext(received, None)
            if message is None:  # the SDK's iterator ends with each turn
                received = self.session.receive()
                message = await anext(received)
            yield message


@dataclass(frozen=True)
class SpokenClip:
    """Words read aloud: 24 kHz mono s16le, and what the model says it said."""

    pcm24k: bytes
    transcript: str


@dataclass(frozen=True)
class ProbeResult:
    """How fast a model is from here: until the session is ready, and from a question to the first audio."""

    setup_ms: float
    first_audio_ms: float


class GeminiClients:
    """One client for all sessions of the process: making one takes 110 ms of CPU, so `open` does it in a thread.

    `connect` opens WebSockets; a replay gives its own.
    """

    def __init__(self, settings: Settings, connect: Connect = websockets_connect) -> None:
        self._key = settings.google_api_key.get_secret_value() if settings.google_api_key else ""
        self._base_url = settings.gemini_base_url
        self._models = settings.gemini_models
        self._connect = connect
        self._client: genai.Client | None = None
        self._unknown: dict[str, float] = {}
        self._sessions = 0
        self._one_by_one = asyncio.Lock()
        self._said: deque[tuple[list[Any], list[Any]]] = deque(maxlen=_TOOLS_KEPT)

    async def open(self) -> None:
        """Make the client, without holding the event loop. Opens no connection."""
        if self._client is None:
            self._client = await asyncio.to_thread(self._make_client)

    def _make_client(self) -> genai.Client:
        return genai.Client(api_key=self._key or "none", http_options=types.HttpOptions(base_url=self._base_url))

    async def rehearse(self, model: str, config: types.LiveConnectConfig) -> None:
        """Open a session to nobody, before there are callers: the SDK's classes take 40 ms at their first use.

        Raises `bot.errors.ModelError`.
        """
        async with self.connect(model, config, connect=_nobody) as connection:
            async for _ in connection.session.receive():
                return

    @property
    def client(self) -> genai.Client:
        """The shared client."""
        assert self._client is not None, "open the clients first"
        return self._client

    def preferred(self, models: Sequence[str]) -> list[str]:
        """`models` in the order to try them: those that did not exist a moment ago come last."""
        now = asyncio.get_running_loop().time()
        self._unknown = {model: until for model, until in self._unknown.items() if until > now}
        return sorted(models, key=lambda model: model in self._unknown)

    def spread(self) -> float:
        """A number in [0, 1), far from the last ones: calls that lose their sessions together return one by one."""
        self._sessions += 1
        return self._sessions * 0.6180339887 % 1.0

    @asynccontextmanager
    async def connect(
        self,
        model: str,
        config: types.LiveConnectConfig,
        tap: Tap | None = None,
        *,
        connect: Connect | None = None,
    ) -> AsyncIterator[Connection]:
        """Open a Live session; it is ready when this is entered, within `SETUP_SECONDS`.

        `connect` stands in for the one of this client. Raises `bot.errors.ModelError`.
        """
        plain = bool(self._base_url and self._base_url.startswith("http://"))
        given = config.tools or []
        said = self._said_of(given)
        if said:
            config = config.model_copy(update={"tools": None})
        line = _Line(connect or self._connect, plain, tap, said)
        async with self._one_by_one:
            # Of calls that come together each begins in a turn of the loop of its own, between which the others go on.
            await asyncio.sleep(0)
        opening = self.client.aio.live.connect(model=model, config=config)
        token = _line.set(line)
        try:
            async with asyncio.timeout(SETUP_SECONDS):
                session = await opening.__aenter__()
        except Exception as error:
            raise self._refused(model, error) from error
        finally:
            _line.reset(token)
        try:
            if session.setup_complete is None or line.socket is None:
                raise ModelError("rejected_setup", "The first frame of the service was no setupComplete.", "")
            if not said and line.socket.said_tools:
                self._said.append((given, line.socket.said_tools))
            yield Connection(session, line.socket, model)
        finally:
            await opening.__aexit__(None, None, None)

    def _said_of(self, tools: list[Any]) -> list[Any] | None:
        """How the SDK put these very tools into a setup. It takes two thirds of a setup's time to do it anew."""
        for given, said in self._said:
            if len(given) == len(tools) and all(map(operator.is_, given, tools)):
                return said
        return None

    def _refused(self, model: str, error: Exception) -> ModelError:
        failure = classify(error)
        if failure.kind == "unknown_model":
            self._unknown[model] = asyncio.get_running_loop().time() + _UNKNOWN_MODEL_SECONDS
        return failure

    async def speak(self, text: str, voice: str, language: str) -> bytes:
        """`text` read aloud by the first model that does: 24 kHz mono s16le.

        Raises `bot.errors.ModelError` of the last model where none does.
        """
        failure: ModelError | None = None
        for model in self.preferred(self._models):
            try:
                return (await speak_once(self, model, text, voice, language)).pcm24k
            except ModelError as error:
                failure = error
        assert failure is not None, "the settings name at least one model"
        raise failure


# -- words without a call ---------------------------------------------------------------------------------------------

_READ_ALOUD = (
    "You are a voice that reads aloud. The user gives you words between quotation marks. Say these words, all of them, "
    "word for word, in the language they are written in, friendly and clearly, and nothing else: no answer, no comment."
)
_ALIKE = 0.8
_PHRASE = 16
"""Letters: "this call is recorded" has 18."""


async def speak_once(clients: GeminiClients, model: str, text: str, voice: str, language: str) -> SpokenClip:
    """Have `model` read `text` aloud, word for word, in a session of its own.

    What it says it said is compared with `text`, because a notice that the law asks for must not be improvised.
    Raises `bot.errors.ModelError`.
    """
    config = speaking_config(profile_of(model), voice, language, _READ_ALOUD)
    try:
        async with asyncio.timeout(SPEAK_SECONDS), clients.connect(model, config) as connection:
            await connection.session.send_realtime_input(text=f'Say exactly: "{text}"')
            clip = await _first_turn(connection.session)
    except ModelError:
        raise
    except Exception as error:
        raise classify(error) from error
    if not clip.pcm24k:
        raise ModelError("internal", f"{model} said nothing when it was asked to read words aloud.", "Try again.")
    if not is_word_for_word(text, clip.transcript):
        raise ModelError("internal", f"{model} said other words than those it was asked to read aloud.", "Try again.")
    return clip


async def probe(clients: GeminiClients, model: str) -> ProbeResult:
    """Open a session and have a word spoken, timed. Raises `bot.errors.ModelError`."""
    loop = asyncio.get_running_loop()
    config = speaking_config(profile_of(model), "Aoede", "en-US", _READ_ALOUD)
    began = loop.time()
    try:
        async with asyncio.timeout(PROBE_SECONDS), clients.connect(model, config) as connection:
            ready = loop.time()
            await connection.session.send_realtime_input(text='Say exactly: "Hello."')
            async for message in connection.session.receive():
                if audio_of(message):
                    return ProbeResult((ready - began) * 1000, (loop.time() - ready) * 1000)
    except ModelError:
        raise
    except Exception as error:
        raise classify(error) from error
    raise ModelError("internal", f"{model} opens sessions but does not speak.", "Try another model.")


async def _first_turn(session: AsyncSession) -> SpokenClip:
    pcm, words = bytearray(), ""
    async for message in session.receive():
        pcm += audio_of(message)
        content = message.server_content
        if content and content.output_transcription:
            words += content.output_transcription.text or ""
        if content and (content.generation_complete or content.turn_complete):
            break
    return SpokenClip(bytes(pcm), " ".join(words.split()))


def is_word_for_word(asked: str, said: str) -> bool:
    """Whether a transcript is of these words: small slips of the recogniser are allowed, a lost or added phrase is not.

    Compared by letters, so that it does not matter where the recogniser puts its spaces.
    """
    ours, theirs = (re.sub(r"[\W_]+", "", words.casefold()) for words in (asked, said))
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    longest = max((abs((i2 - i1) - (j2 - j1)) for _, i1, i2, j1, j2 in matcher.get_opcodes()), default=0)
    return matcher.ratio() >= _ALIKE and longest < _PHRASE
