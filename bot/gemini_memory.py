"""What a call's session must not forget when its connection breaks: the caller's audio, words and the conversation.

Pure: fed facts and moments, gives text and audio. The session to Gemini (bot/gemini.py) is the thin shell around it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bot.audio import MODEL_IN_HZ

Role = Literal["user", "model"]

_BYTES_PER_SECOND = 2 * MODEL_IN_HZ


class CallerAudio:
    """The caller's audio (16 kHz s16le) that the model has not understood yet, at most `KEPT_S` of it.

    What was sent and not yet answered would be lost with the connection: Gemini's resumption handle stands for a state
    before it. So it is kept, and `lost` puts it back in front of what waits.
    """

    KEPT_S = 10.0

    def __init__(self) -> None:
        self._most = int(self.KEPT_S * _BYTES_PER_SECOND)
        self._waiting = bytearray()
        self._sent = bytearray()

    @property
    def waiting_ms(self) -> float:
        """How much has to be sent before live audio may follow."""
        return len(self._waiting) / _BYTES_PER_SECOND * 1000

    def wait(self, pcm: bytes) -> int:
        """Keep audio that cannot be sent now. Gives how many bytes of the oldest were dropped for it."""
        self._waiting += pcm
        return _cut(self._waiting, self._most)

    def take(self, seconds: float = 1.0) -> bytes:
        """The next audio to send, oldest first; empty when nothing waits."""
        size = int(seconds * _BYTES_PER_SECOND)
        piece = bytes(self._waiting[:size])
        del self._waiting[:size]
        return piece

    def sent(self, pcm: bytes) -> None:
        """Audio went out."""
        self._sent += pcm
        _cut(self._sent, self._most)

    def understood(self) -> None:
        """The model has answered or transcribed what was sent."""
        self._sent.clear()

    def lost(self) -> None:
        """The connection is gone, and with it what it had not understood."""
        self._waiting[:0] = self._sent
        self._sent.clear()
        _cut(self._waiting, self._most)


def _cut(audio: bytearray, most: int) -> int:
    surplus = max(0, len(audio) - most)
    del audio[:surplus]
    return surplus


class CallerWords:
    """Joins the pieces of the caller's transcript to whole utterances.

    2.5 transcribes token by token (" Hello", ","), 3.x by whole utterances, sometimes twice after a stall.
    """

    SAME_AGAIN_S = 1.5

    def __init__(self) -> None:
        self._pieces = ""
        self._last = ("", float("-inf"))

    def add(self, piece: str) -> None:
        """A piece as the model sent it, with its own spaces."""
        words = " ".join(piece.split())
        # A token begins with its space: "no", " no" was said twice, "Yes." and "Yes." is one utterance told twice.
        is_whole = " " in words or not piece[:1].isspace()
        is_same_again = is_whole and words == " ".join(self._pieces.split())
        self._pieces += "" if is_same_again else piece

    def take(self, now_s: float) -> str:
        """The utterance so far; empty where nothing was said, or the same was told a moment ago."""
        words = " ".join(self._pieces.split())
        self._pieces = ""
        last, when_s = self._last
        if not words or (words == last and now_s - when_s < self.SAME_AGAIN_S):
            return ""
        self._last = (words, now_s)
        return words


@dataclass
class _Line:
    """What was said at one time. `speech` names what the model spoke; it is empty for everything else."""

    role: Role
    words: str
    speech: str = ""
    sound_ms: float = 0.0
    heard_ms: float = 0.0
    cut: bool = False
    """Of its sound no more is heard than is told as heard."""
    settled: bool = False
    """It was played to its end: no later cut concerns it."""
    unfinished: bool = False
    """The model was stopped in it, whatever was heard."""

    @property
    def told(self) -> str:
        """The words as the model is told them: those that were heard. Empty where none was."""
        words = self.words.split()
        heard = _heard(words, self.heard_ms, self.sound_ms) if self.cut else words
        if heard and (self.unfinished or len(heard) < len(words)):
            return " ".join([*heard, "[interrupted]"])
        return " ".join(heard)


_ROUNDING_MS = 45.0
"""What of a speech never reaches the line though nothing was cut: the filter's tail and the last message."""


def _heard(words: Sequence[str], heard_ms: float, sound_ms: float) -> list[str]:
    """The words that end within `heard_ms`, each taken to be as long as its letters."""
    if not heard_ms:
        return []
    letters = sum(len(word) + 1 for word in words) * (heard_ms + _ROUNDING_MS) / max(sound_ms, 1.0)
    heard = []
    for word in words:
        letters -= len(word) + 1
        if letters < 0:
            break
        heard.append(word)
    return heard


class Conversation:
    """What was said and done, as far as the model may have to be told again. Words and results of one call.

    Of what was cut, by the model, the caller or a broken line, it holds what the caller heard (`bot_heard`).
    """

    MOST_TURNS = 80

    def __init__(self) -> None:
        self._turns: deque[_Line] = deque(maxlen=self.MOST_TURNS)
        self._unsaved: deque[_Line] = deque(maxlen=self.MOST_TURNS)
        self._speeches = 0
        self._speech = self._next_speech()
        self._late: list[str] = []
        self.owed = False
        """Whether the caller waits for words of the model."""

    @property
    def turns(self) -> list[tuple[Role, str]]:
        """The conversation so far, oldest first."""
        return _told(self._turns)

    @property
    def is_saved(self) -> bool:
        """Whether the state that the model can come back to holds everything."""
        return not self._unsaved and not self._speech.words

    def caller_said(self, words: str) -> None:
        """An utterance of the caller is whole."""
        self._add(_Line("user", words))

    def bot_says(self, words: str) -> str:
        """A piece of what the model says now. Gives the name of the speech that it belongs to."""
        self._speech.words += words
        return self._speech.speech

    def bot_sounds(self, milliseconds: float) -> None:
        """Audio of what the model says now."""
        self._speech.sound_ms += milliseconds

    def bot_done(self, *, interrupted: bool) -> None:
        """The model has ended its turn, or was cut."""
        if interrupted:
            self._cut()
        self._speech.unfinished = interrupted
        self._end_speech()

    def bot_heard(self, speech: str, heard_ms: float, is_cut: bool) -> None:
        """So much more of a speech was heard; where it was cut, nothing else comes of all that was said before."""
        for line in (*self._turns, self._speech):
            if speech and line.speech == speech:
                line.heard_ms += heard_ms
                line.cut = line.cut or is_cut
        if is_cut:
            self._cut()
        elif speech:
            self._settle(speech)

    def _cut(self) -> None:
        for line in (*self._turns, self._speech):
            # A speech without words yet is the answer to the interruption.
            line.cut = line.cut or bool(line.speech and line.words and not line.settled)

    def _settle(self, speech: str) -> None:
        for line in self._turns:
            line.settled = True
            if line.speech == speech:
                break

    def _end_speech(self) -> None:
        if self._speech.words.strip():
            self._add(self._speech)
        self._speech = self._next_speech()

    def _next_speech(self) -> _Line:
        self._speeches += 1
        return _Line("model", "", f"speech {self._speeches}")

    def tool_done(self, name: str, result: Mapping[str, Any]) -> None:
        """The model was given the result of a function."""
        self._add(_Line("model", f"[Called {name}; it returned {_json(result)}]"))
        self.owed = True

    def tool_done_late(self, name: str, result: Mapping[str, Any]) -> None:
        """A function ended after the model had stopped waiting for it: it must be told."""
        self._late.append(f"{name} has finished meanwhile and returned {_json(result)}")

    def saved(self) -> None:
        """The model has a state to come back to that holds everything so far."""
        self._unsaved.clear()

    def news(self) -> str:
        """What the model must be told now, as one note; empty if nothing. Told once."""
        late = self._take_late()
        if not late:
            return ""
        self.owed = True
        return note(". ".join(late))

    def recap(self, *, resumed: bool, is_asked: bool = False) -> str:
        """What the model must be told after its connection was renewed; empty if it knows all and nobody waits.

        `resumed`: it was given back the state of `saved`; otherwise it was given the whole conversation. `is_asked`: it
        will be asked again what it had not answered, so that it need not be told that somebody waits.
        """
        missing = _told(self._unsaved) if resumed else []
        unfinished = self._speech.told.removesuffix(" [interrupted]")
        self._speech.unfinished = True
        self._end_speech()
        if not (missing or unfinished or self._late or (self.owed and not is_asked)):
            return ""
        told = ["The connection was renewed"]
        if missing:
            said = "; ".join(f"{'caller' if role == 'user' else 'you'}: {words}" for role, words in missing)
            told.append(f"This was said since then: {said}")
        if unfinished:
            told.append(f"You were cut off while saying: {unfinished}")
        told += self._take_late()
        told.append("Carry on from here in a few words, without greeting again")
        self.owed = True
        return note(". ".join(told))

    def _take_late(self) -> list[str]:
        late, self._late = self._late, []
        for words in late:
            self._add(_Line("model", f"[{words}]"))
        return late

    def _add(self, line: _Line) -> None:
        self._turns.append(line)
        self._unsaved.append(line)


def _told(lines: Iterable[_Line]) -> list[tuple[Role, str]]:
    return [(line.role, line.told) for line in lines if line.told]


def note(words: str) -> str:
    """Words for the model that nobody said aloud."""
    return f"[Note: {words}.]"


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, default=str)
