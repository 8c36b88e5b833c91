"""What may come from a caller's side while the bot speaks: noise, echo, small sounds, small words, and interruptions.

Real recordings where they lie beside the project (`HUMAN`), synthetic material in any case; everything is 8 kHz mono,
float64 in the range of int16, and the same on each run.
"""

from __future__ import annotations

import csv
import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import soxr

from benchmarks.quality import HUMAN_SPEECH
from bot.audio import CARRIER_HZ
from sandbox import sound
from sandbox.voice import Voice

Samples = np.ndarray[Any, np.dtype[np.float64]]
Should = Literal["go_on", "not_flush", "stop"]

BOT_DBOV = -22.0
CALLER_DBOV = -26.0
LINE_NOISE_DBOV = -62.0
LEAD_IN_MS = 3_000
"""The bot speaks for so long before something happens."""
_SMALL_WORDS = ("uh-huh", "mm-hmm", "mhm", "yeah", "okay", "right", "sure", "I see", "oh, okay", "yes")
_INTERRUPTIONS = (
    "Wait, can I ask you something first?",
    "Sorry, that day does not work for me.",
    "No, I need it for next week.",
    "Hold on a second, please.",
    "Actually, could you tell me the price?",
    "Excuse me, how long does that take?",
)
_VOICES = ("en-us", "en-us+f3", "en-gb+m3", "en-us+f5")
_BOT_SENTENCES = (
    "Good morning, this is the front desk. How can I help you today?",
    "The next free appointment is on Thursday the fourteenth at half past three, or, if you prefer the morning, "
    "on Friday at ten.",
    "We close at five, but the doctor will wait six more minutes for you. Could you spell your last name for me?",
)


@dataclass(frozen=True)
class Echo:
    """The bot's own voice coming back: so much weaker, so much later, perhaps through a room."""

    gain_db: float
    delay_ms: int
    room: str = ""


@dataclass(frozen=True)
class Line:
    """What comes from the caller's side over one stretch of the bot's speech.

    `events` are where something begins, in samples; for an interruption the first voiced sample. `should`: the bot
    should ``go_on`` all the time, may pause but ``not_flush``, or should ``stop``.
    """

    group: str
    name: str
    should: Should
    caller: Samples
    events: tuple[int, ...] = ()
    echo: Echo | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the caller is all that is to be heard: no echo, no noise within 20 dB, no bot that has just begun."""
        return self.group.startswith(("human, -", "synthetic, -", "human, SNR 20"))

    @property
    def is_recorded(self) -> bool:
        """Whether a recording is part of it."""
        return ".wav" in self.name or self.group in ("real noise", "dog, horn", "music", "babble")


def lines(*, small: bool = False) -> list[Line]:
    """All material; a tenth of it where `small`."""
    found = [*_noises(), *_tones(), *_small_sounds(), *_echoes(), *_small_words(), *_interruptions()]
    return found[::10] if small else found


# -- what must not stop the bot ---------------------------------------------------------------------------------------


def _noises() -> Iterator[Line]:
    seconds = 20
    yield Line("quiet line", "quiet", "go_on", quiet(60 * CARRIER_HZ))
    for name in ("white", "pink", "hum"):
        for dbov in (-50.0, -40.0, -32.0):
            noise = at_level(_made_noise(name, seconds * CARRIER_HZ), dbov)
            yield Line("steady noise", f"{name} {dbov:g}", "go_on", noise)
    for file in ("noise/engine_idling.wav", "noise/sb_noise2.wav", "noise/sb_noise3.wav"):
        for dbov in (-45.0, -38.0, -32.0):
            yield from _recorded("real noise", file, dbov, seconds)
    for file in ("noise/dog_bark.wav", "noise/car_horn.wav"):
        for dbov in (-38.0, -30.0):
            yield from _recorded("dog, horn", file, dbov, seconds)
    for file in ("tones/hold_music.wav", "tones/moh_manolo_camp-morning_coffee.wav"):
        for dbov in (-45.0, -35.0):
            yield from _recorded("music", file, dbov, 30)
    if people := _spoken(2.0, 8.0):
        for dbov in (-45.0, -38.0):
            yield Line(
                "babble", f"babble {dbov:g}", "go_on", at_level(_babble(people, seconds), dbov) + quiet(20 * 8000)
            )


def _recorded(group: str, file: str, dbov: float, seconds: int) -> Iterator[Line]:
    samples = recording(file)
    if samples is not None:
        looped = np.resize(samples, seconds * CARRIER_HZ)
        yield Line(group, f"{file.split('/')[1].removesuffix('.wav')} {dbov:g}", "go_on", at_level(looped, dbov))


def _tones() -> Iterator[Line]:
    for key in "0123456789*#":
        yield _placed("keys, tones", f"key {key}", "not_flush", _decoded(sound.dtmf(key)[:960]), None)
    for hertz, ms in (((440.0,), 1000), ((350.0, 440.0), 2000), ((1400.0,), 250), ((440.0, 480.0), 2000)):
        tone = _decoded(sound.tone(hertz, ms, dbfs=-24.0))
        yield _placed("keys, tones", f"tone {hertz} {ms}", "not_flush", tone, None)


def _small_sounds() -> Iterator[Line]:
    chance = np.random.default_rng(5)
    for number in range(24):
        yield _placed("clicks", f"click {number}", "go_on", _click(chance), None)
    for number in range(32):
        yield _placed("coughs", f"cough {number}", "not_flush", _cough(chance), -22.0)
    for number in range(12):
        yield _placed("breath", f"breath {number}", "not_flush", _breath(chance), -36.0)


def _echoes() -> Iterator[Line]:
    rooms = [f"rir/rir{number}.wav" for number in range(1, 5) if recording(f"rir/rir{number}.wav") is not None]
    for gain in (-12.0, -18.0, -24.0, -30.0):
        for delay in (0, 60, 130, 200, 300, 400):
            yield Line(f"echo {gain:g} dB", f"{delay} ms", "go_on", quiet(20 * CARRIER_HZ), (), Echo(gain, delay))
            for room in rooms[delay // 60 % 2 :: 2]:
                yield Line(
                    f"echo {gain:g} dB",
                    f"{delay} ms {room}",
                    "go_on",
                    quiet(20 * CARRIER_HZ),
                    (),
                    Echo(gain, delay, room),
                )


def _small_words() -> Iterator[Line]:
    for word in _SMALL_WORDS:
        for voice in _VOICES:
            for pace in (130, 165, 200):
                spoken = _espeak(word, voice, pace)
                yield _placed("small words, synthetic", f"{word} {voice} {pace}", "not_flush", spoken, CALLER_DBOV)
    for name, samples in _spoken_names("fsdd/") + _spoken_names("asterisk/digits_"):
        yield _placed("small words, human", name, "not_flush", samples, CALLER_DBOV)


# -- what must stop it ------------------------------------------------------------------------------------------------


def _interruptions() -> Iterator[Line]:
    people = _sentences()
    machines = [(f"{text[:12]} {voice}", _espeak(text, voice, 165)) for text in _INTERRUPTIONS for voice in _VOICES]
    for dbov in (-20.0, -26.0, -32.0):
        for name, samples in people:
            yield _placed(f"human, {dbov:g} dBov", name, "stop", samples, dbov)
    for name, samples in people:
        yield _placed("human, into the first words", name, "stop", samples, CALLER_DBOV, lead_in_ms=600)
    for name, samples in machines:
        yield _placed("synthetic, -26 dBov", name, "stop", samples, CALLER_DBOV)
    for snr in (20.0, 10.0, 5.0):
        for number, (name, samples) in enumerate(people):
            line = _placed(f"human, SNR {snr:g} dB", name, "stop", samples, CALLER_DBOV)
            real = recording("noise/engine_idling.wav")
            noise = _made_noise(("pink", "white")[number % 2], len(line.caller))
            if number % 3 == 2 and real is not None:
                noise = np.resize(real, len(line.caller))
            noisy = line.caller + at_level(noise, CALLER_DBOV - snr)
            yield Line(line.group, name, "stop", noisy, line.events)
    for gain in (-15.0, -20.0, -25.0, -30.0):
        for number, (name, samples) in enumerate(people):
            line = _placed(f"human over echo {gain:g} dB", name, "stop", samples, CALLER_DBOV)
            yield Line(line.group, name, "stop", line.caller, line.events, Echo(gain, 40 + number * 37 % 360))


def _sentences() -> list[tuple[str, Samples]]:
    """Human speech that goes on for at least a second and a half, at most four."""
    found = [*_spoken_names("lyra/sample1_8"), *_spoken_names("lyra/sample2_8"), *_spoken_names("pocketsphinx/")]
    found += [*_spoken_names("genai/"), *_spoken_names("pesq/speech.wav")]
    prompts = [(name, samples) for name, samples in _spoken_names("asterisk/") if len(samples) > 1.8 * CARRIER_HZ]
    return [(name, samples[: 4 * CARRIER_HZ]) for name, samples in found + prompts[::2]]


# -- the bot ----------------------------------------------------------------------------------------------------------


@cache
def bot_speech() -> Samples:
    """Half a minute or more of the bot, sentence after sentence, with pauses of 0.4 s."""
    pieces = [_espeak(text, voice, 165) for text in _BOT_SENTENCES for voice in ("en-us+f3", "en-us")]
    prompts = [samples for name, samples in _spoken_names("asterisk/") if len(samples) > 1.8 * CARRIER_HZ]
    pieces += prompts[1::2][:8]
    gap = np.zeros(CARRIER_HZ * 4 // 10)
    return np.concatenate([part for piece in pieces for part in (at_level(_trimmed(piece), BOT_DBOV), gap)])


def room(name: str) -> Samples:
    """A room's impulse response from its direct sound on, of unit energy."""
    samples = recording(name)
    assert samples is not None
    response = samples[int(np.argmax(np.abs(samples))) :][: CARRIER_HZ // 3]
    unit: Samples = response / np.sqrt(np.sum(response**2))
    return unit


# -- making of sounds -------------------------------------------------------------------------------------------------


def at_level(samples: Samples, dbov: float) -> Samples:
    """At an active level: the frames that are within 25 dB of the loudest count (after ITU-T P.56)."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160) if len(samples) >= 160 else samples.reshape(1, -1)
    power = np.mean(frames**2, axis=1)
    active = power[power > power.max() / 316]
    scaled: Samples = samples * (32768 * 10 ** (dbov / 20) / np.sqrt(active.mean()))
    return scaled


def _placed(
    group: str, name: str, should: Should, samples: Samples, dbov: float | None, lead_in_ms: int = LEAD_IN_MS
) -> Line:
    """Over a line with a little hiss, after so much of the bot alone, and with two seconds behind it."""
    samples = samples if dbov is None else at_level(samples, dbov)
    voiced = sound.segments(sound.encode(np.clip(samples, -32768, 32767).astype(np.int16)), least_ms=20)
    first = int(voiced[0].start_ms * 8) if voiced else 0
    # Anywhere within a frame, the same for the same name.
    start = lead_in_ms * 8 + sum(name.encode()) * 7 % 160
    caller = quiet(start + len(samples) + 2 * CARRIER_HZ)
    caller[start : start + len(samples)] += samples
    return Line(group, name, should, caller, (start + first,))


@cache
def _hiss_of(length: int) -> bytes:
    return at_level(np.random.default_rng(length).normal(size=length), LINE_NOISE_DBOV).tobytes()


def quiet(length: int) -> Samples:
    """So many samples of a line on which nobody speaks."""
    return np.frombuffer(_hiss_of(length)).copy()


def _made_noise(kind: str, length: int) -> Samples:
    if kind == "hum":
        at = np.arange(length) / CARRIER_HZ
        harmonics = (np.sin(2 * np.pi * 50 * n * at + n) / n for n in range(1, 8))
        return sum(harmonics, np.zeros(length)) + np.random.default_rng(2).normal(size=length) * 0.05
    white = np.random.default_rng(1).normal(size=length)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white) / np.sqrt(np.maximum(1, np.arange(length // 2 + 1)))
    return np.fft.irfft(spectrum, length)


def _babble(people: list[Samples], seconds: int) -> Samples:
    length = seconds * CARRIER_HZ
    return sum(
        (np.resize(np.roll(at_level(p, -26), 4_000 * n), length) for n, p in enumerate(people[:6])), np.zeros(length)
    )


def _click(chance: np.random.Generator) -> Samples:
    length = int(chance.integers(8, 200))
    click = chance.normal(size=length) * np.exp(-np.arange(length) / (length / 5))
    loud: Samples = click / np.abs(click).max() * float(chance.integers(4_000, 25_000))
    return loud


def _cough(chance: np.random.Generator) -> Samples:
    """One or two bursts of 0.16 to 0.36 s: a hard onset of noise, a pause, and a voiced tail, the phases of a cough."""
    bursts = []
    for _ in range(int(chance.integers(1, 3))):
        length = int(chance.integers(160, 360)) * 8
        at = np.arange(length) / length
        shape = np.exp(-at * 5) + 0.35 * np.exp(-(((at - 0.75) / 0.15) ** 2))
        noise = np.convolve(chance.normal(size=length), np.hanning(5), "same")
        voice = np.sign(np.sin(2 * np.pi * float(chance.integers(110, 260)) * np.arange(length) / 8000)) * (at > 0.6)
        bursts += [shape * (noise + 0.5 * voice), np.zeros(int(chance.integers(60, 260)) * 8)]
    return np.concatenate(bursts)


def _breath(chance: np.random.Generator) -> Samples:
    length = int(chance.integers(300, 900)) * 8
    return np.convolve(chance.normal(size=length), np.hanning(7), "same") * np.hanning(length)


@cache
def _voice() -> Voice:
    return Voice()


@cache
def _espeak(text: str, voice: str, pace: int) -> Samples:
    pcm = _voice().speak(text, rate=CARRIER_HZ, voice=voice, words_per_minute=pace)
    return _trimmed(np.frombuffer(pcm, "<i2").astype(float))


def _decoded(mulaw: bytes) -> Samples:
    return sound.decode(mulaw).astype(float)


def _trimmed(samples: Samples) -> Samples:
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max() * 0.02)
    return samples[loud[0] : loud[-1] + 1]


@cache
def recording(file: str) -> Samples | None:
    """A recording at 8 kHz, without the silence around it; None where it is not there."""
    path = HUMAN_SPEECH / file
    if not path.is_file():
        return None
    with wave.open(io.BytesIO(path.read_bytes()), "rb") as reader:
        samples = np.frombuffer(reader.readframes(reader.getnframes()), "<i2").astype(float)
        rate, channels = reader.getframerate(), reader.getnchannels()
    resampled: Samples = soxr.resample(samples.reshape(-1, channels).mean(axis=1), rate, CARRIER_HZ, quality="VHQ")
    return _trimmed(resampled) if resampled.any() else None


@cache
def _manifest() -> list[str]:
    path = HUMAN_SPEECH / "manifest.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]


def _spoken_names(prefix: str) -> list[tuple[str, Samples]]:
    named = ((file, recording(file)) for file in _manifest() if file.startswith(prefix))
    return [(file, samples) for file, samples in named if samples is not None]


def _spoken(least_s: float, most_s: float) -> list[Samples]:
    return [s for _, s in _spoken_names("asterisk/") if least_s * CARRIER_HZ <= len(s) <= most_s * CARRIER_HZ]
