"""generateContent, the text side of the Gemini stand-in: answers in the form asked for, from the words it was sent.

Source: REST reference `models.generateContent` (v1beta). Text in, text or JSON by schema out; `inlineData` with WAV or
raw PCM is written down by the ear, as far as that goes. No model; streaming, tools and caching are not played.
"""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.gemini.wire import Json, content_text, decode_bytes, normalise, pcm_rate

TEXT_PATH = "/{version}/models/{model}:generateContent"
_NOT_TEXT = re.compile(r"live|native-audio|tts|embedding|image")
_LONGEST_WORDS = 40


class TextRefused(Exception):
    """The request cannot be answered: HTTP `status`, Google's `code` for it, and its words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class TextRequest:
    """What was asked: all text, the audio as s16le at 16 kHz (empty: none), and the schema of the answer, if any."""

    text: str
    pcm16k: bytes
    schema: Json | None


def read_request(model: str, body: Any) -> TextRequest:
    """Read a request's body. Raises `TextRefused`."""
    if not model.startswith("gemini-") or _NOT_TEXT.search(model):
        problem = f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
        raise TextRefused(404, "NOT_FOUND", problem)
    contents = normalise(body).get("contents") if isinstance(body, dict) else None
    if not isinstance(contents, list) or not contents:
        raise TextRefused(400, "INVALID_ARGUMENT", "* GenerateContentRequest.contents: contents is not specified\n")
    config = normalise(body).get("generationConfig") or {}
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    if config.get("responseMimeType") != "application/json":
        schema = None
    audio = b"".join(_audio(part) for content in contents for part in content.get("parts") or [])
    return TextRequest("\n".join(content_text(content) for content in contents), audio, schema)


def answer(request: TextRequest, hear: Callable[[bytes], str]) -> str | Json:
    """What is said to a request: the words heard in its audio, an object by its schema, or its own first words."""
    if request.pcm16k:
        return hear(request.pcm16k)
    if request.schema is not None:
        value = _by_schema(request.schema, _first_words(request.text))
        return value if isinstance(value, dict) else {"value": value}
    return _first_words(request.text)


def response(model: str, text: str, prompt: str) -> Json:
    """The body of a good answer."""
    asked, said = len(prompt) // 4 + 1, len(text) // 4 + 1
    return {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": asked,
            "candidatesTokenCount": said,
            "totalTokenCount": asked + said,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked}],
        },
        "modelVersion": model,
        "responseId": "stand-in",
    }


def _by_schema(schema: Json, words: str) -> Any:
    """The least that satisfies a schema: the first text gets words, what may be left out is null."""
    kind = str(schema.get("type", "object")).lower()
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("nullable") or "anyOf" in schema:
        return None
    if kind == "object":
        return {name: _by_schema(inner, words) for name, inner in (schema.get("properties") or {}).items()}
    return {"string": words, "array": [], "integer": 0, "number": 0, "boolean": False}.get(kind)


def _first_words(text: str) -> str:
    words = text.split()
    cut = " …" if len(words) > _LONGEST_WORDS else ""
    return f"Stand-in, not a model: {' '.join(words[:_LONGEST_WORDS])}{cut}"


def _audio(part: Any) -> bytes:
    """A part's audio as s16le mono 16 kHz; empty where it is no audio that is played here."""
    data = part.get("inlineData") if isinstance(part, dict) else None
    if not isinstance(data, dict):
        return b""
    raw = decode_bytes(data.get("data"))
    if pcm_rate(data.get("mimeType")) == 16_000:
        return raw
    try:
        with wave.open(io.BytesIO(raw)) as file:
            is_ours = (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
            return file.readframes(file.getnframes()) if is_ours else b""
    except (wave.Error, EOFError):
        raise TextRefused(400, "INVALID_ARGUMENT", "Unable to process input audio.") from None
