"""Telephone audio: G.711 mu-law, the two low-delay converters around it, and a meter of the caller's voice.

The carrier speaks 8 kHz mu-law in frames of 20 ms (160 bytes); the model hears 16 kHz and speaks 24 kHz linear PCM
(signed 16 bit, little endian, mono: s16le). `Upsampler` and `Downsampler` convert with 2.0 ms of delay each and carry
their state from chunk to chunk: the same audio gives the same bytes however it is cut into chunks, on every machine
(docs/decisions/0002). Nothing here looks at a clock or does I/O.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

CARRIER_HZ = 8_000
MODEL_IN_HZ = 16_000
MODEL_OUT_HZ = 24_000
FRAME_MS = 20
FRAME_BYTES = 160
"""Bytes of one 20 ms frame of mu-law."""
ULAW_SILENCE = 0xFF
"""The code of a zero sample: 160 of it are a silent frame."""

_Q15 = 32_768


# -- G.711 ------------------------------------------------------------------------------------------------------------


def _decode_table() -> NDArray[np.int16]:
    """The sample of each code (ITU-T G.711 table 2a): codes are sent inverted; sign, 3 bits segment, 4 bits step."""
    code = ~np.arange(256) & 0xFF
    segment, step = (code >> 4) & 7, code & 15
    magnitude = (((step << 3) + 0x84) << segment) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _encode_table() -> NDArray[np.uint8]:
    """The code of each sample, indexed by the sample's 16 bits read as unsigned.

    As in the G.711 tables, the 14 upper bits count; ties on negative decision values fall as in CPython's ``audioop``
    (one step from ITU-T G.191's vectors on 508 of 65,536 samples).
    """
    sample = np.arange(65_536).astype(np.uint16).view(np.int16).astype(np.int32) >> 2
    magnitude = np.minimum(np.abs(sample), 8_159) + 33
    segment = np.sum([magnitude > (0x40 << n) - 1 for n in range(8)], axis=0)
    step = (magnitude >> (segment + 1)) & 15
    code = np.where(segment > 7, 0x7F, (segment << 4) | step)
    return (code ^ np.where(sample < 0, 0x7F, 0xFF)).astype(np.uint8)


_DECODE = _decode_table()
_DECODE_FLOAT = _DECODE.astype(np.float64)
_ENCODE = _encode_table()


def ulaw_to_pcm(ulaw: bytes) -> bytes:
    """Mu-law to s16le at the same rate: one byte in, two bytes out."""
    return _DECODE[np.frombuffer(ulaw, np.uint8)].astype("<i2").tobytes()


def pcm_to_ulaw(pcm: bytes) -> bytes:
    """s16le to mu-law at the same rate: two bytes in, one byte out.

    Raises ``ValueError`` for an odd number of bytes.
    """
    return bytes(_ENCODE[np.frombuffer(pcm, "<i2").view("<u2")])


# -- rate conversion --------------------------------------------------------------------------------------------------


def low_pass(taps: int, rate_hz: int, gain: int) -> NDArray[np.int64]:
    """The converters' filter: a windowed sinc, cut-off 3700 Hz, Kaiser beta 6, in Q15 integers (32768 is 1.0).

    The unrounded values lie at least 0.0018 from a rounding boundary, so every machine gets the same integers.
    """
    centred = np.arange(taps) - (taps - 1) / 2
    response = np.sinc(2 * 3_700 / rate_hz * centred) * np.kaiser(taps, 6.0)
    quantised: NDArray[np.int64] = np.rint(response / response.sum() * gain * _Q15).astype(np.int64)
    return quantised


_UP = low_pass(65, MODEL_IN_HZ, gain=2)
_DOWN = low_pass(97, MODEL_OUT_HZ, gain=1)
_UP_HISTORY = 32
_DOWN_HISTORY = len(_DOWN) - 1

# Integers in float64: samples below 2^15 times coefficients below 2^15, at most 97 of them, stay below 2^53, so each
# product and each partial sum is exact (also divided by the power of two of Q15) and the order of the summation (the
# CPU's BLAS kernel) cannot show.


def _up_matrix(block: int) -> NDArray[np.float64]:
    """Gives 2 * `block` outputs for `block` inputs and the history before them: for each, the even and the odd taps."""
    matrix = np.zeros((_UP_HISTORY + block, 2 * block))
    for i in range(block):
        matrix[i : i + 33, 2 * i] = _UP[0::2][::-1]
        matrix[i + 1 : i + 33, 2 * i + 1] = _UP[1::2][::-1]
    return matrix / _Q15


def _down_matrix(block: int) -> NDArray[np.float64]:
    """Gives `block` outputs for three times as many inputs (less the last two) and the history before them."""
    matrix = np.zeros((_DOWN_HISTORY + 3 * block - 2, block))
    for i in range(block):
        matrix[3 * i : 3 * i + len(_DOWN), i] = _DOWN[::-1]
    return matrix / _Q15


_BLOCK = 16
"""Outputs (pairs of outputs on the way up) for each row of the product: few zeros are multiplied, and few rows."""
_UP_MATRIX = _up_matrix(_BLOCK)
_DOWN_MATRIX = _down_matrix(_BLOCK)


_SAMPLE = np.arange(-32_768, 32_768).astype("<i2")
_CODE = _ENCODE[_SAMPLE.view(np.uint16)]


def _rows(window: NDArray[np.float64], step: int, length: int) -> NDArray[np.float64]:
    """`window`, which must be contiguous, as rows of `length` samples, each `step` samples after the last."""
    return np.ndarray(((len(window) - length) // step + 1, length), np.float64, window, 0, (8 * step, 8))


def _filter(rows: NDArray[np.float64], matrix: NDArray[np.float64], table: NDArray[np.generic]) -> NDArray[np.generic]:
    """One product for all outputs: each row by `matrix`.

    Rounds half up, clips to 16 bit and gives of each what `table` has, which begins at -32768: numpy does the latter
    three in one, for a third of what they take one by one.
    """
    place: NDArray[np.float64] = np.dot(rows, matrix)
    place += 32_768.5
    return table.take(place.astype(np.intp), mode="clip")


class Upsampler:
    """The caller's audio for the model: 8 kHz mu-law to 16 kHz s16le, 2.0 ms late.

    A 65-tap FIR in polyphase form: each input sample gives one output of the even taps and one of the odd taps.
    """

    def __init__(self) -> None:
        self._length = 0
        self._window = np.zeros(_UP_HISTORY)  # history, and the `_length` samples after it that were fed last
        self._room(FRAME_BYTES)

    def feed(self, ulaw: bytes) -> bytes:
        """Convert any number of bytes; each gives 4 bytes at once (160 give 640)."""
        if not ulaw:
            return b""
        self._room(len(ulaw))
        _DECODE_FLOAT.take(np.frombuffer(ulaw, np.uint8), mode="clip", out=self._fed)
        return self._convert()

    def flush(self) -> bytes:
        """The 4 ms (128 bytes) still in the filter; then as new."""
        self._room(_UP_HISTORY)
        self._fed.fill(0)
        tail = self._convert()
        self.reset()
        return tail

    def reset(self) -> None:
        """Forget what was fed."""
        self._window.fill(0)

    def _room(self, length: int) -> None:
        """Make history of what was fed last, and room for `length` samples: the same as long as frames are alike."""
        history = self._window[self._length : self._length + _UP_HISTORY]
        if length != self._length:
            self._length = length
            self._window = np.zeros(_UP_HISTORY + length + -length % _BLOCK)
            self._fed = self._window[_UP_HISTORY : _UP_HISTORY + length]
            self._rows = _rows(self._window, _BLOCK, len(_UP_MATRIX))
        self._window[:_UP_HISTORY] = history

    def _convert(self) -> bytes:
        return _filter(self._rows, _UP_MATRIX, _SAMPLE).tobytes()[: 4 * self._length]


class Downsampler:
    """The model's audio for the caller: 24 kHz s16le to 8 kHz mu-law, 2.0 ms late.

    A 97-tap FIR of which every third output is kept. `reset` it when the caller interrupts, `flush` it when a turn of
    the model ends, so that neither an old tail enters a new answer nor the end of a word is lost.
    """

    def __init__(self) -> None:
        self._half_sample = b""
        self._held = np.zeros(_DOWN_HISTORY)

    def feed(self, pcm: bytes) -> bytes:
        """Convert any number of bytes, half samples included; n samples fed in all give ceil(n / 3) bytes in all."""
        pcm = self._half_sample + pcm
        whole = len(pcm) & ~1
        self._half_sample = pcm[whole:]
        return self._convert(np.frombuffer(pcm, "<i2", whole // 2))

    def flush(self) -> bytes:
        """The 4 ms (32 bytes) still in the filter; then as new. A half sample at the end is dropped."""
        tail = self._convert(np.zeros(_DOWN_HISTORY, "<i2"))
        self.reset()
        return tail

    def reset(self) -> None:
        """Forget what was fed."""
        self._half_sample = b""
        self._held = np.zeros(_DOWN_HISTORY)

    def _convert(self, samples: NDArray[np.int16]) -> bytes:
        held = len(self._held)
        filled = held + len(samples)
        outputs = max(0, (filled - _DOWN_HISTORY + 2) // 3)
        padded = outputs + -outputs % _BLOCK
        window = np.zeros(max(filled, _DOWN_HISTORY + 3 * padded))
        window[:held] = self._held
        window[held:filled] = samples
        self._held = window[3 * outputs : filled]
        if not outputs:
            return b""
        return _filter(_rows(window, 3 * _BLOCK, len(_DOWN_MATRIX)), _DOWN_MATRIX, _CODE).tobytes()[:outputs]


def mean_square(ulaw: bytes) -> int:
    """The energy of mu-law audio (at least one byte): 1073741824 is 0 dBov."""
    samples = _DECODE_FLOAT.take(np.frombuffer(ulaw, np.uint8), mode="clip")
    return int(samples.dot(samples)) // len(ulaw)  # whole numbers below 2^53: exact in any order


# -- who is speaking --------------------------------------------------------------------------------------------------


class SpeechMeter:
    """Tells which frames of the caller carry voice, by their energy over an adaptive noise floor.

    It judges response times, not turns: the question it answers is when the caller's last voiced audio reached us.
    The floor is the quietest frame of the last 3 s (minimum statistics); a frame is loud at 9 dB over the floor (6 dB
    once speech runs) and above -50 dBov, voiced when the frame before it was loud too, so that a click is no speech.
    All arithmetic is on integers, so a replay measures the same.
    """

    _WINDOW_FRAMES = 25
    _WINDOWS = 6
    _AUDIBLE = 104**2
    """-50 dBov as a mean square."""
    _HIGHEST_FLOOR = 1_036**2
    """-30 dBov: a call that begins in the middle of a word must not take the word for noise."""

    def __init__(self) -> None:
        self.stream_ms = 0.0
        """Audio fed so far, in ms."""
        self.last_voiced_ms: float | None = None
        """Where the last voiced frame ended, in ms of the stream; None before the first."""
        self.energy = 0
        """Of the last frame, as a mean square (1073741824 is 0 dBov)."""
        self.floor = self._HIGHEST_FLOOR
        """Of the noise, as a mean square."""
        self._loud = False
        self._voiced = False
        self._frames = 0
        self._minima: deque[int] = deque([self._HIGHEST_FLOOR], maxlen=self._WINDOWS)

    def feed(self, ulaw: bytes) -> bool:
        """Judge one frame of 8 kHz mu-law (20 ms, 160 bytes; other lengths are judged as one frame as well)."""
        if not ulaw:
            return False
        self.stream_ms += len(ulaw) * 1_000 / CARRIER_HZ
        self.energy = mean_square(ulaw)
        self.floor = self._quietest(self.energy)
        ratio = 4 if self._voiced else 8
        loud = self.energy > max(self.floor * ratio, self._AUDIBLE)
        self._voiced = loud and self._loud
        self._loud = loud
        if self._voiced:
            self.last_voiced_ms = self.stream_ms
        return self._voiced

    def _quietest(self, energy: int) -> int:
        self._frames += 1
        if self._frames % self._WINDOW_FRAMES == 0:
            self._minima.append(energy)
        elif energy < self._minima[-1]:
            self._minima[-1] = energy
        return min(self._HIGHEST_FLOOR, *self._minima)
