"""The audio in a frame of the Gemini Live API: read by the SDK's types, or past them where it is all there is."""

from __future__ import annotations

from typing import NotRequired

from google.genai import types
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from bot.audio import MODEL_OUT_HZ

_NOTHING_ELSE = ConfigDict(extra="forbid", val_json_bytes="base64")


@with_config(_NOTHING_ELSE)
class _Blob(TypedDict):
    mimeType: str
    data: bytes


@with_config(_NOTHING_ELSE)
class _Part(TypedDict):
    inlineData: _Blob


@with_config(_NOTHING_ELSE)
class _Turn(TypedDict):
    parts: tuple[_Part]
    role: NotRequired[str]


@with_config(_NOTHING_ELSE)
class _Content(TypedDict):
    modelTurn: _Turn


@with_config(_NOTHING_ELSE)
class _SpeechAlone(TypedDict):
    serverContent: _Content


_SPEECH_ALONE = TypeAdapter(_SpeechAlone)


def audio_of(message: types.LiveServerMessage) -> bytes:
    """All audio of a message, 24 kHz mono s16le; a thought may stand before it in the same message."""
    turn = message.server_content.model_turn if message.server_content else None
    return b"".join(
        part.inline_data.data
        for part in (turn.parts if turn else None) or ()
        if part.inline_data and part.inline_data.data and _is_speech(part.inline_data.mime_type)
    )


def speech_alone(frame: str | bytes) -> bytes | None:
    """The audio of a frame that holds one piece of audio and nothing else, as most do; None for every other frame."""
    try:
        (part,) = _SPEECH_ALONE.validate_json(frame)["serverContent"]["modelTurn"]["parts"]
    except ValidationError:
        return None
    blob = part["inlineData"]
    return (blob["data"] or None) if _is_speech(blob["mimeType"]) else None


def _is_speech(mime_type: str | None) -> bool:
    return (mime_type or "").replace(" ", "") in ("audio/pcm", f"audio/pcm;rate={MODEL_OUT_HZ}")
