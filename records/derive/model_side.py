"""The model's side of a call: what it answered and wrote down, when, and which of it became a turn on the line."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_MODEL_BYTES_PER_MS = 48
"""24 kHz, 16 bit."""
_STALE_MS = 5_000.0
_CROSSING_MS = 200.0


@dataclass
class Response:
    """One stretch of speech of the model, as it came; times on our clock."""

    at_ms: float
    """When its first audio came, or its first words where it has none."""
    audio_ms: float = 0.0
    pieces: list[tuple[float, str]] = field(default_factory=list)
    """Words, and how much of its audio had come before them."""
    language: str = ""
    turns: list[int] = field(default_factory=list)
    """The turns on the line that it became: one, or several where it stalled and ready-made words filled in."""

    @property
    def text(self) -> str:
        """All its words."""
        return " ".join("".join(words for _, words in self.pieces).split())


@dataclass
class Utterance:
    """What the model understood of the caller, and when the first and the last of it came, on our clock."""

    text: str
    first_ms: float
    last_ms: float
    language: str = ""


@dataclass(frozen=True)
class Usage:
    """One usage message, as it came. `turn` counts the turns that the model had completed before."""

    at_ms: float
    model: str
    turn: int
    counts: Mapping[str, Any]


class ModelSide:
    """Reads the frames of the model's connections, one after another, and the events that tell what became of them."""

    def __init__(self) -> None:
        self.responses: list[Response] = []
        self.utterances: list[Utterance] = []
        self.usages: list[Usage] = []
        self.model = ""
        """The model of the latest connection."""
        self.speech_ends: list[float] = []
        """When the model said that it takes the caller's speech for ended, on our clock."""
        self.tool_waits: list[tuple[float, float]] = []
        """From each function call to its answer, on our clock."""
        self._open: Response | None = None
        self._waiting: list[Response] = []
        self._spoken: Response | None = None
        self._dropped: tuple[float, Response] | None = None
        self._heard: list[Utterance] = []
        self._turns_completed = 0
        self._asked: dict[str, float] = {}
        self._sent_at = array("d")
        self._sent_ms = array("d")
        self._connection_bases: list[tuple[int, float]] = []

    # -- from the model -----------------------------------------------------------------------------------------------

    def frame(self, at_ms: float, message: Mapping[str, Any]) -> None:
        """A frame of the model."""
        if isinstance(usage := message.get("usageMetadata"), dict):
            self.usages.append(Usage(at_ms, self.model, self._turns_completed, usage))
        content = message.get("serverContent")
        if isinstance(content, dict):
            self._content(at_ms, content)
            self._turns_completed += bool(content.get("turnComplete"))
        if "setupComplete" in message:
            self._end_response()
        call = message.get("toolCall")
        for function in _list(call, "functionCalls"):
            self._asked[str(function.get("id"))] = at_ms
        activity = message.get("voiceActivity")
        if isinstance(activity, dict) and activity.get("type") == "ACTIVITY_END":
            self.speech_ends.append(at_ms)

    def _content(self, at_ms: float, content: Mapping[str, Any]) -> None:
        if content.get("interrupted"):
            self._interrupted(at_ms)
        self._hear(at_ms, content.get("inputTranscription"))
        words = content.get("outputTranscription")
        if isinstance(words, dict) and isinstance(words.get("text"), str) and words["text"]:
            response = self._response(at_ms)
            response.pieces.append((response.audio_ms, words["text"]))
            response.language = response.language or str(words.get("languageCode") or "")
        for part in _list(content.get("modelTurn"), "parts"):
            audio = part.get("inlineData")
            if isinstance(audio, dict) and isinstance(audio.get("data"), str):
                response = self._response(at_ms)
                if not response.audio_ms:
                    response.at_ms = at_ms
                response.audio_ms += _decoded_size(audio["data"]) / _MODEL_BYTES_PER_MS
        if content.get("generationComplete") or content.get("turnComplete"):
            self._end_response()

    def _response(self, at_ms: float) -> Response:
        if self._open is None:
            self._open = Response(at_ms)
            self.responses.append(self._open)
            self._waiting.append(self._open)
        return self._open

    def _end_response(self) -> None:
        self._open = None

    def _interrupted(self, at_ms: float) -> None:
        if self._waiting:
            self._dropped = at_ms, self._waiting[-1]
        self._waiting.clear()
        self._open = None

    def _hear(self, at_ms: float, words: object) -> None:
        if not isinstance(words, dict) or not isinstance(words.get("text"), str) or not words["text"].strip():
            return
        if self._heard and at_ms - self._heard[-1].last_ms > _STALE_MS:
            self._heard.clear()
        self._heard.append(Utterance(words["text"], at_ms, at_ms, str(words.get("languageCode") or "")))

    # -- what became of it --------------------------------------------------------------------------------------------

    def bot_began(self, at_ms: float, turn: int) -> None:
        """The line took the next response of the model, as a turn, or went on with one that had stalled."""
        if self._waiting:
            self._spoken = self._waiting.pop(0)
        elif self._dropped and at_ms - self._dropped[0] < _CROSSING_MS:
            # It was on its way to the line when the model was interrupted.
            self._spoken = self._dropped[1]
        self._dropped = None
        if self._spoken is not None:
            self._spoken.turns.append(turn)

    def cut_in(self, *, protected: bool) -> None:
        """The caller cut in: what the line had not taken yet is dropped.

        Where `protected` words were being said, the response that the model is still giving goes on behind them.
        """
        self._waiting = [each for each in self._waiting if protected and each is self._open]

    def caller_said(self, at_ms: float, text: str) -> None:
        """The call took the pieces so far for an utterance."""
        heard, self._heard = self._heard, []
        first_ms, last_ms = (heard[0].first_ms, heard[-1].last_ms) if heard else (at_ms, at_ms)
        language = next((piece.language for piece in heard if piece.language), "")
        self.utterances.append(Utterance(text, first_ms, last_ms, language))

    def over(self) -> None:
        """Nothing more comes: what was being said is said."""
        self._sent = np.array(self._sent_at), np.array(self._sent_ms)
        if self._heard:
            self.caller_said(self._heard[-1].last_ms, " ".join("".join(p.text for p in self._heard).split()))

    # -- to the model -------------------------------------------------------------------------------------------------

    def sent(self, at_ms: float, message: Mapping[str, Any], received_ms: float) -> None:
        """A message to the model, when so much of the caller's audio had been received."""
        setup = message.get("setup")
        if isinstance(setup, dict):
            self.model = str(setup.get("model", "")).removeprefix("models/")
            self._connection_bases.append((len(self._sent_at), -np.inf))
            self._asked.clear()
        for answer in _list(message.get("tool_response") or message.get("toolResponse"), "functionResponses"):
            asked = self._asked.pop(str(answer.get("id")), None)
            if asked is not None:
                self.tool_waits.append((asked, at_ms))
        given = message.get("realtimeInput")
        audio = given.get("audio") if isinstance(given, dict) else None
        if isinstance(audio, dict) and isinstance(audio.get("ms"), int | float):
            self._audio_sent(at_ms, float(audio["ms"]), received_ms)

    def _audio_sent(self, at_ms: float, length_ms: float, received_ms: float) -> None:
        total = (self._sent_ms[-1] if self._sent_ms else 0.0) + length_ms
        self._sent_at.append(at_ms)
        self._sent_ms.append(total)
        first, base = self._connection_bases[-1] if self._connection_bases else (0, -np.inf)
        # A new connection is sent again what the last one had not understood. Nothing is sent before it was received,
        # and sooner or later everything received was sent: so much ahead, so much was sent twice.
        bases = self._connection_bases
        if bases:
            bases[-1] = first, max(base, total - received_ms)
        else:
            bases.append((first, total - received_ms))

    def sent_at(self, received_ms: float) -> float | None:
        """When the model was sent the caller's audio that ends at `received_ms`; None where it never was.

        May be asked when all is `over`.
        """
        at, total = self._sent
        for number, (first, base) in enumerate(self._connection_bases):
            last = self._connection_bases[number + 1][0] if number + 1 < len(self._connection_bases) else len(at)
            place = int(np.searchsorted(total[first:last], received_ms + base - 0.5))
            if place < last - first:
                return float(at[first + place])
        return None


def _list(holder: object, key: str) -> list[Mapping[str, Any]]:
    values = holder.get(key) if isinstance(holder, dict) else None
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _decoded_size(text: str) -> int:
    return len(text) * 3 // 4 - text[-2:].count("=")
