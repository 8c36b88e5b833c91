"""G.711, the two converters and the speech meter, judged by bytes and by what a signal analyser would say."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bot.audio import (
    FRAME_BYTES,
    Downsampler,
    SpeechMeter,
    Upsampler,
    low_pass,
    pcm_to_ulaw,
    ulaw_to_pcm,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

HUMAN_SPEECH = Path(__file__).parents[3] / "shared" / "data" / "audio"


def pcm(samples: NDArray[np.float64]) -> bytes:
    return np.clip(np.rint(samples), -32_768, 32_767).astype("<i2").tobytes()


def samples(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def tone(hz: float, rate: int, seconds: float = 1.0, amplitude: float = 16_000) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


def spectrum_db(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power in dB for each 1 Hz of one second of signal."""
    windowed = signal * np.blackman(len(signal))
    return 10 * np.log10(np.abs(np.fft.rfft(windowed)) ** 2 + 1e-9)


# -- G.711 ------------------------------------------------------------------------------------------------------------


def test_decodes_all_256_codes_as_the_standard_library_does() -> None:
    codes = bytes(range(256))
    assert ulaw_to_pcm(codes) == audioop.ulaw2lin(codes, 2)


def test_encodes_all_65536_samples_as_the_standard_library_does() -> None:
    every_sample = np.arange(65_536).astype("<u2").tobytes()
    assert pcm_to_ulaw(every_sample) == audioop.lin2ulaw(every_sample, 2)


def test_a_second_pass_through_g711_changes_nothing() -> None:
    codes = bytes(range(256))
    again = pcm_to_ulaw(ulaw_to_pcm(codes))
    assert [c for c in range(256) if codes[c] != again[c]] == [0x7F]  # minus zero becomes plus zero


def test_refuses_half_a_sample() -> None:
    with pytest.raises(ValueError, match="size"):
        pcm_to_ulaw(b"\0\0\0")


# -- the filters ------------------------------------------------------------------------------------------------------


def exact(signal: list[int], taps: list[int]) -> list[int]:
    """The convolution in Python's integers, rounded half up and clipped, as docs/decisions/0002 defines it."""
    out = np.convolve(np.array(signal, dtype=object), np.array(taps, dtype=object))
    return [min(max((value + 16_384) >> 15, -32_768), 32_767) for value in out]


def zero_stuffed(values: list[int]) -> list[int]:
    return [v for value in values for v in (value, 0)]


def test_the_filters_are_the_published_integers() -> None:
    up, down = low_pass(65, 16_000, gain=2), low_pass(97, 24_000, gain=1)
    assert up.tolist() == up.tolist()[::-1]
    assert down.tolist() == down.tolist()[::-1]
    assert up.tolist()[28:33] == [-2268, -6367, 2409, 20658, 30306]
    assert down.tolist()[44:49] == [-1712, 803, 4845, 8585, 10102]
    assert (up[0::2].sum(), up[1::2].sum(), down.sum()) == (32_768, 32_768, 32_770)


@pytest.mark.parametrize("seed", range(5))
def test_up_equals_integer_arithmetic_to_the_bit(seed: int) -> None:
    ulaw = np.random.default_rng(seed).integers(0, 256, 700).astype(np.uint8).tobytes()
    up = Upsampler()
    want = exact(zero_stuffed(samples(ulaw_to_pcm(ulaw)).astype(int).tolist()), low_pass(65, 16_000, 2).tolist())
    assert samples(up.feed(ulaw) + up.flush()).astype(int).tolist() == want[: 2 * 700 + 64]


@pytest.mark.parametrize("kind", ["noise", "extremes"])
def test_down_equals_integer_arithmetic_to_the_bit(kind: str) -> None:
    random = np.random.default_rng(7)
    values = random.integers(-32_768, 32_768, 2_000) if kind == "noise" else random.choice([-32_768, 32_767], 2_000)
    down = Downsampler()
    want = exact(values.tolist(), low_pass(97, 24_000, 1).tolist())[::3]
    assert down.feed(values.astype("<i2").tobytes()) + down.flush() == pcm_to_ulaw(
        np.array(want).astype("<i2").tobytes()
    )


def test_no_order_of_summation_can_change_a_sum() -> None:
    """The largest sum there can be is an exact integer in float64, so every partial sum is."""
    for taps in (low_pass(65, 16_000, 2), low_pass(97, 24_000, 1)):
        assert int(np.abs(taps).sum()) * 32_768 < 2**53


FINGERPRINT = """
import hashlib, numpy as np
from bot.audio import Downsampler, Upsampler
random = np.random.default_rng(5)
up = Upsampler().feed(random.integers(0, 256, 80_000).astype("u1").tobytes())
down = Downsampler().feed(random.integers(-32_768, 32_768, 240_000).astype("<i2").tobytes())
print(hashlib.sha256(up).hexdigest()[:16], hashlib.sha256(down).hexdigest()[:16])
"""


@pytest.mark.parametrize("kernel", ["Prescott", "Nehalem", "Haswell"])
def test_every_processor_gives_the_same_bytes(kernel: str) -> None:
    """OpenBLAS is made to take the kernels of other processors; where numpy has another BLAS this proves that one."""
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OPENBLAS_CORETYPE": kernel},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["95a341016934c447", "5cda6014f8f5a27c"]


def test_each_packet_gives_its_audio_at_once() -> None:
    up = Upsampler()
    assert [len(up.feed(b"\x40" * FRAME_BYTES)) for _ in range(5)] == [640] * 5


def test_up_is_2_ms_late() -> None:
    up = Upsampler()
    click = pcm_to_ulaw(pcm(np.array([0.0] * 100 + [20_000] + [0] * 300)))
    heard = samples(up.feed(click))
    assert int(np.argmax(heard)) == 2 * 100 + 32  # 32 samples at 16 kHz


def test_down_is_2_ms_late() -> None:
    down = Downsampler()
    click = np.zeros(3_000)
    click[600] = 30_000
    heard = samples(ulaw_to_pcm(down.feed(pcm(click))))
    assert int(np.argmax(heard)) == 600 // 3 + 16  # 16 samples at 8 kHz


@pytest.mark.parametrize("hz", [300, 1_000, 2_000, 3_000, 3_400])
def test_up_leaves_no_image_above_4600_hz(hz: int) -> None:
    up = Upsampler()
    heard = samples(up.feed(pcm_to_ulaw(pcm(tone(hz, 8_000, 1.2)))))[1_600:17_600]
    power = spectrum_db(heard)
    assert power[4_600:].max() < power[hz] - 60
    assert power[8_000 - hz] < power[hz] - 60


@pytest.mark.parametrize("hz", [4_650, 5_000, 6_000, 7_700, 9_000, 11_000])
def test_down_lets_no_alias_through(hz: int) -> None:
    down = Downsampler()
    heard = samples(ulaw_to_pcm(down.feed(pcm(tone(hz, 24_000, amplitude=30_000)))))[200:]
    assert np.sqrt(np.mean(heard**2)) < 30_000 / math.sqrt(2) / 1_000  # 60 dB


@pytest.mark.parametrize(("hz", "loss_db"), [(200, 0.1), (1_000, 0.1), (3_000, 0.1), (3_400, 0.7)])
def test_the_telephone_band_passes(hz: int, loss_db: float) -> None:
    sent = tone(hz, 8_000, 1.2)
    coded = samples(ulaw_to_pcm(pcm_to_ulaw(pcm(sent))))
    up = samples(Upsampler().feed(pcm_to_ulaw(pcm(sent))))[1_600:17_600]
    gain_up = spectrum_db(up)[hz] - spectrum_db(coded[800:8_800])[hz] - 20 * math.log10(2)
    down = samples(ulaw_to_pcm(Downsampler().feed(pcm(tone(hz, 24_000, 1.2)))))[800:8_800]
    gain_down = spectrum_db(down)[hz] - spectrum_db(sent[800:8_800])[hz]
    assert abs(gain_up) < loss_db
    assert abs(gain_down) < loss_db


@pytest.mark.parametrize("converter", ["up", "down"])
def test_the_whole_way_keeps_the_signal_to_the_codec_s_limit(converter: str) -> None:
    """Against the ideal filter in floats: as far off as 16 bit on the way in, as G.711 itself on the way out."""
    random = np.random.default_rng(3)
    if converter == "up":
        ulaw = pcm_to_ulaw(pcm(random.normal(0, 3_000, 8_000)))
        stuffed = np.array(zero_stuffed(samples(ulaw_to_pcm(ulaw)).astype(int).tolist()), dtype=float)
        ideal = np.convolve(stuffed, ideal_low_pass(65, 16_000) * 2)[:16_000]
        heard, floor_db = samples(Upsampler().feed(ulaw)), 70.0
    else:
        source = np.rint(random.normal(0, 3_000, 24_000))
        ideal = np.convolve(source, ideal_low_pass(97, 24_000))[:24_000:3]
        heard, floor_db = samples(ulaw_to_pcm(Downsampler().feed(pcm(source)))), 35.0
    assert 10 * math.log10(np.mean(ideal**2) / np.mean((heard - ideal) ** 2)) > floor_db


def ideal_low_pass(taps: int, rate: int) -> NDArray[np.float64]:
    at = np.arange(taps) - (taps - 1) / 2
    response = np.sinc(7_400 / rate * at) * np.kaiser(taps, 6.0)
    shaped: NDArray[np.float64] = response / response.sum()
    return shaped


def test_a_full_scale_square_wave_clips_and_does_not_wrap() -> None:
    period = np.repeat([32_767.0, -32_768.0], 60)
    square = np.tile(period, 50)
    heard = samples(ulaw_to_pcm(Downsampler().feed(pcm(square))))[16:]
    plateau = heard[: len(heard) // 40 * 40].reshape(-1, 40)
    assert (plateau[:, 5:15] > 25_000).all()
    assert (plateau[:, 25:35] < -25_000).all()

    loudest = pcm_to_ulaw(pcm(np.tile(np.repeat([32_767.0, -32_768.0], 20), 50)))
    waves = samples(Upsampler().feed(loudest))[32:]
    waves = waves[: len(waves) // 80 * 80].reshape(-1, 80)
    assert (waves[:, 10:30] > 25_000).all()
    assert waves.max() == 32_767


@given(st.binary(min_size=0, max_size=1_500), st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=60)
def test_the_cutting_into_chunks_does_not_show(audio: bytes, cuts: list[int]) -> None:
    for converter in (Upsampler(), Downsampler()):
        whole = converter.feed(audio) + converter.flush()
        pieces, rest = b"", audio
        for cut in cuts:
            pieces += converter.feed(rest[:cut])
            rest = rest[cut:]
        assert pieces + converter.feed(rest) + converter.flush() == whole


def test_the_end_of_a_word_comes_with_the_flush() -> None:
    down = Downsampler()
    heard = down.feed(pcm(tone(1_000, 24_000, 0.1)))
    tail = samples(ulaw_to_pcm(down.flush()))
    assert (len(heard), len(tail)) == (800, 32)
    assert np.abs(tail[:14]).max() > 10_000
    assert down.feed(bytes(6)) == b"\xff"  # nothing of it is left


def test_after_a_reset_no_old_audio_is_heard() -> None:
    down, up = Downsampler(), Upsampler()
    down.feed(pcm(tone(1_000, 24_000, 0.1)) + b"\x55")
    up.feed(bytes(FRAME_BYTES))
    down.reset()
    up.reset()
    assert down.feed(bytes(960)) == b"\xff" * 160
    assert up.feed(b"\xff" * FRAME_BYTES) == bytes(640)


# -- who is speaking --------------------------------------------------------------------------------------------------


def measured(meter: SpeechMeter, ulaw: bytes) -> list[bool]:
    return [meter.feed(ulaw[at : at + FRAME_BYTES]) for at in range(0, len(ulaw), FRAME_BYTES)]


def loud_until_ms(speech: NDArray[np.float64]) -> float:
    """Where the last 10 ms lies that is within 35 dB of the loudest: the end of a clean recording's speech."""
    blocks = speech[: len(speech) // 80 * 80].reshape(-1, 80)
    power = np.mean(blocks**2, axis=1)
    return float(np.flatnonzero(power > power.max() / 10**3.5)[-1] + 1) * 10


@pytest.fixture(scope="module")
def spoken() -> NDArray[np.float64]:
    voice = pytest.importorskip("sandbox.voice", reason="the sandbox group (a voice) is not installed").Voice()
    return samples(voice.speak("I need an appointment for a check up on Tuesday at three, please.", rate=8_000))


def telephone_line(speech: NDArray[np.float64], noise_dbov: float, seed: int = 1) -> tuple[bytes, float]:
    """Speech at -26 dBov on a line with white noise, 2 s of noise before and after; and where the speech ends, ms."""
    speech = speech * 10 ** (-26 / 20) * 32_768 / np.sqrt(np.mean(speech**2))
    line = np.concatenate((np.zeros(16_000), speech, np.zeros(16_000)))
    noise = np.random.default_rng(seed).normal(0, 32_768 * 10 ** (noise_dbov / 20), len(line))
    return pcm_to_ulaw(pcm(line + noise)), 2_000 + loud_until_ms(speech)


@pytest.mark.parametrize("noise_dbov", [-90, -65, -55, -50])
def test_the_end_of_speech_is_found_to_60_ms(spoken: NDArray[np.float64], noise_dbov: float) -> None:
    meter = SpeechMeter()
    line, end_ms = telephone_line(spoken, noise_dbov)
    voiced = measured(meter, line)
    assert meter.last_voiced_ms == pytest.approx(end_ms, abs=60)
    assert not any(voiced[:95])
    assert sum(voiced) > 0.4 * (len(line) / FRAME_BYTES - 200)


def test_a_loud_line_without_speech_is_not_voiced() -> None:
    meter = SpeechMeter()
    line, _ = telephone_line(np.ones(8_000), noise_dbov=-35)
    noise = line[:16_000] + line[-16_000:]
    assert sum(measured(meter, noise)) == 0


def test_a_click_is_not_speech() -> None:
    meter = SpeechMeter()
    frames = bytearray(b"\xff" * FRAME_BYTES * 100)
    frames[8_000 : 8_000 + FRAME_BYTES] = b"\x90" * FRAME_BYTES
    measured(meter, bytes(frames))
    assert meter.last_voiced_ms is None


def test_the_floor_follows_a_line_that_becomes_noisy(spoken: NDArray[np.float64]) -> None:
    """A fan switched on is taken for speech for at most the 3 s of the floor's memory."""
    meter = SpeechMeter()
    measured(meter, b"\xff" * 16_000)
    line, _ = telephone_line(spoken, noise_dbov=-40)
    measured(meter, line[:16_000] * 3)
    assert meter.last_voiced_ms is not None
    assert meter.last_voiced_ms <= 2_000 + 3_200


def test_time_counts_whatever_the_frames_length() -> None:
    meter = SpeechMeter()
    for length in (160, 80, 1, 0, 400):
        meter.feed(b"\xff" * length)
    assert meter.stream_ms == pytest.approx(80.125)


HUMAN = sorted(HUMAN_SPEECH.glob("asterisk/*.wav"))[:20] + sorted(HUMAN_SPEECH.glob("pocketsphinx/*librivox*.wav"))


@pytest.mark.skipif(not HUMAN, reason="no recorded human speech in ../shared/data/audio")
def test_the_end_of_human_speech_is_found() -> None:
    errors = []
    for path in HUMAN:
        with wave.open(str(path)) as file:
            rate, recorded = file.getframerate(), samples(file.readframes(file.getnframes()))
        speech = (
            recorded if rate == 8_000 else np.convolve(recorded, ideal_low_pass(65, rate), "same")[:: rate // 8_000]
        )
        meter = SpeechMeter()
        line, end_ms = telephone_line(speech, noise_dbov=-60)
        measured(meter, line)
        errors.append((meter.last_voiced_ms or 0) - end_ms)
    assert np.median(np.abs(errors)) <= 40
    assert np.percentile(np.abs(errors), 90) <= 150
