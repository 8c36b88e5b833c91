"""Telephone sound: G.711 mu-law, files of any rate, tones, and where in a track somebody speaks.

Everything on the line is mu-law, 8000 Hz, mono: one byte is one sample, 160 bytes are one frame of 20 ms.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RATE = 8000
FRAME_MS = 20
FRAME = RATE * FRAME_MS // 1000
SILENCE = b"\xff"
SILENT_FRAME = SILENCE * FRAME

Samples = npt.NDArray[np.int16]

# A frame louder than this counts as voice. Comfort noise and the hiss of recorded lines lie below -50.
VOICED_DBFS = -42.0
_AUDIBLE = 160
_DTMF = {
    key: (low, high)
    for low, row in zip((697, 770, 852, 941), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}


def _decoding_table() -> Samples:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _encoding_table() -> npt.NDArray[np.uint8]:
    value = np.arange(65536, dtype=np.int32).astype(np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum(np.abs(value), 32635) + 0x84
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    sign = np.where(value < 0, 0x80, 0)
    code: npt.NDArray[np.uint8] = (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8)
    return code


_DECODE = _decoding_table()
_ENCODE = _encoding_table()


def decode(mulaw: bytes) -> Samples:
    """Mu-law bytes to int16 samples (ITU-T G.711)."""
    return _DECODE[np.frombuffer(mulaw, dtype=np.uint8)]


def encode(pcm: bytes | Samples) -> bytes:
    """Signed 16-bit samples (little-endian bytes or an array) to mu-law bytes (ITU-T G.711)."""
    samples = np.frombuffer(pcm, dtype="<i2") if isinstance(pcm, bytes) else pcm
    return _ENCODE[samples.astype(np.int16).view(np.uint16)].tobytes()


def level(mulaw: bytes) -> float:
    """Root mean square of a piece of mu-law in dB below full scale; -120 for nothing or digital silence."""
    if not mulaw.strip(SILENCE):
        return -120.0
    samples = decode(mulaw).astype(np.float64)
    mean = float(np.mean(samples * samples))
    return 10.0 * float(np.log10(mean / 32768.0**2)) if mean else -120.0


def is_voiced(mulaw: bytes) -> bool:
    """Whether a frame holds something that a person on the line would hear as speech."""
    return level(mulaw) > VOICED_DBFS


@dataclass(frozen=True)
class Segment:
    """A stretch of voice on a track, in ms since the start of the track."""

    start_ms: float
    end_ms: float


def segments(mulaw: bytes, *, join_ms: int = 300, least_ms: int = 40) -> list[Segment]:
    """Where there is voice. Pauses shorter than `join_ms` are bridged, blips shorter than `least_ms` left out.

    The two ends are exact to the sample: the first and the last one that is audible in the outer frames.
    """
    runs: list[list[int]] = []
    for index in range(0, len(mulaw), FRAME):
        if not is_voiced(mulaw[index : index + FRAME]):
            continue
        if runs and index - runs[-1][1] <= join_ms * RATE // 1000:
            runs[-1][1] = index + FRAME
        else:
            runs.append([index, index + FRAME])
    found = []
    for start, end in runs:
        if end - start < least_ms * RATE // 1000:
            continue
        audible = np.flatnonzero(np.abs(decode(mulaw[start:end]).astype(np.int32)) > _AUDIBLE)
        first, last = int(audible[0]), int(audible[-1])
        found.append(Segment((start + first) * 1000 / RATE, (start + last + 1) * 1000 / RATE))
    return found


def from_pcm(pcm: bytes, rate: int) -> bytes:
    """Signed 16-bit mono at any rate to mu-law at 8000 Hz."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0
    return _from_float(samples, rate)


def _from_float(samples: npt.NDArray[Any], rate: int) -> bytes:
    if rate != RATE:
        import soxr

        samples = soxr.resample(samples, rate, RATE, quality="HQ")
    return encode(np.clip(samples * 32768.0, -32768, 32767).astype(np.int16))


def load(source: Path | bytes) -> bytes:
    """An audio file (or its bytes) of any rate and number of channels as mu-law; channels are mixed.

    Reads what libsndfile reads: WAV (also mu-law and A-law ones), AIFF, FLAC, OGG, MP3.
    Raises ValueError naming the file if it cannot be read.
    """
    import soundfile

    name = "the audio" if isinstance(source, bytes) else str(source)
    try:
        data, rate = soundfile.read(
            io.BytesIO(source) if isinstance(source, bytes) else source, dtype="float32", always_2d=True
        )
    except (OSError, soundfile.SoundFileError) as problem:
        raise ValueError(f"{name} cannot be read as audio: {problem}") from problem
    return _from_float(data.mean(axis=1), int(rate))


def tone(frequencies: tuple[float, ...], ms: int, *, dbfs: float = -14.0) -> bytes:
    """Sine waves together, `ms` long, each at `dbfs`."""
    at = np.arange(ms * RATE // 1000) / RATE
    peak = 32767 * 10 ** (dbfs / 20)
    mixed = sum((np.sin(2 * np.pi * hertz * at) for hertz in frequencies), np.zeros_like(at)) * peak
    return encode(np.clip(mixed, -32768, 32767).astype(np.int16))


def dtmf(keys: str) -> bytes:
    """Key tones (ITU-T Q.23) of 120 ms with 80 ms between; `w` waits half a second, `W` a second."""
    pauses = {"w": RATE // 2, "W": RATE}
    return b"".join(
        SILENCE * pauses[key] if key in pauses else tone(_DTMF[key], 120) + SILENCE * (RATE * 80 // 1000)
        for key in keys
        if key in pauses or key in _DTMF
    )


def wav(*tracks: bytes) -> bytes:
    """Mu-law tracks as one 16-bit WAV file, a channel each, padded with silence to the longest."""
    longest = max((len(track) for track in tracks), default=0)
    columns = np.stack([decode(track.ljust(longest, SILENCE)) for track in tracks], axis=1)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(len(tracks))
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(columns.astype("<i2").tobytes())
    return file.getvalue()


def mix(one: bytes, other: bytes) -> bytes:
    """Two equally long mu-law tracks as one."""
    both = decode(one).astype(np.int32) + decode(other)
    return encode(np.clip(both, -32768, 32767).astype(np.int16))
