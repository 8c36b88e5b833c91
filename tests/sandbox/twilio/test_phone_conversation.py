"""What a synthetic caller does and when, tick by tick; and the scripts that say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox import sound
from sandbox.conversation import Conversation, Habits, ScriptError, Turn, load_script, sample_customer

VOICED = sound.tone((440,), 20)
QUIET = sound.SILENT_FRAME


class Line:
    """Plays `heard` frames to a caller and notes what comes back."""

    def __init__(self, caller: Conversation, voice: Any) -> None:
        caller.prepare(voice)
        self.caller = caller
        self.keys: list[tuple[int, str]] = []
        self.hung_up_ms: int | None = None
        self.said = b""

    def hear(self, frame: bytes, ms: int) -> Line:
        for _ in range(ms // 20):
            did = self.caller.tick(frame)
            self.said += did.audio
            if did.keys:
                self.keys.append((self.caller.now_ms, did.keys))
            if did.hang_up and self.hung_up_ms is None:
                self.hung_up_ms = self.caller.now_ms
        return self

    @property
    def spoken(self) -> list[tuple[str, int]]:
        return [(each.text, each.start_ms) for each in self.caller.spoken]


def test_it_waits_until_the_other_end_has_finished(voice: Any) -> None:
    line = Line(Conversation([Turn(say="Hi"), Turn(say="Bye")]), voice)
    line.hear(QUIET, 1000).hear(VOICED, 600).hear(QUIET, 780)
    assert line.spoken == []
    line.hear(QUIET, 200)
    assert line.spoken == [("Hi", 2380)]
    line.hear(QUIET, 3000)
    assert len(line.spoken) == 1
    line.hear(VOICED, 200).hear(QUIET, 1000)
    assert [text for text, _ in line.spoken] == ["Hi", "Bye"]


def test_a_pause_within_the_other_ends_speech_is_not_its_end(voice: Any) -> None:
    line = Line(Conversation([Turn(say="Hi")]), voice)
    for _ in range(4):
        line.hear(VOICED, 500).hear(QUIET, 600)
    assert line.spoken == []


def test_a_click_is_not_an_answer(voice: Any) -> None:
    line = Line(Conversation([Turn(say="Hi")], Habits(hello="")), voice)
    line.hear(VOICED, 40).hear(QUIET, 3000)
    assert line.spoken == []


def test_at_once_does_not_wait(voice: Any) -> None:
    line = Line(Conversation([Turn(say="Hi", at_once=True)]), voice).hear(QUIET, 100)
    assert line.spoken == [("Hi", 0)]
    assert line.said.startswith(sound.from_pcm(voice.speak("Hi", rate=8000), 8000))


def test_barge_in_begins_that_long_after_the_other_end_began(voice: Any) -> None:
    line = Line(Conversation([Turn(say="Stop", barge_in_ms=500)]), voice)
    line.hear(QUIET, 1000).hear(VOICED, 2000)
    assert line.spoken == [("Stop", 1500)]
    assert line.caller.spoken[0].barge_in


def test_a_second_barge_in_counts_from_the_caller_s_own_last_word(voice: Any) -> None:
    turns = [Turn(play=VOICED * 5, barge_in_ms=200), Turn(say="And stop", barge_in_ms=200)]
    line = Line(Conversation(turns), voice).hear(VOICED, 2000)
    first, second = line.caller.spoken
    assert second.start_ms - first.end_ms == pytest.approx(200, abs=20)


def test_pauses_keys_and_hanging_up(voice: Any) -> None:
    turns = [Turn(pause_ms=500), Turn(press="1#", at_once=True), Turn(hang_up=True, at_once=True)]
    line = Line(Conversation(turns), voice).hear(QUIET, 1000)
    assert line.keys == [(520, "1#")]
    assert line.hung_up_ms == 540


def test_silence_makes_it_ask_and_then_hang_up(voice: Any) -> None:
    habits = Habits(hello="Hello?", hello_ms=2000, hellos=2)
    line = Line(Conversation([Turn(say="never")], habits), voice).hear(QUIET, 8000)
    assert [text for text, _ in line.spoken] == ["Hello?", "Hello?"]
    assert line.hung_up_ms is not None


def test_being_heard_resets_its_patience(voice: Any) -> None:
    line = Line(Conversation([Turn(press="5"), Turn(say="x")], Habits(hello_ms=2000, hellos=1)), voice)
    line.hear(QUIET, 2500).hear(VOICED, 300).hear(QUIET, 3000)
    assert [text for text, _ in line.spoken] == ["Hello?", "Hello?"]
    assert line.hung_up_ms is None


def test_after_the_last_turn_it_lingers_then_hangs_up(voice: Any) -> None:
    line = Line(Conversation([Turn(say="Bye", at_once=True)], Habits(linger_ms=1000)), voice)
    line.hear(QUIET, 500).hear(VOICED, 1000).hear(QUIET, 900)
    assert line.hung_up_ms is None
    line.hear(QUIET, 200)
    assert line.hung_up_ms is not None


def test_or_stays(voice: Any) -> None:
    assert Line(Conversation(habits=Habits(stays=True)), voice).hear(QUIET, 60_000).hung_up_ms is None


def test_the_sample_customer_can_be_spoken(voice: Any) -> None:
    caller = sample_customer("Tuesday")
    caller.prepare(voice)
    words = [turn.say for turn in caller.turns]
    assert words[0].endswith(".")
    assert any("make it" in text for text in words)
    assert "Goodbye" in words[-1]


class TestScripts:
    def script(self, folder: Path, text: str) -> Path:
        path = folder / "call.yaml"
        path.write_text(text, "utf-8")
        return path

    def test_everything_that_can_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "hello.wav").write_bytes(sound.wav(VOICED * 10))
        path = self.script(
            tmp_path,
            """
habits: {end_ms: 500, hello: "Anybody there?", hello_ms: 4000, hellos: 2, linger_ms: 900, stays: false}
turns:
  - say: I'd like an appointment
  - say: 5
    barge_in_ms: 700
  - play: hello.wav
  - press: 12
  - pause_ms: 250
  - hang_up: true
    at_once: true
""",
        )
        conversation = load_script(path)
        assert conversation.habits == Habits(500, "Anybody there?", 4000, 2, 900, False)
        assert conversation.turns == [
            Turn(say="I'd like an appointment"),
            Turn(say="5", barge_in_ms=700),
            Turn(play=tmp_path / "hello.wav"),
            Turn(press="12"),
            Turn(pause_ms=250),
            Turn(hang_up=True, at_once=True),
        ]

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("", 1, "a script must be a mapping"),
            ("turns: [", 1, "not YAML"),
            ("habits: {}", 1, "there are no turns"),
            ("turns: []", 1, "at least one turn"),
            ("turns:\n  - Hello", 2, "a turn must be a mapping"),
            ("turns:\n  - say: a\n  - sya: b", 3, "Did you mean say?"),
            ("turns:\n  - say: a\n    press: b", 2, "exactly one of"),
            ("turns:\n  - at_once: true", 2, "none"),
            ("turns:\n  - press: 12x", 2, "no keys ['x']"),
            ("turns:\n  - pause_ms: soon", 2, "whole number"),
            ("turns:\n  - pause_ms: -5", 2, "whole number"),
            ("turns:\n  - say: a\n    at_once: 1", 3, "true or false"),
            ("turns:\n  - say: [a]", 2, "say must be text"),
            ("turns:\n  - play: nothing.wav", 2, "is not a file"),
            ("turns:\n  - say: a\nhabit: {}", 3, "Did you mean habits?"),
            ("turns:\n  - say: a\nhabits:\n  hello_ms: x", 4, "hello_ms must be"),
        ],
    )
    def test_mistakes_are_named_with_their_line(self, tmp_path: Path, text: str, line: int, words: str) -> None:
        path = self.script(tmp_path, text)
        with pytest.raises(ScriptError) as caught:
            load_script(path)
        assert str(caught.value).startswith(f"{path}:{line}: ")
        assert words in str(caught.value)

    def test_an_audio_file_that_is_none_is_named_before_dialling(self, tmp_path: Path, voice: Any) -> None:
        (tmp_path / "bad.wav").write_text("hello")
        with pytest.raises(ValueError, match=r"bad\.wav cannot be read as audio"):
            load_script(self.script(tmp_path, "turns:\n  - play: bad.wav")).prepare(voice)
