"""Where the time of each answer went, and the figures of the whole call, from the audio itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from records.derive.bot_line import join
from records.derive.caller import SAMPLES_PER_MS, Voiced
from records.derive.model_side import Response
from records.derive.timeline import Timeline
from records.derive.transcript import SpokenTurn
from records.record import LONG_SILENCE_MS, Figures, Silence, Stage, Waterfall

STAGES = ("to_us", "to_model", "endpointing", "model", "tools", "to_carrier", "playout", "lead_in")
"""What a waterfall is made of, in this order; ``model`` comes again after ``tools``.

``to_us``: the caller's last voiced sample came to our socket, with the rest of its frame and the network's delay (half
of the round trip that the marks show). ``to_model``: through our pipeline. ``endpointing``: until the model said that
the caller's turn was over; a model that does not say so has it within ``model``. ``model``: until its first audio.
``tools``: while it waited for functions. ``to_carrier``: through our pipeline and out. ``playout``: until the first
sample was played. ``lead_in``: silence at the head of the model's audio.
"""
_PAUSE = 200 * SAMPLES_PER_MS
_AFTER_MS = 100.0


def waterfalls_of(timeline: Timeline, turns: Sequence[SpokenTurn]) -> tuple[Waterfall, ...]:
    """One for each turn of the caller that the model answered. They add up to the sample."""
    answered: set[int] = set()
    waterfalls = []
    for answer in turns:
        response = answer.response
        if response is None or answer.bot_turn is None or not answer.turn.end_ms > answer.turn.start_ms:
            continue
        asked = _asked(turns, response)
        if asked is None or asked[0].turn.number in answered:
            continue
        answered.add(asked[0].turn.number)
        waterfalls.append(_waterfall(timeline, answer, response, asked[1]))
    return tuple(waterfalls)


def _asked(turns: Sequence[SpokenTurn], response: Response) -> tuple[SpokenTurn, Voiced] | None:
    """What a response answers: the last words of the caller that had come before it, and where their voice ended."""
    for turn in reversed(turns):
        came = [voice for voice in turn.voice if voice.at_ms <= response.at_ms]
        if came:
            return turn, came[-1]
    return None


def _waterfall(timeline: Timeline, answer: SpokenTurn, response: Response, voice: Voiced) -> Waterfall:
    bot = timeline.bot
    chunks = np.flatnonzero((bot.turn == answer.bot_turn) & (bot.played > 0))
    audible = chunks[np.minimum(bot.loud_to, bot.played)[chunks] > bot.loud_from[chunks]]
    first = chunks[0]
    played_ms = float(bot.start[first]) / SAMPLES_PER_MS
    heard_ms = played_ms
    if len(audible):
        heard_ms = float(bot.start[audible[0]] + bot.loud_from[audible[0]]) / SAMPLES_PER_MS
    half_way_ms = max(0.0, bot.lag_ms) / 2

    def on_the_line(at_ms: float) -> float:
        return timeline.clock.playout(at_ms) + half_way_ms

    sent_at = timeline.model.sent_at(voice.received_ms)
    moments = [("to_us", on_the_line(voice.at_ms))]
    sent_ms = min(voice.at_ms if sent_at is None else sent_at, response.at_ms)
    moments.append(("to_model", on_the_line(sent_ms)))
    moments += [(name, on_the_line(at_ms)) for name, at_ms in _thinking(timeline, sent_ms, response.at_ms)]
    moments.append(("to_carrier", on_the_line(float(bot.at_ms[first]))))
    moments += [("playout", played_ms), ("lead_in", heard_ms)]
    stages = []
    before_ms = voice.end_ms
    for name, ms in moments:
        # The round trip is an estimate: where it is too long for what was seen, its end gives way.
        ms = min(max(ms, before_ms), max(before_ms, played_ms)) if name != "lead_in" else ms
        stages.append(Stage(name, round(ms - before_ms, 3)))
        before_ms = ms
    return Waterfall(answer.turn.number, round(voice.end_ms, 3), round(heard_ms - voice.end_ms, 3), tuple(stages))


def _thinking(timeline: Timeline, from_ms: float, to_ms: float) -> Iterator[tuple[str, float]]:
    """What the model did between its last word from the caller and its first of the answer; ends, on our clock."""
    ends = [at_ms for at_ms in timeline.model.speech_ends if from_ms <= at_ms <= to_ms]
    if ends:
        from_ms = ends[-1]
        yield "endpointing", from_ms
    waits = [(a, b) for a, b in timeline.model.tool_waits if b > from_ms and a < to_ms]
    for asked_ms, answered_ms in join(waits, 0.0):
        if asked_ms > from_ms:
            yield "model", asked_ms
        from_ms = min(answered_ms, to_ms)
        yield "tools", from_ms
    yield "model", to_ms


def figures_of(timeline: Timeline, turns: Sequence[SpokenTurn], waterfalls: Sequence[Waterfall]) -> Figures:
    """Figures of the whole call."""
    caller = [(voice.start, voice.end) for voice in timeline.voice]
    bot = join(timeline.bot.audible(), _PAUSE)
    answers = [waterfall.total_ms for waterfall in waterfalls]
    reactions = [ms for turn in turns if (ms := _reaction(turn, turns)) is not None]
    caller_ms, bot_ms = _length_ms(caller), _length_ms(bot)
    silences = _silences(join([*caller, *bot], 0))
    return Figures(
        voice_to_voice_p50_ms=_quantile(answers, 0.5),
        voice_to_voice_p95_ms=_quantile(answers, 0.95),
        barge_in_reaction_p95_ms=_quantile(reactions, 0.95),
        interruptions=sum(_was_interrupted(timeline, each) for each in turns),
        talk_over_ms=_length_ms(_both(caller, bot)),
        longest_silence_ms=max((_ms(silence) for silence in silences), default=0.0),
        caller_talk_ms=caller_ms,
        bot_talk_ms=bot_ms,
        talk_ratio=round(bot_ms / (caller_ms + bot_ms), 4) if caller_ms + bot_ms else None,
        silences=tuple(silence for silence in silences if _ms(silence) >= LONG_SILENCE_MS),
    )


def _was_interrupted(timeline: Timeline, each: SpokenTurn) -> bool:
    """Whether a turn was cut while the line stood; what the end of the call cuts off is no interruption."""
    turn = each.turn
    went_on_ms = timeline.caller_end / SAMPLES_PER_MS - turn.end_ms
    return turn.speaker == "bot" and turn.interrupted and turn.end_ms > turn.start_ms and went_on_ms > _AFTER_MS


def _reaction(each: SpokenTurn, turns: Sequence[SpokenTurn]) -> float | None:
    """How long a turn that was cut went on after the caller had begun to speak into it."""
    turn = each.turn
    if turn.speaker != "bot" or not turn.interrupted:
        return None
    begun = [
        voice.start_ms for other in turns for voice in other.voice[:1] if turn.start_ms < voice.start_ms < turn.end_ms
    ]
    return turn.end_ms - begun[-1] if begun else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.quantile(values, share)), 1) if values else None


def _length_ms(stretches: Sequence[tuple[int, int]]) -> float:
    return sum(end - start for start, end in stretches) / SAMPLES_PER_MS


def _both(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where stretches of two sorted lists overlap."""
    found, n = [], 0
    for start, end in one:
        while n < len(other) and other[n][1] <= start:
            n += 1
        for first, last in other[n:]:
            if first >= end:
                break
            found.append((max(start, first), min(end, last)))
    return found


def _silences(talk: Sequence[tuple[int, int]]) -> list[Silence]:
    """Every silence from the stream's beginning to the last sound."""
    ends = [0, *(end for _, end in talk)]
    gaps = [(end, start) for (start, _), end in zip(talk, ends, strict=False) if start > end]
    return [Silence(start / SAMPLES_PER_MS, end / SAMPLES_PER_MS) for start, end in gaps]


def _ms(silence: Silence) -> float:
    return silence.end_ms - silence.start_ms
