"""A mind, a voice, an ear and a detector for the Gemini stand-in: quick, and exactly as the test says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sandbox.mind import Reply, ToolCall, ToolResult

END_CALL = Reply(calls=[ToolCall("end_call")])


class ListedMind:
    """Says and calls what the test listed, in order; remembers what it was told."""

    __test__ = False

    def __init__(self, *replies: Reply | str) -> None:
        self.replies = [Reply(say=reply) if isinstance(reply, str) else reply for reply in replies]
        self.setups: list[dict[str, Any]] = []
        self.said: list[tuple[str, str]] = []
        self.results: list[ToolResult] = []
        self.remembered: list[tuple[str, str]] = []

    def begin(self, setup: dict[str, Any]) -> None:
        self.setups.append(setup)

    def on_user(self, text: str, source: str) -> Reply:
        self.said.append((text, source))
        return self._next()

    def on_tool_results(self, results: list[ToolResult]) -> Reply:
        self.results.extend(results)
        return self._next()

    def remember(self, turns: list[tuple[str, str]]) -> None:
        self.remembered.extend(turns)

    def grammar(self) -> Any:
        return None

    def _next(self) -> Reply:
        return self.replies.pop(0) if self.replies else Reply(say="And what else?")


class ToneVoice:
    """A 440 Hz tone: so many ms for each word."""

    def __init__(self, ms_per_word: int = 250) -> None:
        self._ms_per_word = ms_per_word

    def speak(self, text: str, *, rate: int = 24000) -> bytes:
        samples = np.arange(len(text.split()) * rate * self._ms_per_word // 1000)
        return (8000 * np.sin(2 * np.pi * 440 * samples / rate)).astype("<i2").tobytes()


class ListedEar:
    """Understands the utterances that the test listed, in order."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.heard: list[bytes] = []

    def prepare(self, _grammar: Any) -> None:
        pass

    def hear(self, pcm16k: bytes, _grammar: Any) -> str:
        self.heard.append(pcm16k)
        return self.texts.pop(0) if self.texts else "something"


@dataclass
class Started:
    offset_ms: int


@dataclass
class Ended:
    offset_ms: int
    audio: bytes


class LoudnessDetector:
    """Speech is what is louder than silence, in steps of 20 ms; it ends after `silence_ms` of quiet."""

    def __init__(self, silence_ms: int, prefix_padding_ms: int) -> None:
        self._silence_ms = silence_ms
        self._rest = b""
        self._at_ms = 0
        self._speech = bytearray()
        self._quiet_ms = 0

    def feed(self, pcm16k: bytes) -> list[Started | Ended]:
        events: list[Started | Ended] = []
        data = self._rest + pcm16k
        whole = len(data) // 640 * 640
        self._rest = data[whole:]
        for at in range(0, whole, 640):
            events.extend(self._step(data[at : at + 640]))
        return events

    def _step(self, step: bytes) -> Iterable[Started | Ended]:
        self._at_ms += 20
        loud = np.abs(np.frombuffer(step, "<i2")).max() > 500
        if loud and not self._speech:
            yield Started(self._at_ms - 20)
        if loud or self._speech:
            self._speech += step
        self._quiet_ms = 0 if loud else self._quiet_ms + 20
        if self._speech and self._quiet_ms >= self._silence_ms:
            yield Ended(self._at_ms, bytes(self._speech))
            self._speech.clear()


def tone(ms: int, rate: int = 16000) -> bytes:
    """s16le that the LoudnessDetector takes for speech."""
    samples = np.arange(rate * ms // 1000)
    return (8000 * np.sin(2 * np.pi * 300 * samples / rate)).astype("<i2").tobytes()


def silence(ms: int, rate: int = 16000) -> bytes:
    return bytes(rate * ms // 1000 * 2)
