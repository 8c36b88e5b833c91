"""The pure parts: what is kept of audio, words and conversation, which model is tried when, which profile is whose."""

from __future__ import annotations

import pytest

from bot.errors import ModelFailure
from bot.gemini_memory import CallerAudio, CallerWords, Conversation
from bot.gemini_models import (
    FLASH_LIVE_3_1,
    LIVE_3_8,
    LIVE_3_8_EXTENDED_THINKING,
    NATIVE_AUDIO_2_5,
    Attempt,
    Attempts,
    ModelProfile,
    classify,
    profile_of,
)

SECOND = 32_000


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("gemini-2.5-flash-native-audio-preview-12-2025", NATIVE_AUDIO_2_5),
        ("models/gemini-2.5-flash-native-audio-latest", NATIVE_AUDIO_2_5),
        ("gemini-2.5-flash-exp-native-audio-thinking-dialog", NATIVE_AUDIO_2_5),
        ("gemini-live-2.5-flash", NATIVE_AUDIO_2_5),
        ("gemini-3.1-flash-live-preview", FLASH_LIVE_3_1),
        ("gemini-3.8-live", LIVE_3_8),
        ("gemini-3.8-live-extended-thinking", LIVE_3_8_EXTENDED_THINKING),
        ("gemini-4-live", LIVE_3_8),
        ("some-alias", LIVE_3_8),
    ],
)
def test_the_profile_follows_the_version(model: str, profile: ModelProfile) -> None:
    assert profile_of(model) is profile


# -- attempts ---------------------------------------------------------------------------------------------------------


def attempts(*models: str, at: float = 100.0) -> Attempts:
    return Attempts(models, at, lambda: 0.5)


def test_the_first_retry_is_at_once_and_the_next_ones_wait_longer() -> None:
    tries = attempts("a")
    delays = []
    for _ in range(4):
        attempt = tries.failed("internal", 100.0)
        assert attempt
        delays.append(attempt.delay_seconds)
    assert delays == [0.0, 0.3, 0.6, 1.2]
    assert tries.failed("internal", 100.0) is None


def test_delays_are_spread() -> None:
    early, late = Attempts(["a"], 0, lambda: 0.0), Attempts(["a"], 0, lambda: 0.99)
    pairs = [(early.failed("internal", 0), late.failed("internal", 0)) for _ in range(2)]
    first, second = pairs[1]
    assert first
    assert second
    assert first.delay_seconds < second.delay_seconds <= 0.3 * 1.25


def test_a_session_that_held_makes_the_count_start_again() -> None:
    tries = attempts("a")
    for second in range(0, 200, 10):
        tries.connected(100.0 + second)
        assert tries.failed("dropped", 110.0 + second) == Attempt("a", 0.0)


def test_sessions_that_hold_only_briefly_use_up_the_model() -> None:
    tries = attempts("a", "b")
    models = []
    for second in range(6):
        tries.connected(100.0 + second)
        attempt = tries.failed("dropped", 100.5 + second)
        assert attempt
        models.append(attempt.model)
    assert models == ["a", "a", "a", "a", "b", "b"]


def test_sessions_that_are_to_be_left_as_soon_as_they_are_there_are_opened_ever_more_slowly() -> None:
    attempts = Attempts(["a"], 0.0, lambda: 0.5)
    delays = []
    for _ in range(6):
        attempts.connected(0.0)
        delays.append(attempts.left(0.1).delay_seconds)
    assert delays == [0.0, 0.3, 0.6, 1.2, 1.2, 1.2]
    attempts.connected(0.0)
    assert attempts.left(Attempts.STABLE_S).delay_seconds == 0.0


def test_a_session_that_held_until_it_was_left_makes_the_count_start_again() -> None:
    attempts = Attempts(["a"], 0.0, lambda: 0.5)
    for _ in range(Attempts.MOST_FAILURES - 1):
        attempts.failed("dropped", 0.0)
    attempts.connected(0.0)
    attempts.left(600.0)
    assert attempts.failed("dropped", 600.0) == Attempt("a", 0.0)


def test_an_outage_that_lasts_hands_over() -> None:
    tries = attempts("a", "b")
    assert tries.failed("timeout", 103.0) == Attempt("a", 0.0)
    assert tries.failed("timeout", 106.0) == Attempt("b", 0.0)
    assert tries.failed("timeout", 109.0) == Attempt("b", 0.0)
    assert tries.failed("timeout", 112.0) is None


@pytest.mark.parametrize("kind", ["unknown_model", "quota", "no_live_access", "rejected_setup"])
def test_some_refusals_need_no_second_try(kind: ModelFailure) -> None:
    assert attempts("a", "b").failed(kind, 100.0) == Attempt("b", 0.0)
    assert attempts("a").failed(kind, 100.0) is None


@pytest.mark.parametrize("kind", ["quota", "rejected_setup"])
def test_the_same_words_after_a_session_are_worth_a_try(kind: ModelFailure) -> None:
    tries = attempts("a")
    tries.connected(100.0)
    assert tries.failed(kind, 101.0) == Attempt("a", 0.0)


def test_no_model_likes_a_bad_key() -> None:
    assert attempts("a", "b").failed("bad_key", 100.0) is None


def test_an_error_of_ours_is_not_taken_for_a_missing_network() -> None:
    assert classify(KeyError("x")).kind == "internal"
    assert classify(ConnectionRefusedError(111, "refused")).kind == "unreachable"


# -- the caller's audio -----------------------------------------------------------------------------------------------


def drain(audio: CallerAudio) -> bytes:
    pieces = []
    while piece := audio.take():
        pieces.append(piece)
    return b"".join(pieces)


def test_audio_waits_in_order_and_the_oldest_goes_first() -> None:
    audio = CallerAudio()
    assert audio.wait(b"a" * SECOND) == 0
    assert audio.wait(b"b" * SECOND) == 0
    assert audio.waiting_ms == 2000
    assert audio.take(1.5) == b"a" * SECOND + b"b" * (SECOND // 2)
    assert drain(audio) == b"b" * (SECOND // 2)
    assert audio.take() == b""


def test_what_was_sent_and_not_understood_comes_back_before_what_waits() -> None:
    audio = CallerAudio()
    audio.sent(b"a" * 640)
    audio.understood()
    audio.sent(b"b" * 640)
    audio.wait(b"c" * 640)
    audio.lost()
    assert drain(audio) == b"b" * 640 + b"c" * 640


def test_ten_seconds_are_kept_and_the_rest_is_counted() -> None:
    audio = CallerAudio()
    audio.wait(b"a" * SECOND)
    assert audio.wait(b"b" * 10 * SECOND) == SECOND
    assert drain(audio) == b"b" * 10 * SECOND
    audio.sent(b"c" * 12 * SECOND)
    audio.lost()
    assert len(drain(audio)) == 10 * SECOND


# -- the caller's words -----------------------------------------------------------------------------------------------


def test_tokens_become_one_utterance() -> None:
    words = CallerWords()
    for token in (" Hello", ",", " my", " name is", " Bell", "."):
        words.add(token)
    assert words.take(1.0) == "Hello, my name is Bell."
    assert words.take(1.0) == ""


def test_the_same_again_at_once_is_a_repetition_of_the_service() -> None:
    words = CallerWords()
    words.add("I need an appointment")
    words.add("I need an appointment")
    assert words.take(1.0) == "I need an appointment"
    words.add("I need an appointment")
    assert words.take(2.0) == ""


def test_the_same_again_later_is_the_caller() -> None:
    words = CallerWords()
    words.add("Hello?")
    assert words.take(1.0) == "Hello?"
    words.add("Hello?")
    assert words.take(4.0) == "Hello?"


def test_one_word_that_comes_twice_is_one_word() -> None:
    words = CallerWords()
    words.add("Yes.")
    words.add("Yes.")
    assert words.take(1.0) == "Yes."


def test_a_word_may_be_said_twice() -> None:
    words = CallerWords()
    words.add(" no")
    words.add(" no")
    assert words.take(1.0) == "no no"


# -- the conversation -------------------------------------------------------------------------------------------------


def test_a_model_that_knows_all_and_owes_nothing_is_told_nothing() -> None:
    talk = Conversation()
    talk.caller_said("Hello")
    talk.bot_says("Good ")
    talk.bot_says("morning.")
    talk.bot_done(interrupted=False)
    talk.saved()
    assert talk.is_saved
    assert talk.turns == [("user", "Hello"), ("model", "Good morning.")]
    assert talk.recap(resumed=True) == ""


def test_what_the_saved_state_does_not_hold_is_told() -> None:
    talk = Conversation()
    talk.caller_said("Hello")
    talk.saved()
    talk.caller_said("On Monday please")
    talk.tool_done("find_slots", {"say": "Nine or ten."})
    talk.bot_says("I have nine")
    recap = talk.recap(resumed=True)
    assert "caller: On Monday please" in recap
    assert 'you: [Called find_slots; it returned {"say": "Nine or ten."}]' in recap
    assert "You were cut off while saying: I have nine" in recap
    assert "Hello" not in recap
    assert talk.turns[-1] == ("model", "I have nine [interrupted]")


def test_a_result_that_came_late_is_told_once() -> None:
    talk = Conversation()
    talk.tool_done_late("book", {"say": "Booked."})
    news = talk.news()
    assert news == '[Note: book has finished meanwhile and returned {"say": "Booked."}.]'
    assert talk.news() == ""
    assert talk.owed
    talk.owed = False
    talk.saved()
    assert talk.recap(resumed=True) == ""


def test_a_result_that_came_in_the_gap_is_told_by_the_recap_alone() -> None:
    talk = Conversation()
    talk.tool_done_late("book", {"say": "Booked."})
    assert "book has finished meanwhile" in talk.recap(resumed=False)
    assert talk.news() == ""


def test_what_was_told_and_not_saved_is_told_again_after_another_drop() -> None:
    talk = Conversation()
    talk.tool_done_late("book", {"say": "Booked."})
    assert "book has finished" in talk.recap(resumed=True)
    assert "book has finished" in talk.recap(resumed=True)
    talk.saved()
    talk.owed = False
    assert talk.recap(resumed=True) == ""


SENTENCE = "We have nine or ten on Monday, and two in the afternoon."


def spoken(talk: Conversation, words: str = SENTENCE, sound_ms: float = 4000) -> str:
    """The model says all of it; gives the speech's name."""
    speech = talk.bot_says(words)
    talk.bot_sounds(sound_ms)
    return speech


def test_a_speech_that_the_model_cut_is_kept_as_far_as_it_was_heard() -> None:
    talk = Conversation()
    speech = spoken(talk)
    talk.bot_done(interrupted=True)
    talk.bot_heard(speech, 2000, True)
    assert talk.turns == [("model", "We have nine or ten on [interrupted]")]


def test_a_speech_that_the_caller_cut_is_kept_as_far_as_it_was_heard_though_the_model_talked_on() -> None:
    talk = Conversation()
    speech = spoken(talk, "We have nine or ten", 2000)
    talk.bot_heard(speech, 1000, True)
    assert spoken(talk, " on Monday, and two in the afternoon.", 2000) == speech
    talk.bot_done(interrupted=False)
    talk.caller_said("No, on Tuesday")
    assert talk.turns == [("model", "We have nine [interrupted]"), ("user", "No, on Tuesday")]
    assert "you: We have nine [interrupted]; caller: No, on Tuesday." in talk.recap(resumed=True) + "."


def test_a_cut_that_is_told_after_the_turn_was_done_corrects_it() -> None:
    talk = Conversation()
    speech = spoken(talk)
    talk.bot_done(interrupted=False)
    assert talk.turns == [("model", SENTENCE)]
    talk.bot_heard(speech, 1000, True)
    assert talk.turns == [("model", "We have nine [interrupted]")]


def test_the_recap_of_a_sentence_that_the_connection_broke_off_holds_what_was_heard_of_it() -> None:
    talk = Conversation()
    talk.bot_heard(spoken(talk), 1000, True)
    assert "You were cut off while saying: We have nine. Carry on" in talk.recap(resumed=True)
    assert talk.turns == [("model", "We have nine [interrupted]")]


def test_words_that_waited_behind_those_that_were_cut_were_never_said() -> None:
    talk = Conversation()
    first = spoken(talk, "One moment.", 800)
    talk.bot_done(interrupted=False)
    spoken(talk)
    talk.bot_done(interrupted=False)
    talk.bot_heard(first, 800, True)
    assert talk.turns == [("model", "One moment.")]
    assert "Monday" not in talk.recap(resumed=True)


def test_what_was_played_to_its_end_stays_whole_when_the_next_is_cut() -> None:
    talk = Conversation()
    talk.bot_heard(spoken(talk, "Good morning.", 900), 880, False)
    talk.bot_done(interrupted=False)
    silent = talk.bot_says("Words that came after their sound.")
    talk.bot_done(interrupted=False)
    talk.bot_heard(silent, 0, False)
    speech = spoken(talk)
    talk.bot_done(interrupted=True)
    talk.bot_heard(speech, 0, True)
    assert talk.turns == [("model", "Good morning."), ("model", "Words that came after their sound.")]


def test_a_speech_that_a_filler_parted_is_heard_in_two_parts() -> None:
    talk = Conversation()
    speech = spoken(talk)
    talk.bot_heard(speech, 1000, False)
    talk.bot_heard(speech, 1000, True)
    talk.bot_done(interrupted=False)
    assert talk.turns == [("model", "We have nine or ten on [interrupted]")]
