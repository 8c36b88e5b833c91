"""What the converters of bot/audio.py cost in quality and in delay.

PESQ-NB (ITU-T P.862.1, package ``pesq``) of each direction is held against the same speech through G.711 alone: no
resampler can do better than that on a telephone line. The reference is never through a codec; where it needs another
rate, soxr at its best quality makes it.
"""

from __future__ import annotations

import csv
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from bot.audio import (
    CARRIER_HZ,
    FRAME_BYTES,
    MODEL_IN_HZ,
    MODEL_OUT_HZ,
    Downsampler,
    Upsampler,
    pcm_to_ulaw,
    ulaw_to_pcm,
)

HUMAN_SPEECH = Path(__file__).parents[2] / "shared" / "data" / "audio"
"""Recordings of people, where they lie beside the project; the synthetic voice alone otherwise."""
_LEVEL = 10 ** (-26 / 20) * 32768
"""-26 dBov, the level at which ITU-T P.862 compares."""
_MODEL_CHUNK = 2 * MODEL_OUT_HZ * 200 // 1000
_VOICES = ("en-us", "en-us+f3", "en-gb+m3")
_SENTENCES = (
    "Good morning, this is the front desk. How can I help you today?",
    "The next free appointment is on Thursday the fourteenth at half past three.",
    "Could you spell your last name for me, please, and give me a phone number?",
    "We close at five, but the doctor will wait six more minutes for you.",
)
_SPOKEN = ("ivr-prompt", "sentence", "utterance")
_SHORTEST, _LONGEST = 2.0, 10.0


@dataclass(frozen=True)
class Speech:
    """Samples as float64 in the range of int16."""

    samples: np.ndarray
    rate_hz: int
    is_human: bool

    def at(self, rate_hz: int) -> np.ndarray:
        """At another rate and at the level of comparison, int16."""
        samples: np.ndarray = soxr.resample(self.samples, self.rate_hz, rate_hz, quality="VHQ")
        samples = samples * (_LEVEL / np.sqrt(np.mean(samples**2)))
        clipped: np.ndarray = np.clip(np.rint(samples), -32768, 32767)
        return clipped.astype("<i2")


def measure(most: int) -> dict[str, Any]:
    """Delay of both converters and, where ``pesq`` is installed, the scores of at most `most` utterances each way."""
    result: dict[str, Any] = {"delay_ms": delay_ms()}
    try:
        from pesq import pesq
    except ImportError:
        return result | {"skipped": "the package pesq is not installed (uv sync --group bench)"}
    material = [*_synthetic(), *_human()]
    up = _spread(material, most)
    down = _spread([speech for speech in material if speech.rate_hz >= MODEL_IN_HZ], most)
    scores: dict[str, list[tuple[float, float]]] = {"up": [], "down": []}
    for speech in up:
        clean = speech.at(CARRIER_HZ)
        heard = _through_up(pcm_to_ulaw(clean.tobytes()))
        score = pesq(MODEL_IN_HZ, speech.at(MODEL_IN_HZ), heard, "nb")
        scores["up"].append((score, _ceiling(pesq, clean)))
    for speech in down:
        clean = speech.at(CARRIER_HZ)
        score = pesq(CARRIER_HZ, clean, _through_down(speech.at(MODEL_OUT_HZ)), "nb")
        scores["down"].append((score, _ceiling(pesq, clean)))
    return (
        result
        | {way: _summary(pairs) for way, pairs in scores.items()}
        | {
            "human": sum(speech.is_human for speech in up + down),
            "synthetic": sum(not speech.is_human for speech in up + down),
        }
    )


def _ceiling(pesq: Callable[..., float], clean: np.ndarray) -> float:
    line = np.frombuffer(ulaw_to_pcm(pcm_to_ulaw(clean.tobytes())), "<i2")
    return pesq(CARRIER_HZ, clean, line, "nb")


def _summary(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    ours, ceiling = np.array(pairs).T
    return {
        "pesq_nb": round(float(ours.mean()), 3),
        "ceiling": round(float(ceiling.mean()), 3),
        "difference": round(float((ours - ceiling).mean()), 3),
        "worst_difference": round(float((ours - ceiling).min()), 3),
        "utterances": len(pairs),
    }


# -- through the converters, in the pieces of a call ------------------------------------------------------------------


def _through_up(ulaw: bytes) -> np.ndarray:
    converter = Upsampler()
    pieces = [converter.feed(ulaw[i : i + FRAME_BYTES]) for i in range(0, len(ulaw), FRAME_BYTES)]
    return np.frombuffer(b"".join([*pieces, converter.flush()]), "<i2")


def _through_down(samples: np.ndarray) -> np.ndarray:
    pcm, converter = samples.tobytes(), Downsampler()
    pieces = [converter.feed(pcm[i : i + _MODEL_CHUNK]) for i in range(0, len(pcm), _MODEL_CHUNK)]
    return np.frombuffer(ulaw_to_pcm(b"".join([*pieces, converter.flush()])), "<i2")


def delay_ms() -> dict[str, float]:
    """How much later a click leaves each converter than it went in."""
    click = np.zeros(2_400, "<i2")
    click[1_200] = 30_000
    up = int(_through_up(pcm_to_ulaw(click.tobytes())).argmax())
    down = int(_through_down(click).argmax())
    return {
        "up": round((up / MODEL_IN_HZ - 1_200 / CARRIER_HZ) * 1000, 3),
        "down": round((down / CARRIER_HZ - 1_200 / MODEL_OUT_HZ) * 1000, 3),
    }


# -- material ---------------------------------------------------------------------------------------------------------


def _synthetic() -> list[Speech]:
    from sandbox.voice import Voice

    voice = Voice()
    return [
        Speech(
            np.frombuffer(voice.speak(text, rate=MODEL_OUT_HZ, voice=name), "<i2").astype(float), MODEL_OUT_HZ, False
        )
        for text in _SENTENCES
        for name in _VOICES
    ]


def _human() -> list[Speech]:
    manifest = HUMAN_SPEECH / "manifest.csv"
    if not manifest.is_file():
        return []
    with manifest.open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["kind"] in _SPOKEN and _SHORTEST <= float(row["seconds"]) <= _LONGEST
        ]
    return [speech for row in rows if (speech := _read(HUMAN_SPEECH / row["file"])) is not None]


def _read(path: Path) -> Speech | None:
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2 or file.getnchannels() != 1:
                return None
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
            return Speech(samples, file.getframerate(), True) if samples.any() else None
    except (OSError, EOFError, wave.Error):
        return None


def _spread(material: list[Speech], most: int) -> list[Speech]:
    """At most so many, evenly from the whole list."""
    if len(material) <= most:
        return material
    return [material[i * len(material) // most] for i in range(most)]
