"""A whole site on loopback: the bot's server, the stand-in model with a listed mind, the stand-in carrier, a phone.

Everything speaks over real sockets; only the model's mind, voice and ear are listed by the test, so that it is quick.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.gemini import ListedEar, ListedMind, LoudnessDetector, ToneVoice
from fakes.server import serving
from pydantic import SecretStr

from bot import silence
from bot.app import create_app, find_flow
from bot.call import Call
from bot.calls import EndedCall
from bot.events import CallEvent
from bot.flow import Flow, HandoverEntry, Week, load_flow
from bot.greeting import Greetings
from bot.phrases import default_handover_words
from bot.settings import Settings
from bot.tape import TapeReader
from desk.desk import migrate
from sandbox.conversation import Conversation, Habits, Turn
from sandbox.gemini import GeminiStandIn
from sandbox.mind import Reply
from sandbox.surroundings import Surroundings
from sandbox.twilio.call import LiveCall
from sandbox.twilio.exchange import Exchange
from sandbox.twilio.phone import Phone
from sandbox.twilio.record import CallRecord, new_sid

TOKEN = "token-of-the-test"
MS_PER_WORD = 60
MODEL = "gemini-3.8-live"
MS_PER_OPENING_WORD = 30
MS_PER_PHRASE_WORD = 60


class EveryMind(ListedMind):
    """A listed mind that also reads aloud what it is asked to, as a model does when a greeting is rendered."""

    def on_user(self, text: str, source: str) -> Reply:
        if "Say exactly:" in text:
            return Reply(say=text.split('"', 1)[1].rsplit('"', 1)[0])
        return super().on_user(text, source)


class RenderingMind:
    """What a session's mind turns out to be: one that reads aloud where that is asked, else the test's own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._mind: Any = None

    def begin(self, setup: dict[str, Any]) -> None:
        self._mind = EveryMind() if "reads aloud" in str(setup.get("systemInstruction")) else self._make()
        self._mind.begin(setup)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mind, name)


@dataclass
class Site:
    """What a test talks to."""

    app: Any
    gemini: GeminiStandIn
    exchange: Exchange
    phone: Phone
    url: str
    settings: Settings
    events: list[tuple[str, CallEvent]] = field(default_factory=list)

    @property
    def flow(self) -> Any:
        return self.app.state.parts.flow

    def of(self, kind: str, call_sid: str | None = None) -> list[Any]:
        return [event for sid, event in self.events if event.kind == kind and call_sid in (None, sid)]

    def call(self, sid: str) -> Call | EndedCall:
        found = self.app.state.calls.get(sid)
        assert found is not None
        return found

    def dial(
        self, *turns: Turn, habits: Habits | None = None, around: dict[str, Any] | None = None, **options: Any
    ) -> LiveCall:
        """A call that is not running yet; `around` are the caller's `Surroundings`."""
        caller = Conversation(turns, habits or Habits(stays=True, hello_ms=20_000))
        return self.phone.dial(
            f"{self.url}/twilio/voice",
            caller=Surroundings(caller, **around) if around else caller,
            status_callback=f"{self.url}/twilio/status",
            fallback_url=f"{self.url}/twilio/fallback",
            **options,
        )

    async def ring(self, *turns: Turn, **options: Any) -> CallRecord:
        """A call from dialling to its end."""
        return await self.dial(*turns, **options).run()

    async def tape_of(self, sid: str) -> list[CallEvent]:
        """The events on the closed tape."""
        async with asyncio.timeout(20):
            await self.call(sid).over()
        path = self.call(sid).tape_path
        assert path is not None
        return [CallEvent.from_json(record.data) for record in TapeReader(path) if record.channel == "event"]

    async def metrics(self) -> str:
        return self.app.state.parts.metrics.render().decode()

    def failures(self) -> dict[str, float]:
        """What `switchboard_failures_total` says, by kind."""
        found = re.findall(
            r'^switchboard_failures_total\{kind="(\w+)"\} (\S+)$',
            self.app.state.parts.metrics.render().decode(),
            re.MULTILINE,
        )
        return {kind: float(count) for kind, count in found}


def speech(ms: int = 600) -> bytes:
    """Mu-law that the LoudnessDetector takes for speech: a tone of 300 Hz."""
    import audioop

    samples = np.arange(8 * ms)
    return audioop.lin2ulaw((8000 * np.sin(2 * np.pi * 300 * samples / 8000)).astype("<i2").tobytes(), 2)


STAFF_NUMBER = "+12075550123"
ALWAYS = Week.model_validate(dict.fromkeys(Week.model_fields, "0:00-24:00"))


def handing_over(flow: Flow, hours: Week | None) -> Flow:
    """The flow with somebody who takes callers over in these hours, holiday or not; None: with nobody."""
    if hours is None:
        tools = tuple(use for use in flow.tools if use.name != "transfer_to_human")
        return flow.model_copy(update={"handover": None, "tools": tools})
    entry = HandoverEntry(number=STAFF_NUMBER, hours=hours, **default_handover_words(flow.language))
    entry = entry.model_copy(update={"ring_seconds": 1})
    business = flow.business.model_copy(update={"holidays": ()})
    return flow.model_copy(update={"handover": entry, "business": business})


OpenSite = Callable[..., contextlib.AbstractAsyncContextManager[Site]]


@pytest.fixture(scope="session")
def empty_database(sqlite_template: Callable[..., Path]) -> Path:
    return sqlite_template(migrate)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ready-made words of the dental flow, as a server has them from its second start on."""
    folder = tmp_path_factory.mktemp("clips")

    async def speak(words: str, _voice: str, _language: str) -> bytes:
        return ToneVoice(MS_PER_OPENING_WORD if words == flow.opening else MS_PER_PHRASE_WORD).speak(words)

    flow = load_flow(find_flow(Settings(_env_file=None).flow))
    asyncio.run(Greetings(folder, MODEL, speak).warm(flow))
    return folder


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch over silences, twice as impatient."""
    for name in ("FILL", "NUDGE", "LISTEN", "GIVE_UP", "LAST_FILL", "GRACE", "BREATH"):
        seconds = getattr(silence, f"{name}_SECONDS")
        monkeypatch.setattr(silence, f"{name}_SECONDS", seconds / 2)
    monkeypatch.setattr(silence, "FILL_GAPS", tuple(gap / 2 for gap in silence.FILL_GAPS))
    monkeypatch.setattr("bot.call.LOOK_SECONDS", 0.05)


@pytest.fixture
def open_site(tmp_path: Path, empty_database: Path, clips: Path, secure: ssl.SSLContext) -> OpenSite:
    """``async with open_site(mind, ...)``: `mind` is a `ListedMind` for one call, or a factory for several.

    The stand-in model speaks TLS as the service does, so that every fault passes through the SDK as it is.

    `send_buffer` bytes is what the system takes for a carrier that reads nothing; None: as much as it likes.

    `staffed` are the hours of the person whom calls are handed over to; None: there is nobody and no recorder.
    """

    @contextlib.asynccontextmanager
    async def site(
        mind: ListedMind | Callable[[], Any] | None = None,
        *,
        gemini: dict[str, Any] | None = None,
        warm: bool = True,
        staffed: Week | None = None,
        send_buffer: int | None = None,
        **changes: Any,
    ) -> AsyncIterator[Site]:
        shutil.copy(empty_database, tmp_path / "switchboard.db")
        if warm:
            shutil.copytree(clips, tmp_path / "greetings", dirs_exist_ok=True)
        options: dict[str, Any] = {
            "mind_factory": lambda: RenderingMind(mind if callable(mind) else lambda: mind or EveryMind()),
            "voice": ToneVoice(MS_PER_WORD),
            "ear": ListedEar(),
            "detector_factory": LoudnessDetector,
            "speed": 2.0,
            "tls": secure,
        }
        account = new_sid("AC")
        async with (
            GeminiStandIn(**(options | (gemini or {}))) as model,
            Exchange(account, TOKEN) as exchange,
        ):
            settings = Settings(
                _env_file=None,
                google_api_key=SecretStr("key"),
                gemini_base_url=model.url,
                twilio_account_sid=account,
                twilio_auth_token=SecretStr(TOKEN),
                twilio_api_base_url=exchange.api_base_url,
                data_dir=tmp_path,
                **({"gemini_models": (MODEL,)} | changes),
            )
            app = create_app(settings)
            parts = app.state.parts
            parts.flow = handing_over(parts.flow, staffed)
            parts.desk.business = parts.flow.desk_business()
            events: list[tuple[str, CallEvent]] = []
            parts.listeners.append(lambda sid, event, _: events.append((sid, event)))
            async with serving(app, send_buffer=send_buffer) as url:
                if warm:
                    await parts.greetings.warm(parts.flow)
                phone = Phone(account, TOKEN, exchange=exchange, voice=ToneVoice(MS_PER_WORD))
                yield Site(app, model, exchange, phone, url, settings, events)

    return site


@pytest.fixture
def say() -> Callable[..., Turn]:
    """A turn of the caller that the detector takes for speech; what it means is the ear's or the mind's to say."""
    return lambda ms=600, **options: Turn(play=speech(ms), **options)
