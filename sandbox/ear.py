"""The ear: when somebody speaks (`TurnDetector`) and what was said (`Ear`).

The recogniser is pocketsphinx with the acoustic model from its wheel. It knows only what its `Grammar` lists, so it
is a stand-in for a speech model: good enough to tell which of the expected things was said over a telephone.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import webrtcvad
from numpy.typing import NDArray
from pocketsphinx import Decoder

from sandbox.accent import cepstra, conditioned, model_folder
from sandbox.automaton import Automaton, compile_jsgf
from sandbox.grammar import Grammar
from sandbox.pronunciation import PHONES, pronounce
from sandbox.voice import Voice

__all__ = ["Ear", "Grammar", "Heard", "SpeechEnded", "SpeechStarted", "TurnDetector"]

_RATE = 16_000
_FRAME_MS = 20
_FRAME_BYTES = _RATE * 2 * _FRAME_MS // 1000

_QUIETEST_RMS = 30.0
_MOST_GRAMMARS = 6
_PIECE_FRAMES = 10
_SCORE_SCALE = 1024  # pocketsphinx keeps acoustic scores shifted by 10 bits (SENSCR_SHIFT)

# Found by trying on the sentences of tests/sandbox/test_ear.py. Narrower beams lose words, wider ones only take longer;
# the search for the best path through the lattice gives sentences that the grammar does not have.
_SETTINGS = {
    "bestpath": False,
    "lw": 4.0,
    "wip": 0.2,
    "silprob": 0.1,
    "beam": 1e-44,
    "pbeam": 1e-44,
    "wbeam": 1e-22,
}
_ANY_SOUND = "any sound"
_LOWEST_FIT = -1.2


@dataclass(frozen=True)
class Heard:
    """The best guess, and how well the sound fits its words: log likelihood per 10 ms frame, less that of the best
    string of any speech sounds (0 is a perfect fit, nonsense is far below)."""

    text: str
    fit: float


class Ear:
    """Speech recogniser. Thread-safe, one utterance at a time.

    Loads its acoustic model (0.2 s) at the first utterance and prepares each new grammar once (0.4 s, 45 MB); then it
    takes a tenth of the time that the speech took. The same audio and grammar always give the same words.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._voice = Voice()
        self._decoder: Any = None
        self._prepared: OrderedDict[Grammar, str] = OrderedDict()
        self._searches = 0

    def hear(self, pcm16k: bytes, grammar: Grammar) -> str:
        """The words in s16le mono at 16 kHz, lower case without punctuation; "" where nothing fits the grammar."""
        heard = self.listen(pcm16k, grammar)
        return heard.text if heard.fit > _LOWEST_FIT else ""

    def prepare(self, grammar: Grammar) -> None:
        """Get ready for `grammar`, so that the next utterance need not wait for it."""
        with self._lock:
            self._prepare(grammar)

    def listen(self, pcm16k: bytes, grammar: Grammar) -> Heard:
        """The best guess, however bad."""
        samples = conditioned(np.frombuffer(pcm16k[: len(pcm16k) // 2 * 2], dtype="<i2"))
        if samples is None:
            return Heard("", -np.inf)
        rows = cepstra(samples)
        with self._lock:
            text, score = self._decode(rows, self._prepare(grammar))
            _, best = self._decode(rows, _ANY_SOUND) if text else ("", 0.0)
        return Heard(text, (score - best) / len(rows) if text else -np.inf)

    def _prepare(self, grammar: Grammar) -> str:
        """The name of the search for `grammar`; the least used of too many is forgotten."""
        if self._decoder is None:
            self._decoder = _load()
        if grammar not in self._prepared:
            for word in grammar.vocabulary:
                if self._decoder.lookup_word(word) is None:
                    self._decoder.add_word(word, pronounce(word, self._voice), False)
            self._searches += 1
            name = f"grammar {self._searches}"
            automaton = compile_jsgf(grammar.jsgf, "utterance")
            arcs = [*_weighted(automaton), *((state, automaton.states, 1.0) for state in automaton.final)]
            self._decoder.add_fsg(name, self._decoder.create_fsg(name, 0, automaton.states, arcs))
            self._prepared[grammar] = name
        if len(self._prepared) > _MOST_GRAMMARS:
            self._decoder.remove_search(self._prepared.popitem(last=False)[1])
        self._prepared.move_to_end(grammar)
        return self._prepared[grammar]

    def _decode(self, rows: NDArray[np.float32], search: str) -> tuple[str, float]:
        """Words and the log likelihood of their sounds."""
        self._decoder.activate_search(search)
        self._decoder.start_utt()
        # In short pieces: the recogniser does not let other threads run while it works.
        for at in range(0, len(rows), _PIECE_FRAMES):
            self._decoder.process_cep(rows[at : at + _PIECE_FRAMES].tobytes(), False, False)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        likelihood = sum(math.log(max(segment.ascore, 1e-300)) for segment in self._decoder.seg() or ())
        return (hypothesis.hypstr, likelihood * _SCORE_SCALE) if hypothesis else ("", 0.0)


def _load() -> Any:
    with model_folder() as folder:
        decoder = Decoder(hmm=folder, lm=None, loglevel="FATAL", **_SETTINGS)
    phones = {f"sound_{phone.lower()}": phone for phone in PHONES}
    for word, phone in phones.items():
        decoder.add_word(word, phone, False)
    arcs = [(0, 0, 1 / len(phones), word) for word in phones]
    decoder.add_fsg(_ANY_SOUND, decoder.create_fsg(_ANY_SOUND, 0, 1, [*arcs, (0, 1, 1.0)]))
    return decoder


def _weighted(automaton: Automaton) -> Iterator[tuple[int, int, float, str]]:
    """Arcs with probabilities: ways on are equally likely, and words that lead the same way share one (all surnames
    together are as likely as "please")."""
    ways: dict[int, Counter[int]] = defaultdict(Counter)
    for state, _, to in automaton.arcs:
        ways[state][to] += 1
    for state, word, to in automaton.arcs:
        yield state, to, 1 / (len(ways[state]) + (state in automaton.final)) / ways[state][to], word


@dataclass(frozen=True)
class SpeechStarted:
    """Somebody began to speak. `offset_ms` counts from the first sample fed."""

    offset_ms: int


@dataclass(frozen=True)
class SpeechEnded:
    """The speaker has finished. `offset_ms`: end of the last speech; `audio`: s16le 16 kHz, from a little before the
    first sound to `offset_ms` and a little after."""

    offset_ms: int
    audio: bytes


class TurnDetector:
    """Endpointing: finds where a turn of speech begins and ends in s16le mono at 16 kHz, whatever the chunk size.

    `prefix_padding_ms`: speech needed before its start is told; `silence_ms`: silence needed before its end is (Gemini
    Live: `prefixPaddingMs`, `silenceDurationMs`). A 20 ms frame is speech if WebRTC's voice activity detector says so
    and it is louder than the background by 6 dB.
    """

    _PRE_ROLL_MS = 300
    _GAP_MS = 60

    def __init__(self, *, silence_ms: int = 700, prefix_padding_ms: int = 100, aggressiveness: int = 2) -> None:
        self._vad = webrtcvad.Vad(aggressiveness)
        self._needed_speech = max(1, round(prefix_padding_ms / _FRAME_MS))
        self._needed_silence = max(1, round(silence_ms / _FRAME_MS))
        self._rest = b""
        self._frames = 0
        self._background = 100.0
        self._before: deque[bytes] = deque(maxlen=self._needed_speech + self._PRE_ROLL_MS // _FRAME_MS)
        self._turn: list[bytes] | None = None
        self._speech = 0
        self._silence = 0

    @property
    def speaking(self) -> bool:
        """Whether a turn is under way."""
        return self._turn is not None

    def feed(self, pcm16k: bytes) -> list[SpeechStarted | SpeechEnded]:
        """What these samples make known, in order. Any number of bytes, odd ones too."""
        data = self._rest + pcm16k
        whole = len(data) // _FRAME_BYTES * _FRAME_BYTES
        self._rest = data[whole:]
        events = (self._frame(data[at : at + _FRAME_BYTES]) for at in range(0, whole, _FRAME_BYTES))
        return [event for event in events if event]

    def flush(self) -> list[SpeechStarted | SpeechEnded]:
        """The stream has ended: a turn under way ends now."""
        return [self._end()] if self._turn is not None else []

    def _frame(self, frame: bytes) -> SpeechStarted | SpeechEnded | None:
        self._frames += 1
        voiced = self._is_speech(frame)
        if self._turn is None:
            return self._before_turn(frame, voiced)
        self._turn.append(frame)
        self._silence = 0 if voiced else self._silence + 1
        return self._end() if self._silence >= self._needed_silence else None

    def _is_speech(self, frame: bytes) -> bool:
        level = float(np.sqrt((np.frombuffer(frame, dtype="<i2").astype(np.float64) ** 2).mean()))
        loud = level > max(_QUIETEST_RMS, 2 * self._background)
        voiced = bool(self._vad.is_speech(frame, _RATE)) and loud
        if not voiced:
            # Follows quickly down and slowly up, so that a noisy line does not pass for speech for ever.
            self._background += (level - self._background) * (0.2 if level < self._background else 0.02)
        return voiced

    def _before_turn(self, frame: bytes, voiced: bool) -> SpeechStarted | None:
        self._before.append(frame)
        self._silence = 0 if voiced else self._silence + 1
        if voiced:
            self._speech += 1
        elif self._silence * _FRAME_MS > self._GAP_MS:
            self._speech = 0
        if self._speech < self._needed_speech:
            return None
        self._turn, self._speech, self._silence = list(self._before), 0, 0
        self._before.clear()
        return SpeechStarted((self._frames - self._needed_speech) * _FRAME_MS)

    def _end(self) -> SpeechEnded:
        assert self._turn is not None
        kept = self._turn[: len(self._turn) - max(0, self._silence - self._PRE_ROLL_MS // _FRAME_MS)]
        ended = SpeechEnded((self._frames - self._silence) * _FRAME_MS, b"".join(kept))
        self._turn, self._silence = None, 0
        return ended
