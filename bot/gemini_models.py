"""What is known about Gemini's Live models: how they differ, how a session is set up, what their errors mean.

Pure: no I/O, no clock. Facts: ai.google.dev/gemini-api/docs/live-api (models, tools, thinking, session management);
what the documentation leaves open was seen on recorded sessions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import orjson
from google.genai import types
from google.genai.errors import APIError
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from bot.errors import ModelError, ModelFailure
from bot.flow import Flow
from bot.tools.registry import ToolDeclaration

# -- profiles ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelProfile:
    """How one family of Live models wants to be talked to.

    Text goes in as ``realtimeInput.text`` whatever the model: 3.1 closes with 1007 on ``clientContent`` after the
    first turn.
    """

    name: str
    thinking: types.ThinkingConfig | None
    """None where the model refuses any (3.8-live thinks as it speaks)."""
    behavior: types.Behavior | None
    """How functions are declared; None where the model knows one way only and takes no word for it."""
    hints_language: bool
    """Takes ``languageCodes`` for transcription; older models find the language themselves."""
    seeds_history: bool
    """Takes a conversation before the first turn without answering it (``historyConfig``)."""
    quiet_during_tools: bool
    """Closes with 1008 when audio comes while it waits for a function's result (2.5)."""

    @property
    def answers_wait(self) -> bool:
        """Functions run while the model talks on, so an answer says when it may be spoken of."""
        return self.behavior is types.Behavior.NON_BLOCKING


NATIVE_AUDIO_2_5 = ModelProfile(
    "2.5-native-audio",
    thinking=types.ThinkingConfig(thinking_budget=0),
    behavior=None,
    hints_language=False,
    seeds_history=False,
    quiet_during_tools=True,
)
FLASH_LIVE_3_1 = ModelProfile(
    "3.1-flash-live",
    thinking=types.ThinkingConfig(thinking_level=types.ThinkingLevel.MINIMAL),
    behavior=None,
    hints_language=False,
    seeds_history=True,
    quiet_during_tools=False,
)
LIVE_3_8 = ModelProfile(
    "3.8-live",
    thinking=None,
    # NON_BLOCKING is this model's default; asked to block, it does not talk on about what it does not know yet.
    behavior=types.Behavior.BLOCKING,
    hints_language=True,
    seeds_history=True,
    quiet_during_tools=False,
)
LIVE_3_8_EXTENDED_THINKING = ModelProfile(
    "3.8-live-extended-thinking",
    # A level is required and MINIMAL refused; LOW answers soonest.
    thinking=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
    behavior=types.Behavior.NON_BLOCKING,
    hints_language=True,
    seeds_history=True,
    quiet_during_tools=False,
)

_VERSION = re.compile(r"gemini(?:-[a-z]+)*-(\d+)(?:\.(\d+))?")


def profile_of(model: str) -> ModelProfile:
    """The profile for a model id, by the version in it; an id without one is taken for the newest."""
    found = _VERSION.search(model)
    version = (int(found[1]), int(found[2] or 0)) if found else (3, 8)
    if version < (3, 0):
        return NATIVE_AUDIO_2_5
    if version < (3, 8):
        return FLASH_LIVE_3_1
    return LIVE_3_8_EXTENDED_THINKING if "thinking" in model else LIVE_3_8


# -- setup ------------------------------------------------------------------------------------------------------------


def live_config(
    profile: ModelProfile,
    flow: Flow,
    instruction: str,
    tools: Iterable[ToolDeclaration],
    *,
    handle: str | None = None,
    seed_history: bool = False,
) -> types.LiveConnectConfig:
    """The setup of a call's session: a new one, or with `handle` the one that was lost.

    `seed_history`: the conversation so far follows as ``clientContent``.
    """
    return types.LiveConnectConfig(
        response_modalities=[types.Modality.AUDIO],
        speech_config=_speech(flow.voice, flow.language),
        thinking_config=profile.thinking,
        system_instruction=instruction,
        tools=_tools(profile, tools, flow.grounding.google_search),
        input_audio_transcription=types.AudioTranscriptionConfig(
            language_codes=[flow.language] if profile.hints_language else None
        ),
        output_audio_transcription=types.AudioTranscriptionConfig(),
        realtime_input_config=types.RealtimeInputConfig(automatic_activity_detection=_activity(flow)),
        # Without compression a session of audio ends after 15 minutes.
        context_window_compression=types.ContextWindowCompressionConfig(sliding_window=types.SlidingWindow()),
        session_resumption=types.SessionResumptionConfig(handle=handle),
        history_config=types.HistoryConfig(initial_history_in_client_content=True)
        if seed_history and profile.seeds_history
        else None,
    )


def speaking_config(profile: ModelProfile, voice: str, language: str, instruction: str) -> types.LiveConnectConfig:
    """The setup of a session that only reads words aloud."""
    return types.LiveConnectConfig(
        response_modalities=[types.Modality.AUDIO],
        speech_config=_speech(voice, language),
        thinking_config=profile.thinking,
        system_instruction=instruction,
        output_audio_transcription=types.AudioTranscriptionConfig(),
    )


def _speech(voice: str, language: str) -> types.SpeechConfig:
    prebuilt = types.PrebuiltVoiceConfig(voice_name=voice)
    return types.SpeechConfig(voice_config=types.VoiceConfig(prebuilt_voice_config=prebuilt), language_code=language)


def _activity(flow: Flow) -> types.AutomaticActivityDetection:
    speech = flow.speech
    return types.AutomaticActivityDetection(
        start_of_speech_sensitivity=types.StartSensitivity(f"START_SENSITIVITY_{speech.start_sensitivity.upper()}"),
        end_of_speech_sensitivity=types.EndSensitivity(f"END_SENSITIVITY_{speech.end_sensitivity.upper()}"),
        silence_duration_ms=speech.silence_ms,
        prefix_padding_ms=speech.prefix_ms,
    )


def _tools(profile: ModelProfile, tools: Iterable[ToolDeclaration], search: bool) -> list[types.Tool | object]:
    asked = orjson.dumps([(tool.name, tool.description, tool.parameters) for tool in tools])
    return list(_declared(profile.behavior, asked, search))


@lru_cache(maxsize=64)
def _declared(behavior: types.Behavior | None, tools: bytes, search: bool) -> tuple[types.Tool, ...]:
    """The same functions are the same objects for all calls: the SDK takes long to make them (docs/decisions/0017)."""
    functions = [
        types.FunctionDeclaration(
            name=name,
            description=description,
            # A function without arguments has no schema: an object without properties is refused.
            parameters=types.Schema.model_validate(parameters) if parameters.get("properties") else None,
            behavior=behavior,
        )
        for name, description, parameters in orjson.loads(tools)
    ]
    declared = [types.Tool(function_declarations=functions)] if functions else []
    if search:
        declared.append(types.Tool(google_search=types.GoogleSearch()))
    return tuple(declared)


# -- errors -----------------------------------------------------------------------------------------------------------

_CURES: dict[ModelFailure, str] = {
    "unreachable": "Check the network and GEMINI_BASE_URL.",
    "bad_key": "Put a valid key of the Gemini API in GOOGLE_API_KEY (aistudio.google.com/apikey).",
    "unknown_model": "Name a Live model that this key can use in GEMINI_MODELS.",
    "quota": "Wait, or raise the quota of the key's project (aistudio.google.com, plan and billing).",
    "no_live_access": "Give the key's project access to the Live API and enable billing.",
    "rejected_setup": "Check voice, language and tools of the flow, and whether the model takes them.",
    "timeout": "Check the network; if it is well, the service is slow: try again or name another model first.",
    "dropped": "Nothing to do if it is rare; otherwise check the network.",
    "internal": "The service has trouble: try again, or name another model in GEMINI_MODELS.",
}

# In this order, because close code 1008 stands for any refusal and only the words tell which. The service cuts its
# reason to 123 bytes (RFC 6455).
_WORDS: tuple[tuple[str, ModelFailure], ...] = (
    (r"api[ _]key|token has been used|unauthenticated|invalid authentication", "bad_key"),
    (r"models?\b.*(not found|not supported for bidi|does not exist|no longer available)", "unknown_model"),
    (r"quota|rate limit|resource.?exhausted|too many (requests|concurrent)", "quota"),
    (r"permission|not have access|allow.?list|billing|not enabled for|forbidden", "no_live_access"),
    (r"deadline expired|goaway|aborted|cancell?ed|entity was not found|not implemented, or supported", "dropped"),
    (r"internal error|unavailable|overloaded", "internal"),
)
_STATUS: dict[int, ModelFailure] = {
    401: "bad_key",
    403: "no_live_access",
    404: "unknown_model",
    429: "quota",
    1007: "rejected_setup",
    1011: "internal",
    1013: "internal",
}


def classify(error: BaseException) -> ModelError:
    """What a failure of the Live API means: its kind, what happened, and what the operator can do.

    Close codes and HTTP statuses decide only where the words say nothing.
    """
    if isinstance(error, ModelError):
        return error
    code, words = _code_and_words(error)
    kind = _kind(error, code, words)
    told = f"{code} {words}".strip() if code else f"{type(error).__name__} {words}".strip()
    return ModelError(kind, f"{_PROBLEMS[kind]} ({told}).", _CURES[kind])


EXPECTED = (ModelError, APIError, ConnectionClosed, InvalidHandshake, OSError, EOFError, TimeoutError)
"""What a session may raise when the service or the network fails; anything else is a fault of ours."""

_PROBLEMS: dict[ModelFailure, str] = {
    "unreachable": "The Gemini Live API cannot be reached",
    "bad_key": "The Gemini API does not accept the key",
    "unknown_model": "There is no such Live model for this key",
    "quota": "The key's quota is used up",
    "no_live_access": "The key may not use the Live API",
    "rejected_setup": "The model refused what it was sent",
    "timeout": "The Gemini Live API did not answer in time",
    "dropped": "The session was closed",
    "internal": "The Gemini Live API failed",
}


def _code_and_words(error: BaseException) -> tuple[int, str]:
    if isinstance(error, APIError):
        words = error.message or error.details
        return error.code or 0, words if isinstance(words, str) else ""
    if isinstance(error, InvalidStatus):
        return error.response.status_code, error.response.body.decode(errors="replace")[:200]
    if isinstance(error, ConnectionClosed):
        return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")
    return 0, str(error)[:200] if isinstance(error, EXPECTED) else ""


def _kind(error: BaseException, code: int, words: str) -> ModelFailure:
    if isinstance(error, TimeoutError):
        return "timeout"
    if not code and isinstance(error, OSError | InvalidHandshake | EOFError):
        return "unreachable"
    for pattern, kind in _WORDS:
        if re.search(pattern, words, re.IGNORECASE | re.DOTALL):
            return kind
    if code in _STATUS:
        return _STATUS[code]
    return "internal" if 500 <= code < 600 or not code else "dropped"


# -- when to try again ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """Try `model` after `delay_seconds`."""

    model: str
    delay_seconds: float


class Chance(Protocol):
    """Spreads what would otherwise happen at once: a number in [0, 1)."""

    def __call__(self) -> float: ...


class Attempts:
    """Which model is tried when, and when it is enough. One for each call.

    A model is given up after `MOST_FAILURES` in a row or `LONGEST_OUTAGE_S` without a session, or at once where trying
    again is no use; then the next one gets the same. A session that held for `STABLE_S` makes the count start again.
    """

    MOST_FAILURES = 5
    LONGEST_OUTAGE_S = 5.0
    STABLE_S = 10.0
    _DELAYS_S = (0.0, 0.3, 0.6, 1.2)
    _HOPELESS = frozenset({"unknown_model", "quota", "no_live_access", "rejected_setup"})

    def __init__(self, models: Sequence[str], now_s: float, spread: Chance) -> None:
        if not models:
            raise ValueError("a session needs at least one model")
        self._models = list(models)
        self._spread = spread
        self._failures = 0
        self._left_soon = 0
        self._outage_s = now_s
        self._connected_s: float | None = None

    @property
    def model(self) -> str:
        """The model to be tried, or in use."""
        return self._models[0]

    def connected(self, now_s: float) -> None:
        """A session is ready."""
        self._connected_s = now_s

    def left(self, now_s: float) -> Attempt:
        """A session was left because it would be closed. One that is closed as soon as it is there is slowed down."""
        if self._connected_s is not None and now_s - self._connected_s >= self.STABLE_S:
            self._failures = self._left_soon = 0
        self._outage_s, self._connected_s = now_s, None
        delay = self._DELAYS_S[min(self._left_soon, len(self._DELAYS_S) - 1)]
        self._left_soon += 1
        return Attempt(self.model, delay * (0.75 + 0.5 * self._spread()))

    def failed(self, kind: ModelFailure, now_s: float) -> Attempt | None:
        """A session could not be opened, or was lost. Gives what to do next; None: nothing is left."""
        was_up = self._connected_s is not None
        if self._connected_s is not None:
            if now_s - self._connected_s >= self.STABLE_S:
                self._failures = 0
            self._outage_s = now_s
            self._connected_s = None
        self._failures += 1
        if kind == "bad_key":
            return None
        # Words that refuse a session mean something else when they end one that was up: then it is worth another try.
        hopeless = kind in self._HOPELESS and not was_up
        tired = self._failures >= self.MOST_FAILURES or now_s - self._outage_s >= self.LONGEST_OUTAGE_S
        if hopeless or tired:
            return self._next_model(now_s)
        delay = self._DELAYS_S[self._failures - 1]
        return Attempt(self.model, delay * (0.75 + 0.5 * self._spread()))

    def _next_model(self, now_s: float) -> Attempt | None:
        if len(self._models) == 1:
            return None
        del self._models[0]
        self._failures = 0
        self._outage_s = now_s
        return Attempt(self.model, 0.0)
