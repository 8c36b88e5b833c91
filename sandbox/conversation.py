"""What a caller on the stand-in line does: speaks in turns, listens, waits, interrupts, presses keys, hangs up. No I/O.

A caller is anything with `tick`: every 20 ms of the call it is given what came out of the earpiece and gives what goes
into the microphone. `Conversation` is the caller that follows a list of turns.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from sandbox import sound


class Speaker(Protocol):
    """A voice; `sandbox.voice.Voice` is one."""

    def speak(self, text: str, *, rate: int = 24000) -> bytes:
        """Signed 16-bit mono at `rate` Hz."""


@dataclass(frozen=True)
class Spoken:
    """What a caller did in 20 ms: a frame of mu-law, keys, the text of an utterance that just ended, hanging up."""

    audio: bytes = sound.SILENT_FRAME
    keys: str = ""
    uttered: str = ""
    hang_up: bool = False


class Caller(Protocol):
    """Somebody on the line."""

    def prepare(self, voice: Speaker) -> None:
        """Get ready before dialling (blocking: speech is rendered here)."""

    def tick(self, heard: bytes) -> Spoken:
        """Let 20 ms pass; `heard` is what came from the other end, 160 bytes of mu-law."""


@dataclass(frozen=True)
class Turn:
    """One thing that the caller does: exactly one of `say`, `play`, `press`, `pause_ms` and `hang_up`.

    It waits until the other end has spoken and finished; with `at_once` it does not wait; with `barge_in_ms` it
    begins that long after the other end began to speak.
    """

    say: str = ""
    play: str | Path | bytes = ""
    press: str = ""
    pause_ms: int = 0
    hang_up: bool = False
    at_once: bool = False
    barge_in_ms: int | None = None


@dataclass(frozen=True)
class Habits:
    """How the caller listens, in ms.

    `end_ms` of silence mean that the other end has finished. After `hello_ms` of silence from both the caller says
    `hello`, at most `hellos` times, then hangs up. `linger_ms` after the last turn and the last word the caller hangs
    up, unless `stays`.
    """

    end_ms: int = 800
    hello: str = "Hello?"
    hello_ms: int = 7000
    hellos: int = 3
    linger_ms: int = 5000
    stays: bool = False


@dataclass
class Utterance:
    """Something the caller said; times are on the line's clock."""

    text: str
    start_ms: int
    end_ms: int = 0
    barge_in: bool = False


@dataclass
class Conversation:
    """A caller who follows a list of turns. `spoken` tells afterwards what was said when."""

    turns: Sequence[Turn] = ()
    habits: Habits = field(default_factory=Habits)
    spoken: list[Utterance] = field(default_factory=list)
    now_ms: int = 0

    def __post_init__(self) -> None:
        self._next = 0
        self._audio = b""
        self._position = 0
        self._rendered: dict[str | Path | bytes, bytes] = {}
        self._idle_since = 0
        self._hellos = 0
        self._heard_since: int | None = None
        self._last_heard = 0
        self._answered = False
        self._voiced_ms = 0

    def prepare(self, voice: Speaker) -> None:
        """Render all that will be said. Raises ValueError for a file that cannot be read."""
        for text in [self.habits.hello, *(turn.say for turn in self.turns)]:
            if text and text not in self._rendered:
                self._rendered[text] = sound.from_pcm(voice.speak(text, rate=sound.RATE), sound.RATE)
        for turn in self.turns:
            if isinstance(turn.play, bytes):
                self._rendered[turn.play] = turn.play
            elif turn.play:
                self._rendered[turn.play] = sound.load(Path(turn.play))

    @property
    def finished(self) -> bool:
        """Whether every turn has been done."""
        return self._next >= len(self.turns) and not self._audio

    def tick(self, heard: bytes) -> Spoken:
        """See `Caller.tick`."""
        self.now_ms += sound.FRAME_MS
        self._listen(heard)
        if self._audio:
            return self._go_on()
        if self._next < len(self.turns) and self._ready(self.turns[self._next]):
            turn = self.turns[self._next]
            self._next += 1
            return self._begin(turn)
        return self._wait()

    def _listen(self, heard: bytes) -> None:
        if sound.is_voiced(heard):
            self._last_heard = self.now_ms
            if self._heard_since is None:
                self._heard_since = self.now_ms
            self._voiced_ms += sound.FRAME_MS
            # A click is not an answer.
            self._answered = self._answered or self._voiced_ms >= 100
            self._hellos = 0 if self._voiced_ms >= 100 else self._hellos
        elif self.now_ms - self._last_heard >= self.habits.end_ms:
            self._heard_since = None

    def _ready(self, turn: Turn) -> bool:
        if turn.pause_ms:
            return self.now_ms - self._idle_since >= turn.pause_ms
        if turn.at_once:
            return True
        if turn.barge_in_ms is not None:
            return (
                self._heard_since is not None
                and self._answered
                and self.now_ms - max(self._heard_since, self._idle_since) >= turn.barge_in_ms
            )
        return self._answered and self.now_ms - self._last_heard >= self.habits.end_ms

    def _begin(self, turn: Turn) -> Spoken:
        if turn.pause_ms:
            self._idle_since = self.now_ms
            return Spoken()
        if turn.hang_up:
            return Spoken(hang_up=True)
        if turn.press:
            self._forget()
            return Spoken(keys=turn.press)
        source = turn.say or turn.play
        return self._speak(self._rendered[source], turn.say, barge_in=turn.barge_in_ms is not None)

    def _speak(self, audio: bytes, text: str, *, barge_in: bool = False) -> Spoken:
        self._audio, self._position = audio, 0
        self.spoken.append(Utterance(text, self.now_ms - sound.FRAME_MS, barge_in=barge_in))
        return self._go_on()

    def _go_on(self) -> Spoken:
        frame = self._audio[self._position : self._position + sound.FRAME].ljust(sound.FRAME, sound.SILENCE)
        self._position += sound.FRAME
        if self._position < len(self._audio):
            return Spoken(frame)
        self._audio = b""
        self.spoken[-1].end_ms = self.now_ms
        self._forget()
        return Spoken(frame, uttered=self.spoken[-1].text)

    def _forget(self) -> None:
        """The caller's turn is over: only what is heard from now on is an answer to it."""
        self._idle_since = self.now_ms
        self._answered = False
        self._voiced_ms = 0

    def _wait(self) -> Spoken:
        quiet_ms = self.now_ms - max(self._idle_since, self._last_heard)
        if self._next >= len(self.turns):
            return Spoken(hang_up=not self.habits.stays and quiet_ms >= self.habits.linger_ms)
        if self.turns[self._next].pause_ms or quiet_ms < self.habits.hello_ms:
            return Spoken()
        self._hellos += 1
        if self._hellos > self.habits.hellos:
            return Spoken(hang_up=True)
        return self._speak(self._rendered[self.habits.hello], self.habits.hello)


class ScriptError(ValueError):
    """A script cannot be followed; the message names file, line and cure."""


def load_script(path: Path) -> Conversation:
    """The conversation in a YAML file (docs/sandbox-twilio.md has the format). Raises ScriptError, OSError.

    File names in it are relative to it.
    """
    try:
        root = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise ScriptError(f"{path}:{line}: not YAML: {problem.problem}") from None
    return _Script(path).conversation(root)


class _Script:
    """Reads one file; every complaint names a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def conversation(self, root: yaml.Node | None) -> Conversation:
        """The whole file."""
        parts = self._mapping(root, "a script", ("turns", "habits"))
        if "turns" not in parts:
            raise self._error(root, "there are no turns. Add: turns: [{say: Hello}]")
        turns = parts["turns"]
        if not isinstance(turns, yaml.SequenceNode) or not turns.value:
            raise self._error(turns, "turns must be a list with at least one turn")
        habits = self._fields(parts["habits"], "habits", Habits) if "habits" in parts else {}
        return Conversation([self._turn(node) for node in turns.value], Habits(**habits))

    def _turn(self, node: yaml.Node) -> Turn:
        fields = self._fields(node, "a turn", Turn)
        deeds = [name for name in _DEEDS if fields.get(name)]
        if len(deeds) != 1:
            raise self._error(node, f"a turn needs exactly one of {', '.join(_DEEDS)}; this one has {deeds or 'none'}")
        strange = sorted(set(fields.get("press", "")) - set(KEYS))
        if strange:
            raise self._error(node, f"there are no keys {strange} on a telephone; use 0-9, *, # and A-D")
        if "play" in fields:
            fields["play"] = self._path.parent / fields["play"]
            if not fields["play"].is_file():
                raise self._error(node, f"{fields['play']} is not a file. Names are relative to the script")
        return Turn(**fields)

    def _fields(self, node: yaml.Node, what: str, of: type[Turn] | type[Habits]) -> dict[str, Any]:
        kinds = {each.name: _KINDS[str(each.type)] for each in dataclasses.fields(of)}
        found = {}
        for name, value in self._mapping(node, what, tuple(kinds)).items():
            given: Any = yaml.SafeLoader("").construct_object(value) if isinstance(value, yaml.ScalarNode) else None
            if kinds[name] is str and isinstance(given, int | float) and not isinstance(given, bool):
                given = value.value  # press: 12 and say: 5 mean the text
            if type(given) is not kinds[name] or (isinstance(given, int) and given < 0):
                wanted = {str: "text", int: "a whole number of milliseconds or times", bool: "true or false"}
                raise self._error(value, f"{name} must be {wanted[kinds[name]]}")
            found[name] = given
        return found

    def _mapping(self, node: yaml.Node | None, what: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{what} must be a mapping with some of: {', '.join(known)}")
        for key, _ in node.value:
            if key.value not in known:
                near = difflib.get_close_matches(str(key.value), known, 1)
                hint = f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(known)}."
                raise self._error(key, f"{what} has no {key.value!r}. {hint}")
        return {key.value: value for key, value in node.value}

    def _error(self, node: yaml.Node | None, problem: str) -> ScriptError:
        line = node.start_mark.line + 1 if node is not None else 1
        return ScriptError(f"{self._path}:{line}: {problem}")


KEYS = "0123456789*#ABCD"
_DEEDS = ("say", "play", "press", "pause_ms", "hang_up")
_KINDS: dict[str, type] = {"str": str, "str | Path | bytes": str, "int": int, "int | None": int, "bool": bool}


def sample_customer(weekday: str) -> Conversation:
    """The customer of the sample call: wants a cleaning on `weekday`, corrects the time once, confirms and leaves."""
    return Conversation(
        [
            Turn(say=f"I would like a cleaning on {weekday} at nine o'clock."),
            Turn(say="Actually, make it eleven o'clock."),
            Turn(say="My name is Emma Wilson."),
            Turn(say="Yes, please."),
            Turn(say="That's all, thank you. Goodbye."),
        ],
        Habits(end_ms=600),
    )
