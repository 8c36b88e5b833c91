"""A caller made of flesh: microphone and loudspeaker of this machine, through the optional package `sounddevice`."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Self

from sandbox import sound
from sandbox.conversation import Speaker, Spoken

# Frames kept for the loudspeaker; what is later than this is dropped, so that the delay does not grow.
_MOST_WAITING = 10


class NoMicrophone(Exception):
    """There is no way to talk on this machine; the message says what to install."""


class Microphone:
    """A caller (`sandbox.conversation.Caller`) who talks and listens. Use as a context manager. Raises NoMicrophone."""

    def __init__(self) -> None:
        try:
            import sounddevice
        except ImportError:
            raise NoMicrophone(
                "--mic needs the package sounddevice. Install it with: uv run --extra mic -m sandbox call --mic"
            ) from None
        except OSError as problem:
            raise NoMicrophone(
                f"--mic needs the PortAudio library ({problem}). On Debian or Ubuntu: apt install libportaudio2"
            ) from None
        self._device = sounddevice
        self._lock = threading.Lock()
        self._said: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._heard: deque[bytes] = deque(maxlen=_MOST_WAITING)

    def __enter__(self) -> Self:
        try:
            self._stream = self._device.RawStream(
                samplerate=sound.RATE, blocksize=sound.FRAME, channels=1, dtype="int16", callback=self._exchange
            )
            self._stream.start()
        except self._device.PortAudioError as problem:
            raise NoMicrophone(f"--mic cannot open microphone and loudspeaker: {problem}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _exchange(self, recorded: Any, wanted: Any, frames: int, time: Any, status: Any) -> None:
        """Called by the sound card's thread for every 20 ms."""
        with self._lock:
            self._said.append(sound.encode(bytes(recorded)))
            heard = self._heard.popleft() if self._heard else sound.SILENT_FRAME
        wanted[:] = sound.decode(heard).astype("<i2").tobytes()

    def prepare(self, voice: Speaker) -> None:
        """See `sandbox.conversation.Caller`."""

    def tick(self, heard: bytes) -> Spoken:
        """See `sandbox.conversation.Caller`."""
        with self._lock:
            self._heard.append(heard)
            return Spoken(self._said.popleft() if self._said else sound.SILENT_FRAME)
