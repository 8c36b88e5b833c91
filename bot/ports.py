"""Clock and ids: the only sources of time and chance.

A replay gives its own two and gets the same call again (docs/decisions/0014). A test walks the code and fails where
``time``, ``datetime.now``, ``uuid``, ``random`` or ``os.urandom`` are used anywhere else in ``bot``, ``desk`` or
``records``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Two clocks: ``now_ns`` only ever goes forward, ``wall_ns`` is Unix time."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds; only differences mean anything."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z."""

    async def sleep(self, seconds: float) -> None:
        """Wait on this clock."""


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """See `Clock.now_ns`."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """See `Clock.wall_ns`."""
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)


def utc(clock: Clock) -> datetime:
    """The wall clock's moment as an aware datetime in UTC."""
    return datetime.fromtimestamp(clock.wall_ns() / 1e9, UTC)


def mask_key() -> bytes:
    """Four bytes that nobody can foresee, for a client's WebSocket frame (RFC 6455, section 10.3); not replayed."""
    return os.urandom(4)


class Ids:
    """Ids, tokens and chance from one secret seed.

    Every value is HMAC-SHA256(seed, counter), so that the seed alone gives the same sequence again, and nobody without
    the seed can guess the next one: tokens made here are safe to use as secrets as long as the seed is one. The seed
    of a call goes onto its tape when the tokens made from it are spent.
    """

    def __init__(self, seed: bytes | None = None) -> None:
        self.seed = seed if seed is not None else os.urandom(32)
        self._count = 0

    def _block(self) -> bytes:
        self._count += 1
        return hmac.new(self.seed, self._count.to_bytes(8, "big"), hashlib.sha256).digest()

    def hex(self, digits: int = 32) -> str:
        """A lower-case hexadecimal id of `digits` (at most 64) characters."""
        return self._block().hex()[:digits]

    def token(self) -> str:
        """A URL-safe secret of 43 characters (256 bits)."""
        return base64.urlsafe_b64encode(self._block()).rstrip(b"=").decode()

    def fraction(self) -> float:
        """A number in [0, 1), for jitter."""
        return int.from_bytes(self._block()[:6], "big") / 2**48

    def child(self) -> Ids:
        """An independent source, seeded from this one: one for each call."""
        return Ids(self._block())
