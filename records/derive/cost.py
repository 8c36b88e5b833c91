"""What a call cost: tokens by modality, searches and the carrier's minutes, by a dated table of prices.

What is known to cost something, but not how much, is a line without dollars: it makes the cost incomplete.

Gemini Live reports usage turn by turn, not as a running total: each message is billed by itself, and its prompt is the
whole context once more (ai.google.dev, "Live API: token count"; probed on live models in pydantic-ai's pull request
7269). Within a turn a message that repeats an earlier one with more of the answer supersedes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from bot.events import (
    CallRefused,
    Grounded,
    HandedOver,
    HandoverAnswered,
    HandoverFailed,
    MessageRecorded,
)
from records.derive.model_side import Usage
from records.derive.timeline import Timeline
from records.derive.transcript import SpokenTurn
from records.record import CallRecord, Cost, CostLine, Flag, TextUsage

TABLE = Path(__file__).with_name("prices.yaml")
TOKEN_KINDS = ("text_in", "audio_in", "image_in", "text_out", "audio_out")
_IN = {"TEXT": "text_in", "DOCUMENT": "text_in", "AUDIO": "audio_in", "IMAGE": "image_in", "VIDEO": "image_in"}
_OUT = {"TEXT": "text_out", "AUDIO": "audio_out"}


class PricesError(ValueError):
    """The table of prices cannot be used; says where and why."""


@dataclass(frozen=True)
class Prices:
    """Prices in US dollars: tokens per million, searches per 1,000, the carrier's per started minute."""

    date: str
    models: Mapping[str, Mapping[str, float]]
    search: float | None
    carrier: Mapping[str, float]

    def token(self, model: str, kind: str) -> float | None:
        """Dollars for one token; None where the model or the kind is not in the table."""
        name = model.removeprefix("models/")
        fitting = max((known for known in self.models if name.startswith(known)), key=len, default=None)
        price = self.models[fitting].get(kind) if fitting else None
        return None if price is None else price / 1e6


def load_prices(path: Path = TABLE) -> Prices:
    """Read a table of prices. Raises `PricesError`."""
    try:
        table = yaml.safe_load(path.read_text())
        when = table["date"]
        return Prices(
            date=when.isoformat() if isinstance(when, date) else date.fromisoformat(str(when)).isoformat(),
            models={str(name): _dollars(kinds) for name, kinds in (table.get("models") or {}).items()},
            search=_dollar(table["search"]) if table.get("search") is not None else None,
            carrier=_dollars(table.get("carrier") or {}),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise PricesError(
            f"{path}: cannot be read as a table of prices ({error}); records/derive/prices.yaml shows the keys"
        ) from error


def _dollars(kinds: Mapping[str, object]) -> dict[str, float]:
    return {str(kind): _dollar(price) for kind, price in kinds.items()}


def _dollar(price: object) -> float:
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
        raise ValueError(f"{price!r} is no price")
    return float(price)


def tokens(usage: Mapping[str, Any], answer: str = "audio_out") -> dict[str, int]:
    """The billed tokens of one usage message (field names as on the wire), by kind; kinds without any are left out.

    What a count has more than its details say is text: prompt tokens that the service does not break down. An
    answer's tokens without details are of the kind `answer`. Thoughts are text that the service bills as output. An
    unknown modality keeps its name: ``smell_in``.
    """
    counts: dict[str, int] = {}
    _add(counts, usage, "promptTokenCount", "promptTokensDetails", _IN, "text_in", "in")
    _add(counts, usage, "toolUsePromptTokenCount", "toolUsePromptTokensDetails", _IN, "text_in", "in")
    answered = "responseTokenCount" if "responseTokenCount" in usage else "candidatesTokenCount"
    details = "responseTokensDetails" if "responseTokensDetails" in usage else "candidatesTokensDetails"
    _add(counts, usage, answered, details, _OUT, answer, "out")
    counts["text_out"] = counts.get("text_out", 0) + _count(usage.get("thoughtsTokenCount"))
    return {kind: count for kind, count in counts.items() if count}


def _add(
    counts: dict[str, int],
    usage: Mapping[str, Any],
    total_key: str,
    details_key: str,
    kinds: Mapping[str, str],
    rest: str,
    way: str,
) -> None:
    left = _count(usage.get(total_key))
    for detail in usage.get(details_key) or ():
        modality = str(detail.get("modality", "")).upper()
        kind = kinds.get(modality, f"{modality.lower() or 'unknown'}_{way}")
        count = _count(detail.get("tokenCount"))
        counts[kind] = counts.get(kind, 0) + count
        left -= count
    counts[rest] = counts.get(rest, 0) + max(0, left)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def price_call(
    timeline: Timeline, turns: Sequence[SpokenTurn], prices: Prices, text_usage: Sequence[TextUsage] = ()
) -> tuple[Cost, list[Flag]]:
    """The call's cost, and a flag for each thing of which the cost is not known."""
    lines: list[CostLine] = []
    for usage in _billed(timeline.model.usages):
        turn = _turn_at(turns, timeline.clock.playout(usage.at_ms))
        lines += _token_lines(usage.model, tokens(usage.counts), prices, turn)
    for moment in timeline.of(Grounded):
        assert isinstance(moment.event, Grounded)
        queries = max(1, len(moment.event.queries))
        usd = None if prices.search is None else prices.search * queries / 1_000
        lines.append(CostLine("search", "google_search", queries, usd, _turn_at(turns, moment.ms)))
    lines += _carrier(timeline, prices) + _handover(timeline, prices)
    for asked in text_usage:
        lines += _asked_lines(asked, prices)
    return _sum(lines, prices.date)


def charge(record: CallRecord, asked: TextUsage, prices: Prices) -> CallRecord:
    """A record whose call the text model was asked about once more."""
    cost, flags = _sum([*record.cost.lines, *_asked_lines(asked, prices)], record.cost.price_date)
    others = [flag for flag in record.flags if flag.kind != "unknown_price"]
    return replace(record, cost=cost, flags=(*others, *flags), text_usage=(*record.text_usage, asked))


def _token_lines(model: str, counts: Mapping[str, int], prices: Prices, turn: int | None = None) -> list[CostLine]:
    lines = []
    for kind, count in counts.items():
        price = prices.token(model, kind)
        lines.append(CostLine(kind, model, count, None if price is None else price * count, turn))
    return lines


def _asked_lines(asked: TextUsage, prices: Prices) -> list[CostLine]:
    return _token_lines(asked.model, asked.tokens, prices) or [CostLine("tokens", asked.model, 0, None)]


def _sum(lines: Sequence[CostLine], price_date: str) -> tuple[Cost, list[Flag]]:
    usd = math.fsum(line.usd for line in lines if line.usd is not None)
    unknown = dict.fromkeys(_unknown(line) for line in lines if line.usd is None)
    flags = [Flag("unknown_price", what) for what in unknown]
    return Cost(round(usd, 9), not unknown, price_date, tuple(lines)), flags


def _unknown(line: CostLine) -> str:
    if line.quantity:
        return f"{line.of}: no price for {line.what}"
    return f"{line.of}: how many {line.what} is not known"


def _billed(usages: Sequence[Usage]) -> list[Usage]:
    """All messages but those that a later one of the same answer supersedes: the same prompt and more of the answer."""
    kept: list[Usage] = []
    for usage in usages:
        before = kept[-1] if kept else None
        if before and (before.turn, before.model) == (usage.turn, usage.model) and _is_more_of(usage, before):
            kept.pop()
        kept.append(usage)
    return kept


def _is_more_of(later: Usage, earlier: Usage) -> bool:
    same_prompt = _count(later.counts.get("promptTokenCount")) == _count(earlier.counts.get("promptTokenCount"))
    return same_prompt and _count(later.counts.get("responseTokenCount")) >= _count(
        earlier.counts.get("responseTokenCount")
    )


def _turn_at(turns: Sequence[SpokenTurn], ms: float) -> int | None:
    """The bot's turn that a message belongs to: the last of the model's that had begun when it came."""
    begun = [each.turn.number for each in turns if each.response is not None and each.turn.start_ms <= ms]
    return begun[-1] if begun else None


def _carrier(timeline: Timeline, prices: Prices) -> list[CostLine]:
    """The carrier bills each started minute, the call's and the stream's."""
    refused = any(True for _ in timeline.of(CallRefused))
    spans = {"voice": timeline.length_ms, "media_stream": timeline.samples / 8 if timeline.streams else None}
    lines = []
    for name, span_ms in spans.items():
        if span_ms is None:
            continue
        # A refused caller hears a sentence: that is a minute, though the tape is over at once.
        minutes = max(1 if refused or timeline.streams else 0, math.ceil(span_ms / 60_000))
        lines.append(_minutes(name, minutes, prices))
    return lines


def _minutes(name: str, minutes: float, prices: Prices) -> CostLine:
    price = prices.carrier.get(name)
    return CostLine("carrier_minutes", name, minutes, None if price is None else price * minutes)


def _handover(timeline: Timeline, prices: Prices) -> list[CostLine]:
    """What the carrier bills for a person who was rung and for messages that were recorded.

    The leg to the person is billed from the moment it is answered. The tape ends where they take the call: how long
    they talk, on this leg and the caller's, it does not tell. Nor does it tell whether a machine picked up where no
    person took the call: only a line that was busy or failed costs nothing.
    """
    lines: list[CostLine] = []
    rung_ms: float | None = None
    for moment in timeline.of(HandedOver, HandoverAnswered, HandoverFailed, MessageRecorded):
        match moment.event:
            case HandedOver(number=number):
                rung_ms = moment.ms if number else None
            case HandoverAnswered(ring_ms=ring_ms):
                rung_ms = None
                talk = [CostLine("carrier_minutes", name, 0, None) for name in ("voice", "transfer")]
                lines += [_minutes("transfer", _started(ring_ms), prices), *talk]
            case HandoverFailed(status="completed" | "answered"):
                # Somebody or a machine picked up and took nothing: at most all the time since it began to ring.
                lines.append(_minutes("transfer", _started(moment.ms - (rung_ms or moment.ms)), prices))
                rung_ms = None
            case HandoverFailed(status=status):
                if status not in ("busy", "failed"):
                    lines.append(CostLine("carrier_minutes", "transfer", 0, None))
                rung_ms = None
            case MessageRecorded(duration_ms=duration_ms):
                lines.append(_minutes("recording", _started(duration_ms), prices))
    if rung_ms is not None:
        # It was never told what became of the ringing.
        lines += [CostLine("carrier_minutes", name, 0, None) for name in ("voice", "transfer")]
    return lines


def _started(ms: float) -> int:
    return max(1, math.ceil(ms / 60_000))
