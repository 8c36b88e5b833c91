"""Where the time of each answer went, and the figures of the whole call, from the audio itself."""

from __future__ import annotations

from collections.abc import Sequence

from records.derive.timeline import Timeline
from records.derive.transcript import SpokenTurn
from records.record import Figures, Waterfall


def waterfalls_of(timeline: Timeline, turns: Sequence[SpokenTurn]) -> tuple[Waterfall, ...]:
    """One for each answered turn of the caller."""
    return ()


def figures_of(timeline: Timeline, turns: Sequence[SpokenTurn], waterfalls: Sequence[Waterfall]) -> Figures:
    """Figures of the whole call."""
    return Figures(None, None, None, 0, 0.0, 0.0, 0.0, 0.0, None)
