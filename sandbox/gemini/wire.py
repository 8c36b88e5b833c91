"""The JSON of BidiGenerateContent: reading client messages, building server messages, refusing in the API's words.

Pure functions, no state. Source of the shapes: the published proto `google.ai.generativelanguage.v1beta
GenerativeService.BidiGenerateContent` and frames recorded from the service. On the wire everything is protojson:
field names may come in camelCase or snake_case at every level, int64 as a number or a string, bytes in either base64
alphabet.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

import orjson

Json = dict[str, Any]

OUTPUT_RATE = 24_000
INPUT_RATE = 16_000
# RFC 6455, 5.5: a control frame carries at most 125 bytes, two of which are the close code.
MAX_CLOSE_REASON_BYTES = 123
AUDIO_MIME = f"audio/pcm;rate={OUTPUT_RATE}"

INVALID_ARGUMENT = "Request contains an invalid argument."
NOT_ENABLED = "Operation is not implemented, or supported, or enabled."
ENTITY_NOT_FOUND = "Requested entity was not found."
BAD_KEY = "API key not valid. Please pass a valid API key."
QUOTA = "You exceeded your current quota, please check your plan and billing details."
INTERNAL = "Internal error encountered."
DEADLINE = "Deadline expired before operation could complete."
MEDIA_CHUNKS = "realtime_input.media_chunks is deprecated. Use audio, video, or text instead."
TEXT_MODALITY = "The requested combination of response modalities (TEXT) is not supported by the model. models/{model}"

_CLIENT_MESSAGES = frozenset({"setup", "clientContent", "realtimeInput", "toolResponse", "contextUpdate"})
_REALTIME_FIELDS = frozenset(
    {"audio", "video", "text", "mediaChunks", "activityStart", "activityEnd", "audioStreamEnd"}
)
# Values under these keys are the caller's own JSON: their keys are data, not field names.
_FREE_JSON = frozenset({"args", "labels", "parametersJsonSchema", "responseJsonSchema", "default", "example", "enum"})


@dataclass(frozen=True)
class Close:
    """A WebSocket close: `code`, and a `reason` cut to 123 bytes as the real service cuts it."""

    code: int
    reason: str = ""

    def __post_init__(self) -> None:
        cut = self.reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
        object.__setattr__(self, "reason", cut)


class Reject(Exception):
    """The client broke the protocol: the session answers with this close."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.close = Close(code, reason)


def refuse(close: Close) -> Reject:
    """The refusal with this close."""
    return Reject(close.code, close.reason)


def invalid(reason: str = INVALID_ARGUMENT) -> Reject:
    """1007, the service's answer to malformed or unsupported content."""
    return Reject(1007, reason)


def unknown_model(model: str, version: str) -> Reject:
    """1008 for a model that does not exist or has no Live access."""
    name = model if model.startswith("models/") else f"models/{model}"
    return Reject(
        1008,
        f"{name} is not found for API version {version}, or is not supported for bidiGenerateContent. "
        "Call ListModels to see the list of available models and their supported methods.",
    )


def parse_client_message(data: str | bytes) -> tuple[str, Json]:
    """One WebSocket message -> (kind, body), keys in camelCase.

    Raises Reject(1007) unless it is a JSON object holding exactly one of the five client messages.
    """
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise invalid("Invalid JSON payload received.") from None
    if not isinstance(raw, dict):
        raise invalid("Invalid JSON payload received.")
    message = normalise(raw)
    if len(message) != 1:
        raise invalid()
    kind, body = next(iter(message.items()))
    if kind not in _CLIENT_MESSAGES:
        raise invalid(f'Invalid JSON payload received. Unknown name "{kind}": Cannot find field.')
    if not isinstance(body, dict):
        raise invalid()
    if kind == "realtimeInput":
        check_names(body, _REALTIME_FIELDS, "realtime_input")
    return kind, body


def check_names(body: Json, known: frozenset[str], where: str) -> None:
    """Raises Reject(1007) naming the first field of `body` that the message does not have."""
    for name in body:
        if name not in known:
            raise invalid(f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}'.")


def camel(name: str) -> str:
    """`snake_case` -> `snakeCase`; camelCase stays."""
    return re.sub(r"_([a-z0-9])", lambda m: m.group(1).upper(), name)


def normalise(value: Any, parent: str = "") -> Any:
    """Field names to camelCase at every level, leaving user data (arguments, results, property names) alone."""
    if isinstance(value, list):
        return [normalise(item, parent) for item in value]
    if not isinstance(value, dict):
        return value
    if parent == "properties":
        return {name: normalise(item) for name, item in value.items()}
    out: Json = {}
    for name, item in value.items():
        key = camel(name)
        is_free = key in _FREE_JSON or (key == "response" and parent == "functionResponses")
        out[key] = item if is_free else normalise(item, key)
    return out


def as_int(value: Any, where: str = "") -> int:
    """An int32 or int64 field: number or decimal string (protojson). Raises Reject(1007)."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise invalid(f"Invalid value at '{where}'." if where else INVALID_ARGUMENT)
    try:
        return int(value)
    except ValueError:
        raise invalid(f"Invalid value at '{where}'.") from None


def decode_bytes(text: Any) -> bytes:
    """Base64 in the standard or the URL-safe alphabet, padded or not. Raises Reject(1007)."""
    if not isinstance(text, str):
        raise invalid()
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Invalid value: Base64 decoding failed.") from None


def pcm_rate(mime: Any) -> int | None:
    """Sample rate in Hz of `audio/pcm;rate=N` (16000 when N is missing); None for any other or broken type."""
    match = re.fullmatch(r"audio/(?:pcm|l16)\s*(?:;\s*rate=(\d{4,5}))?", str(mime).strip().lower())
    if match is None:
        return None
    rate = int(match.group(1) or INPUT_RATE)
    return rate if 8_000 <= rate <= 48_000 else None


def encode(frame: Json) -> bytes:
    """A server frame as the UTF-8 JSON the service puts in a binary WebSocket message."""
    return orjson.dumps(frame)


def server_content(**fields: Any) -> Json:
    """`{"serverContent": {...}}` from camelCase fields."""
    return {"serverContent": fields}


def audio_part(pcm: bytes) -> Json:
    """One part of `modelTurn` with s16le mono PCM at 24 kHz (standard base64 alphabet, as recorded)."""
    return {"inlineData": {"mimeType": AUDIO_MIME, "data": base64.b64encode(pcm).decode()}}


def duration(seconds: float) -> str:
    """A protobuf Duration: at most three decimals, no trailing zeros ("50s", "1.88s")."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def content_text(content: Any) -> str:
    """The text parts of a Content (`{"parts": [{"text": ...}]}`), one paragraph each."""
    if isinstance(content, str):
        return content
    if not isinstance(content, dict):
        raise invalid()
    parts = content.get("parts") or []
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise invalid()
    return "\n".join(str(part["text"]) for part in parts if "text" in part)


def grounding(queries: list[str]) -> Json:
    """A `groundingMetadata` body. The stand-in searched nothing: its one source says so."""
    return {
        "searchEntryPoint": {"renderedContent": "<div>Stand-in: no search was made.</div>"},
        "groundingChunks": [{"web": {"uri": "https://example.com/stand-in", "title": "stand-in"}}],
        "groundingSupports": [{"segment": {"endIndex": 1}, "groundingChunkIndices": [0]}],
        "webSearchQueries": queries,
    }
