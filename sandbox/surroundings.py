"""What is on a caller's line besides the caller: the echo of what is heard, and noise."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from sandbox import sound
from sandbox.conversation import Caller, Speaker, Spoken


@dataclass
class Surroundings:
    """A caller (`sandbox.conversation.Caller`) with an echo and noise around.

    What is heard comes back into the microphone `echo_ms` later (rounded down to 20 ms), changed by `echo_db` (None: no
    echo; lines have -12 to -30). `noise` is mu-law and is repeated without end, from the first frame on.
    """

    caller: Caller
    echo_db: float | None = None
    echo_ms: int = 0
    noise: bytes = b""
    _on_the_way: deque[bytes] = field(init=False, repr=False)
    _ticks: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._on_the_way = deque([sound.SILENT_FRAME] * (self.echo_ms // sound.FRAME_MS))

    def prepare(self, voice: Speaker) -> None:
        """See `Caller.prepare`."""
        self.caller.prepare(voice)

    def tick(self, heard: bytes) -> Spoken:
        """See `Caller.tick`."""
        did = self.caller.tick(heard)
        mixed = sound.decode(did.audio).astype(np.float64)
        self._on_the_way.append(heard)
        back = self._on_the_way.popleft()
        if self.echo_db is not None:
            mixed += sound.decode(back) * 10 ** (self.echo_db / 20)
        if self.noise:
            mixed += sound.decode(self._noise())
        self._ticks += 1
        if self.echo_db is None and not self.noise:
            return did
        return replace(did, audio=sound.encode(np.clip(np.rint(mixed), -32768, 32767).astype(np.int16)))

    def _noise(self) -> bytes:
        at = self._ticks * sound.FRAME % len(self.noise)
        frame = self.noise[at : at + sound.FRAME]
        while len(frame) < sound.FRAME:
            frame += self.noise[: sound.FRAME - len(frame)]
        return frame
