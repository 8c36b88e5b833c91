"""The stereo recording of a call, left the caller, right the bot as the caller heard it, written piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import soundfile
from numpy.typing import NDArray

from bot.audio import CARRIER_HZ, ULAW_SILENCE, Upsampler, ulaw_to_pcm
from bot.tape import TapeReader
from records.derive.caller import SAMPLES_PER_MS, Piece
from records.derive.timeline import Timeline, pieces

PEAKS = 1_600
"""Points of the waveform for each channel: what fits on a wide screen."""
CALLER, BOT = 0, 1
_BLOCK = 10_000 * SAMPLES_PER_MS
_LATE = 10_000 * SAMPLES_PER_MS
"""Audio is final when the caller's is this far ahead of it: nothing is placed earlier by the marks."""
_AHEAD = 660_000 * SAMPLES_PER_MS
"""The carrier keeps at most ten minutes of the bot's audio waiting (Twilio's warning 31931)."""


@dataclass(frozen=True)
class Recording:
    """The files of one recording.

    ``flac`` is for keeping, ``opus`` (in Ogg) for listening: both 8 kHz stereo, seekable, of the same length. ``peaks``
    is JSON for a waveform: ``{"ms": length, "caller": [...], "bot": [...]}``, up to 1,600 points of 0 to 255 each,
    evenly spread over the length.
    """

    flac: Path
    opus: Path
    peaks: Path
    duration_ms: float


def write_recording(tape: TapeReader, timeline: Timeline, folder: Path) -> Recording | None:
    """Write the recording of the tape that `timeline` was read from into `folder`; None where nothing was heard.

    Makes ``stereo.flac``, ``stereo.ogg`` and ``peaks.json``. Blocking: about 30 s of CPU for an hour of call, most of
    it Opus, in memory that does not grow with the call.
    Raises ``OSError`` and ``soundfile.LibsndfileError`` from the disk.
    """
    if not timeline.samples:
        return None
    recording = Recording(
        folder / "stereo.flac", folder / "stereo.ogg", folder / "peaks.json", timeline.samples / SAMPLES_PER_MS
    )
    waveform = _Waveform(timeline.samples)
    with ExitStack() as files:
        writers = [
            files.enter_context(soundfile.SoundFile(path, "w", CARRIER_HZ, 2, format=container, subtype=coding))
            for path, container, coding in ((recording.flac, "FLAC", "PCM_16"), (recording.opus, "OGG", "OPUS"))
        ]
        for block in blocks(tape, timeline):
            for writer in writers:
                writer.write(block)
            waveform.add(block)
    recording.peaks.write_bytes(orjson.dumps(waveform.told(recording.duration_ms)))
    return recording


def blocks(tape: TapeReader, timeline: Timeline) -> Iterator[NDArray[np.int16]]:
    """The recording from its beginning to its end, in blocks of some seconds: int16, one column for each channel."""
    canvas = _Canvas(timeline.samples)
    caller_end = 0
    for channel, piece in pieces(tape, timeline):
        if channel == "caller":
            caller_end = max(caller_end, piece.end)
            canvas.put(CALLER, piece)
        else:
            canvas.put(BOT, piece)
        yield from canvas.finished(max(caller_end - _LATE, canvas.end - _AHEAD))
    yield from canvas.finished(timeline.samples + _BLOCK)


class _Canvas:
    """The part of the recording that is not final yet: mu-law, silent where nothing was put."""

    def __init__(self, samples: int) -> None:
        self.end = 0
        """The sample behind the last that was put."""
        self._samples = samples
        self._start = 0
        self._ulaw = np.full((2, 2 * (_LATE + _BLOCK)), ULAW_SILENCE, np.uint8)

    def put(self, channel: int, piece: Piece) -> None:
        start, end = max(piece.start, self._start), min(piece.end, self._samples)
        if end <= start:
            return
        while end - self._start > self._ulaw.shape[1]:
            self._ulaw = np.concatenate((self._ulaw, np.full_like(self._ulaw, ULAW_SILENCE)), axis=1)
        audio = np.frombuffer(piece.mulaw, np.uint8)[start - piece.start : end - piece.start]
        self._ulaw[channel, start - self._start : end - self._start] = audio
        self.end = max(self.end, end)

    def finished(self, until: int) -> Iterator[NDArray[np.int16]]:
        """Hand out what lies before `until`, whole blocks only but for the last of the recording."""
        while self._start + _BLOCK <= until and self._start < self._samples:
            size = min(_BLOCK, self._samples - self._start)
            yield np.frombuffer(ulaw_to_pcm(self._ulaw[:, :size].T.tobytes()), "<i2").reshape(-1, 2)
            kept = self._ulaw.shape[1] - size
            self._ulaw[:, :kept] = self._ulaw[:, size:]
            self._ulaw[:, kept:] = ULAW_SILENCE
            self._start += size


class _Waveform:
    """The loudest sample of each stretch of the recording."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._points = min(PEAKS, samples)
        self._peaks = np.zeros((2, self._points), np.int32)
        self._at = 0

    def add(self, block: NDArray[np.int16]) -> None:
        point = (self._at + np.arange(len(block), dtype=np.int64)) * self._points // self._samples
        first = np.flatnonzero(np.diff(point, prepend=-1))
        for channel in (CALLER, BOT):
            loudest = np.maximum.reduceat(np.abs(block[:, channel].astype(np.int32)), first)
            held = self._peaks[channel, point[first]]
            self._peaks[channel, point[first]] = np.maximum(held, loudest)
        self._at += len(block)

    def told(self, duration_ms: float) -> dict[str, object]:
        caller, bot = (np.minimum(255, channel * 255 // 32_124).tolist() for channel in self._peaks)
        return {"ms": duration_ms, "caller": caller, "bot": bot}


def caller_audio(tape: TapeReader, timeline: Timeline, stretches: Sequence[tuple[int, int]]) -> list[bytes]:
    """The caller's audio in some stretches of samples, each as s16le at 16 kHz."""
    found = [bytearray(bytes([ULAW_SILENCE]) * (end - start)) for start, end in stretches]
    for channel, piece in pieces(tape, timeline):
        if channel != "caller":
            continue
        for (start, end), audio in zip(stretches, found, strict=True):
            first, last = max(piece.start, start), min(piece.end, end)
            if first < last:
                audio[first - start : last - start] = piece.mulaw[first - piece.start : last - piece.start]
    return [Upsampler().feed(bytes(audio)) for audio in found]
