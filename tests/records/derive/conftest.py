"""Deriving from made-up tapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made_tapes import Truth, write_tape
from bot.tape import TapeReader
from records.derive import Derived, Prices, derive, load_prices
from records.record import CallRecord


@dataclass
class Made:
    """A tape, what was derived from it, and the truth."""

    tape: TapeReader
    derived: Derived
    truth: Truth

    @property
    def record(self) -> CallRecord:
        return self.derived.record


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Made]:
    """``made(caller=…, bot=…, …)``: as `fakes.tapes.write_tape`, and derived."""

    def make(*, recogniser: Any = None, prices: Prices | None = None, **options: Any) -> Made:
        path = tmp_path / "CA77.mcap"
        truth = write_tape(path, **options)
        tape = TapeReader(path if path.exists() else tmp_path / "CA77.mcap.part")
        return Made(tape, derive(tape, prices=prices or load_prices(), recogniser=recogniser), truth)

    return make
