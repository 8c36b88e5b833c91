"""What the frames of a reply look like, model by model.

Pure. The service produces speech faster than real time, in small frames; the profile says how small and how fast.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.gemini.profiles import Profile
from sandbox.gemini.wire import OUTPUT_RATE, Json, audio_part, server_content

_BYTES_PER_MS = OUTPUT_RATE * 2 // 1000
_MARKERS: dict[str, Json] = {"empty": {}, "content": {"serverContent": {}}}


@dataclass(frozen=True)
class SpeechFrame:
    """One server frame of speech: how long after the first it is due (s), and its audio (ms)."""

    offset: float
    frame: Json
    audio_ms: int = 0
    text: str = ""


def markers(profile: Profile) -> list[Json]:
    """The frames without content that this model sends before a reply."""
    return [_MARKERS[name] for name in profile.before_reply]


def speech_frames(
    profile: Profile, text: str, pcm: bytes, *, transcript: bool, two_parts: bool = False
) -> Iterator[SpeechFrame]:
    """Speech (s16le mono 24 kHz) and its words as this model frames them.

    3.x bundles words with the audio frame in which they begin; 2.5 sends them in frames of their own, just before.
    """
    if not pcm and text and transcript:
        yield SpeechFrame(0.0, server_content(outputTranscription={"text": text}), text=text)
    step = profile.audio_frame_ms * _BYTES_PER_MS
    chunks = [pcm[at : at + step] for at in range(0, len(pcm), step)]
    words = _spread(text, len(chunks)) if transcript and chunks else [""] * len(chunks)
    sent_ms = 0
    for chunk, said in zip(chunks, words, strict=True):
        offset = sent_ms / 1000 / profile.delivery_factor
        if said and not profile.bundles_transcript:
            yield SpeechFrame(offset, server_content(outputTranscription={"text": said}))
        if profile.empty_before_audio:
            yield SpeechFrame(offset, {})
        content: dict[str, Any] = {"modelTurn": _model_turn(profile, chunk, two_parts)}
        if said and profile.bundles_transcript:
            content["outputTranscription"] = {"text": said}
        ms = len(chunk) // _BYTES_PER_MS
        yield SpeechFrame(offset, server_content(**content), audio_ms=ms, text=said)
        sent_ms += ms


def _model_turn(profile: Profile, chunk: bytes, two_parts: bool) -> Json:
    middle = len(chunk) // 4 * 2
    pieces = [chunk[:middle], chunk[middle:]] if two_parts and middle else [chunk]
    turn: Json = {"parts": [audio_part(piece) for piece in pieces]}
    if profile.model_role:
        turn["role"] = "model"
    return turn


def _spread(text: str, frames: int) -> list[str]:
    words = re.findall(r"\s*\S+", text)
    spread = [""] * frames
    for index, word in enumerate(words):
        spread[index * frames // len(words)] += word
    return spread


def input_transcript_pieces(profile: Profile, text: str) -> list[str]:
    """What the caller said, as the `inputTranscription` texts this model sends: whole, or token by token."""
    if profile.transcribes_whole_utterance:
        return [text]
    return re.findall(r"\s*[\w'’-]+|\s*[^\w\s]+", " " + text.strip())
