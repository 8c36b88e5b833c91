"""Who said what when: turns in the order of their audio, the bot's as far as they were heard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bot.events import BotSaid, BotStartedSpeaking
from records.derive.caller import SAMPLES_PER_MS, Voiced
from records.derive.model_side import Response, Utterance
from records.derive.timeline import Timeline
from records.record import Turn, Word

_PAUSE_MS = 700.0
"""The caller's stretches of voice that are closer than this are one utterance."""
_SAME_BREATH_MS = 1_500.0
"""The model waits less than this for the caller to go on: voice that ended longer before is not in the same words."""
_MEMORY_MS = 8_000.0
"""Words that come later than this after a voice are not that voice's."""
_LEAST_SPEECH_MS = 300.0
"""Less speech than this without words is a breath or a knock, and no gap."""
_MARGIN_MS = 200
"""What a recogniser hears before and after a voice."""
_LONGEST = 60_000 * SAMPLES_PER_MS
_MS_PER_LETTER = 60.0
"""How long words last of which no voice was found on the line."""


@dataclass
class SpokenTurn:
    """A turn, and what of the tape it came from: the bot's number for it, or the caller's voice."""

    turn: Turn
    bot_turn: int | None = None
    voice: list[Voiced] = field(default_factory=list)
    response: Response | None = None


def transcribe(timeline: Timeline, language: str) -> list[SpokenTurn]:
    """All turns, numbered from 1 in the order of their audio. `language` is the flow's."""
    spoken = [*_bot_turns(timeline, language), *_caller_turns(timeline, language)]
    spoken.sort(key=lambda each: (each.turn.start_ms, each.turn.end_ms))
    for number, each in enumerate(spoken, 1):
        each.turn = replace(each.turn, number=number)
    return spoken


def gaps(spoken: Sequence[SpokenTurn]) -> list[tuple[SpokenTurn, int, int]]:
    """The turns that have voice and no words, with the stretch of samples that a recogniser should hear."""
    margin = _MARGIN_MS * SAMPLES_PER_MS
    found = []
    for each in spoken:
        if each.turn.gap and not each.turn.text:
            start, end = each.voice[0].start, each.voice[-1].end
            found.append((each, max(0, start - margin), min(end, start + _LONGEST) + margin))
    return found


def fill(gap: SpokenTurn, words: str) -> None:
    """A recogniser heard words in a gap."""
    text = " ".join(words.split())
    if text:
        spread = _spread(text, [(voice.start_ms, voice.end_ms) for voice in gap.voice])
        gap.turn = replace(gap.turn, text=text, source="recogniser", words=tuple(spread))


# -- the bot ----------------------------------------------------------------------------------------------------------


def _bot_turns(timeline: Timeline, language: str) -> list[SpokenTurn]:
    responses = {turn: response for response in timeline.model.responses for turn in response.turns}
    told = _told(timeline)
    turns: list[SpokenTurn] = []
    for moment in timeline.of(BotStartedSpeaking):
        event = moment.event
        assert isinstance(event, BotStartedSpeaking)
        response = responses.get(event.turn)
        said = _said(timeline, event, None if event.clip else response, told.get(event.turn, ""))
        turns.append(
            SpokenTurn(
                _bot_turn(timeline, event, said, moment.ms, (response.language if response else "") or language),
                bot_turn=event.turn,
                response=response,
            )
        )
    for response in timeline.model.responses:
        if not response.turns and response.text:
            ms = timeline.clock.playout(response.at_ms)
            turn = Turn(0, "bot", ms, ms, "", response.text, interrupted=True, language=response.language or language)
            turns.append(SpokenTurn(turn, response=response))
    return turns


def _told(timeline: Timeline) -> dict[int, str]:
    """The words of each turn as the call itself told them; for tapes that have nothing better."""
    begun = [m.event.turn for m in timeline.of(BotStartedSpeaking) if isinstance(m.event, BotStartedSpeaking)]
    said = [m.event.text for m in timeline.of(BotSaid) if isinstance(m.event, BotSaid)]
    return dict(zip(begun, said, strict=False)) if len(said) <= len(begun) else {}


@dataclass(frozen=True)
class _Said:
    """The words of a turn, spread over its own audio, and how much of that there was to be heard."""

    words: list[Word]
    whole_ms: float


def _said(timeline: Timeline, event: BotStartedSpeaking, response: Response | None, told: str) -> _Said:
    sent_ms = _sent_ms(timeline, event.turn)
    if response is None or not response.text:
        return _Said(_spread(event.clip or told, [(0.0, max(sent_ms, 1.0))]), sent_ms)
    place = response.turns.index(event.turn)
    before_ms = sum(_sent_ms(timeline, turn) for turn in response.turns[:place])
    is_last = place == len(response.turns) - 1
    # What waited behind the line when the caller cut in was never sent.
    whole_ms = max(sent_ms, response.audio_ms - before_ms) if is_last else sent_ms
    words = _spread(response.text, [(0.0, max(before_ms + whole_ms, response.audio_ms, 1.0))])
    until_ms = math.inf if is_last else before_ms + whole_ms
    mine = [word for word in words if before_ms <= (word.start_ms + word.end_ms) / 2 < until_ms]
    return _Said([Word(word.text, word.start_ms - before_ms, word.end_ms - before_ms) for word in mine], whole_ms)


def _sent_ms(timeline: Timeline, turn: int) -> float:
    return float(timeline.bot.size[timeline.bot.turn == turn].sum()) / SAMPLES_PER_MS


def _bot_turn(timeline: Timeline, event: BotStartedSpeaking, said: _Said, began_ms: float, language: str) -> Turn:
    bot = timeline.bot
    heard = np.flatnonzero((bot.turn == event.turn) & (bot.played > 0))
    heard_ms = float(bot.played[heard].sum()) / SAMPLES_PER_MS
    start_ms = bot.start[heard[0]] / SAMPLES_PER_MS if len(heard) else began_ms
    end_ms = (bot.start[heard[-1]] + bot.played[heard[-1]]) / SAMPLES_PER_MS if len(heard) else began_ms
    cut = said.whole_ms - heard_ms > _ROUNDING_MS or not len(heard)
    kept = [word for word in said.words if word.end_ms <= heard_ms] if cut else said.words
    elapsed = _Elapsed(bot.start[heard] / SAMPLES_PER_MS, bot.played[heard] / SAMPLES_PER_MS)
    return Turn(
        number=0,
        speaker="bot",
        start_ms=round(float(start_ms), 1),
        end_ms=round(float(end_ms), 1),
        text=" ".join(word.text for word in kept),
        unheard=" ".join(word.text for word in said.words[len(kept) :]),
        interrupted=cut,
        language=language,
        source="clip" if event.clip else "model",
        words=tuple(Word(word.text, elapsed.at(word.start_ms), elapsed.at(word.end_ms)) for word in kept),
    )


_ROUNDING_MS = 45.0
"""What of a turn may be missing though nothing was cut: the filter's tail and the last message of a stream."""


class _Elapsed:
    """From a turn's own audio to the playout clock, over the pauses that the playout made."""

    def __init__(self, start_ms: np.ndarray, length_ms: np.ndarray) -> None:
        self._start_ms, self._length_ms = start_ms, length_ms
        self._before_ms = np.concatenate(([0.0], np.cumsum(length_ms)[:-1])) if len(length_ms) else length_ms

    def at(self, ms: float) -> float:
        """The playout time at which `ms` of the turn had been heard."""
        if not len(self._start_ms):
            return 0.0
        n = max(0, int(np.searchsorted(self._before_ms, ms, "right")) - 1)
        return round(float(self._start_ms[n] + min(ms - self._before_ms[n], self._length_ms[n])), 1)


def _spread(text: str, stretches: Sequence[tuple[float, float]]) -> list[Word]:
    """Words spread over stretches of voice, each as long as its letters. Empty for an empty text."""
    words = text.split()
    letters = np.cumsum([0, *(len(word) + 1 for word in words)])
    lengths = np.array([end - start for start, end in stretches])
    before = np.concatenate(([0.0], np.cumsum(lengths)))
    voiced = letters / letters[-1] * before[-1] if words else letters
    times = []
    for ms in voiced.tolist():
        n = min(len(stretches) - 1, max(0, int(np.searchsorted(before, ms, "right")) - 1))
        times.append(round(stretches[n][0] + ms - float(before[n]), 1))
    return [Word(word, start, end) for word, start, end in zip(words, times, times[1:], strict=False)]


# -- the caller -------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Breath:
    """Stretches of the caller's voice with short pauses between them."""

    voice: list[Voiced]
    words: list[Utterance] = field(default_factory=list)

    @property
    def start_ms(self) -> float:
        return self.voice[0].start_ms

    @property
    def end_ms(self) -> float:
        return self.voice[-1].end_ms

    @property
    def speech_ms(self) -> float:
        return sum(each.speech_ms for each in self.voice)


def _caller_turns(timeline: Timeline, language: str) -> list[SpokenTurn]:
    breaths = _breaths(timeline.voice)
    turns = []
    for utterance in timeline.model.utterances:
        spoken = _aligned(utterance, breaths, timeline)
        if spoken:
            spoken[-1].words.append(utterance)
            for earlier in spoken[:-1]:
                spoken[-1].voice[:0] = earlier.voice
                breaths.remove(earlier)
        else:
            turns.append(SpokenTurn(_voiceless(utterance, timeline, language)))
    for breath in breaths:
        if breath.words:
            turns.append(SpokenTurn(_worded(breath, language), voice=breath.voice))
        elif breath.speech_ms >= _LEAST_SPEECH_MS:
            turns.append(SpokenTurn(_gap(breath, language), voice=breath.voice))
    return turns


def _breaths(voice: Sequence[Voiced]) -> list[_Breath]:
    breaths: list[_Breath] = []
    for each in voice:
        if breaths and each.start_ms - breaths[-1].end_ms < _PAUSE_MS:
            breaths[-1].voice.append(each)
        else:
            breaths.append(_Breath([each]))
    return breaths


def _aligned(utterance: Utterance, breaths: Sequence[_Breath], timeline: Timeline) -> list[_Breath]:
    """The breaths that an utterance was spoken in: the last before its words came that has none, and what led to it."""
    came_ms = timeline.clock.playout(utterance.last_ms)
    recent = [b for b in breaths if b.start_ms < came_ms and came_ms - b.end_ms < _MEMORY_MS]
    free = [b for b in recent if not b.words]
    ended = [b for b in free if b.end_ms <= came_ms]
    if not free:
        # Words that go on where others were: the same breath, told in two parts.
        return [b for b in recent[-1:] if came_ms - b.end_ms < _SAME_BREATH_MS]
    last = (ended or free)[-1]
    chain = [last]
    for earlier in reversed(free[: free.index(last)]):
        if chain[0].start_ms - earlier.end_ms > _SAME_BREATH_MS:
            break
        chain.insert(0, earlier)
    return chain


def _worded(breath: _Breath, language: str) -> Turn:
    text = " ".join(utterance.text for utterance in breath.words)
    spoken_in = next((utterance.language for utterance in breath.words if utterance.language), language)
    return Turn(
        0,
        "caller",
        round(breath.start_ms, 1),
        round(breath.end_ms, 1),
        text,
        language=spoken_in,
        words=tuple(_spread(text, [(each.start_ms, each.end_ms) for each in breath.voice])),
    )


def _voiceless(utterance: Utterance, timeline: Timeline, language: str) -> Turn:
    """Words without a voice on the line: too quiet to be found, or on a part of the tape that is lost."""
    end_ms = timeline.clock.playout(utterance.first_ms)
    start_ms = max(0.0, end_ms - _MS_PER_LETTER * len(utterance.text)) if end_ms > 0 else end_ms
    return Turn(
        0, "caller", round(start_ms, 1), round(end_ms, 1), utterance.text, language=utterance.language or language
    )


def _gap(breath: _Breath, language: str) -> Turn:
    start_ms, end_ms = round(breath.start_ms, 1), round(breath.end_ms, 1)
    return Turn(0, "caller", start_ms, end_ms, "", gap=True, language=language, source="none")
