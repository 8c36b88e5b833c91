"""What is on a stand-in caller's line besides the caller."""

from __future__ import annotations

import numpy as np

from sandbox import sound
from sandbox.conversation import Conversation, Spoken
from sandbox.surroundings import Surroundings

TONE = sound.tone((440,), 20, dbfs=-10)


class Hummer:
    """Says the same all the time."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def prepare(self, _voice: object) -> None:
        pass

    def tick(self, _heard: bytes) -> Spoken:
        return Spoken(self._frame, keys="5")


def test_what_is_heard_comes_back_as_late_and_weak_as_asked() -> None:
    line = Surroundings(Conversation(), echo_db=-20, echo_ms=100)
    back = [line.tick(TONE if n == 0 else sound.SILENT_FRAME).audio for n in range(8)]
    levels = [sound.level(frame) for frame in back]
    assert [n for n, level in enumerate(levels) if level > -60] == [5]
    assert abs(levels[5] - (sound.level(TONE) - 20)) < 1


def test_noise_goes_round_and_round_under_the_caller() -> None:
    noise = sound.encode((np.arange(400) * 10).astype("<i2").tobytes())
    line = Surroundings(Conversation(), noise=noise)
    heard = b"".join(line.tick(sound.SILENT_FRAME).audio for _ in range(10))
    assert heard == (noise * 4)[:1600]


def test_the_caller_is_still_there() -> None:
    alone = Surroundings(Hummer(TONE)).tick(sound.SILENT_FRAME)
    assert (alone.audio, alone.keys) == (TONE, "5")
    noisy = Surroundings(Hummer(TONE), noise=sound.tone((900,), 20, dbfs=-10)).tick(sound.SILENT_FRAME)
    assert sound.level(noisy.audio) > sound.level(TONE) + 2
    assert noisy.keys == "5"


def test_an_echo_as_loud_as_can_be_is_clipped() -> None:
    loud = sound.encode(np.full(160, 32_000, "<i2").tobytes())
    did = Surroundings(Hummer(loud), echo_db=0).tick(loud)
    assert sound.decode(did.audio).min() > 31_000
