"""Pause at once, cut on confirmation: what is done when something comes from the caller's side while the bot speaks.

Pure: fed the audio of both sides, 20 ms by 20 ms, it answers when the bot should stop for a moment, go on where it
stopped, or be cut. The caller's frames are its only clock, for they are the carrier's: while one of them is recorded,
20 ms of what was sent are played. It runs only while the bot speaks, and decides nothing for the model, which hears the
caller all the time and has the last word.

What counts as voice is louder than the line's noise, louder than the bot's own echo could be, and speech to WebRTC's
detector. A cough, a click or a small word pauses the bot at most; only who goes on speaking cuts it off. Each figure
here was chosen by ``uv run -m benchmarks.barge_in`` (docs/decisions/0018).

Energies are mean squares of samples (1073741824 is 0 dBov). No sums of floats, so a replay decides the same.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np
import webrtcvad

from bot.audio import CARRIER_HZ, FRAME_BYTES, mean_square, ulaw_to_pcm

ONSET_FRAMES = 3
"""Frames with voice, of the last `ONSET_WINDOW`, that pause the bot."""
ONSET_WINDOW = 4
QUIET_FRAMES = 12
"""So long without voice, and the bot goes on."""
CUT_FRAMES = 42
"""Frames with voice, of the last `CUT_WINDOW`, that cut the bot off without the model's word; a small word has less."""
CUT_WINDOW = 80
MOST_PAUSED_FRAMES = 60
"""Longest pause: what is neither quiet nor speech for so long does not keep the bot from speaking."""
REST_FRAMES = 50
"""After a pause of that length the bot is not paused again for so long."""

_VAD_MODE = 2
_AUDIBLE = 184**2
"""-45 dBov."""
_OVER_FLOOR = 6
"""Voice has so many times the energy of the line's noise (8 dB)."""
_OVER_ECHO = 4.0
"""And so many times that of the echo that is to be expected (6 dB)."""
_STEADY = 4
"""Speech that goes on has loud and weak frames, this far apart at least (6 dB): a tone has not."""

Verdict = Literal["pause", "cut", "quiet", "limit", "protected"]
"""``pause``: the caller has begun to speak, send nothing. ``cut``: he goes on, drop what the bot was saying. The others
mean to go on where it stopped: the caller is ``quiet`` again, it lasted to the ``limit``, or he goes on over words that
are ``protected``, which are then said to their end."""


class EchoGuard:
    """How loud the bot's own voice may be when it comes back from the caller's side.

    An echo is what was played, some time ago and so much weaker. For each delay up to `FRAMES` it is known what share
    of the energy came back at least: it falls quickly where less comes back, rises slowly where more does, and is
    `_FIRST` before anything was heard. The loudest echo that any delay allows is to be expected.
    """

    FRAMES = 30
    """600 ms: what waits at the carrier, the network both ways, and a room."""
    _FIRST = 0.063
    """-12 dB: an unknown line is taken for one with a strong echo."""
    _FALLS, _RISES = 0.2, 0.03
    _TELLING = 327**2
    """-40 dBov: what was played more softly tells nothing about its echo."""
    _OVER_FLOOR = 8
    """Noise of the line is no echo: nothing rises by what is not so many times above it (9 dB)."""

    def __init__(self) -> None:
        self._line = np.zeros(8 * self.FRAMES)
        self._now = len(self._line) - self.FRAMES - 1
        self._share = np.full(self.FRAMES, self._FIRST)
        self._doubt = np.zeros(self.FRAMES)
        self._played = np.zeros(self.FRAMES)

    def play(self, energy: int) -> None:
        """20 ms more were played."""
        if self._now == 0:
            kept = self.FRAMES
            self._now = len(self._line) - kept
            self._line[self._now :] = self._line[:kept]
        self._now -= 1
        self._line[self._now] = energy
        # The echo of a frame may begin anywhere within one of ours.
        window = self._line[self._now : self._now + self.FRAMES + 1]
        self._played = np.maximum(window[:-1], window[1:])

    def expected(self) -> float:
        """The energy that an echo may have now."""
        return float((self._played * self._share).max())

    def learn(self, energy: int, floor: int) -> None:
        """A frame of the caller's side without voice had this energy; `floor` is that of the line's noise."""
        change = self._returned(energy) - self._share
        rise = self._RISES if energy > floor * self._OVER_FLOOR else 0.0
        change *= np.where(change > 0, rise, self._FALLS)
        change[self._played <= self._TELLING] = 0
        self._share += change

    def doubt(self, energy: int) -> None:
        """A frame with voice: the caller's, or else an echo that is stronger than was known."""
        returned = self._returned(energy)
        returned[self._played <= self._TELLING] = 0
        np.maximum(self._doubt, returned, out=self._doubt)

    def settle(self, *, was_caller: bool) -> None:
        """What was doubted turned out to be the caller's, or not."""
        if not was_caller:
            np.maximum(self._share, 0.5 * self._doubt, out=self._share)
        self._doubt[:] = 0

    def _returned(self, energy: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.minimum(energy / np.maximum(self._played, self._TELLING), self._FIRST)


class BargeIn:
    """When to pause, resume and cut the bot on one line.

    Tell it what was `sent` to the carrier, ask it about each frame that comes back (`hear`), and say when what was sent
    was `dropped`: then nothing is paused any more.
    """

    def __init__(self) -> None:
        self.paused_frames: int | None = None
        """How long the bot is paused; None while it is not."""
        self._vad = webrtcvad.Vad(_VAD_MODE)
        self._echo = EchoGuard()
        self._waiting = bytearray()
        self._onset = 0  # a bit for each of the last frames, set where it has voice
        self._voices: deque[int] = deque(
            [0] * CUT_WINDOW, CUT_WINDOW
        )  # the energies of frames with voice; 0 for the others
        self._quiet = 0
        self._rest = 0
        self._protected = False
        self._idle = True

    def sent(self, mulaw: bytes) -> None:
        """Audio of the bot went to the carrier."""
        self._waiting += mulaw
        self._idle = False

    def dropped(self) -> None:
        """What was sent will not be played, and what was paused will not go on."""
        self._waiting.clear()
        self._begin_anew()

    def hear(self, mulaw: bytes, energy: int, floor: int, *, may_cut: bool = True) -> Verdict | None:
        """20 ms of the caller's side, with their energy and that of the line's noise (`bot.audio.SpeechMeter`).

        `may_cut`: whether the words that the bot is saying may be cut off. Gives a verdict when something changes.
        """
        if self._idle:
            return None
        speaks = self._play()
        if not speaks and self.paused_frames is None:
            self._fall_silent()
            return None
        is_voice = self._is_voice(mulaw, energy, floor)
        self._voices.append(energy if is_voice else 0)
        if is_voice:
            self._echo.doubt(energy)
        if self.paused_frames is None:
            return self._watch(energy, floor, is_voice)
        self.paused_frames += 1
        self._quiet = 0 if is_voice else self._quiet + 1
        return self._judge_pause(may_cut)

    def _play(self) -> bool:
        frame = bytes(self._waiting[:FRAME_BYTES])
        del self._waiting[:FRAME_BYTES]
        self._echo.play(mean_square(frame) if frame else 0)
        return bool(frame)

    def _fall_silent(self) -> None:
        # Between two packets of the bot the line may run dry for a moment: only a real silence ends its speech.
        self._quiet += 1
        if self._quiet > EchoGuard.FRAMES:
            self._begin_anew()
            self._idle, self._protected = True, False

    def _is_voice(self, mulaw: bytes, energy: int, floor: int) -> bool:
        gate = max(_AUDIBLE, floor * _OVER_FLOOR, self._echo.expected() * _OVER_ECHO)
        whole = len(mulaw) == FRAME_BYTES
        return energy > gate and whole and bool(self._vad.is_speech(ulaw_to_pcm(mulaw), CARRIER_HZ))

    def _watch(self, energy: int, floor: int, is_voice: bool) -> Verdict | None:
        self._quiet = 0
        self._rest = max(0, self._rest - 1)
        self._onset = (self._onset << 1 | is_voice) & (1 << ONSET_WINDOW) - 1
        if not is_voice:
            self._echo.learn(energy, floor)
        if self._rest or self._protected or self._onset.bit_count() < ONSET_FRAMES:
            return None
        self.paused_frames = 0
        return "pause"

    def _judge_pause(self, may_cut: bool) -> Verdict | None:
        assert self.paused_frames is not None
        if self._goes_on():
            if may_cut:
                self._begin_anew()
                return "cut"
            self._protected = True
            return self._go_on("protected", was_caller=True)
        if self._quiet >= QUIET_FRAMES:
            return self._go_on("quiet", was_caller=False)
        if self.paused_frames >= MOST_PAUSED_FRAMES:
            self._rest = REST_FRAMES
            return self._go_on("limit", was_caller=False)
        return None

    def _goes_on(self) -> bool:
        if CUT_WINDOW - self._voices.count(0) < CUT_FRAMES:
            return False
        spoken = sorted(energy for energy in self._voices if energy)
        return spoken[-1] >= _STEADY * spoken[len(spoken) // 5]

    def _go_on(self, verdict: Verdict, *, was_caller: bool) -> Verdict:
        # Who falls silent for a breath and speaks on has spoken all the while: `_voices` stay.
        self.paused_frames = None
        self._quiet = self._onset = 0
        self._echo.settle(was_caller=was_caller)
        return verdict

    def _begin_anew(self) -> None:
        self.paused_frames = None
        self._quiet = self._onset = 0
        self._voices.clear()
        self._voices.extend([0] * CUT_WINDOW)
        self._echo.settle(was_caller=True)
