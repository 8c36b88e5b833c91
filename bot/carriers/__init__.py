"""The telephone side. What a carrier needs of a call, and what a call gets from a carrier.

A carrier module (bot/carriers/twilio.py) answers the carrier's web requests and hands media streams over; it knows
calls only by the protocols here, which bot/call.py fulfils. A second carrier is a second module against the same
protocols, and its recorded messages through the same tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from starlette.websockets import WebSocket

from bot.carriers.media_stream import MediaStream, Started, StreamEvent
from bot.events import EndReason


@dataclass(frozen=True)
class OpenStream:
    """A media stream whose start message was read and whose token was accepted.

    `messages` are those read so far, for the tape; `events` is what they said.
    """

    websocket: WebSocket
    stream: MediaStream
    started: Started
    messages: tuple[str | bytes, ...]
    events: tuple[StreamEvent, ...]


@dataclass(frozen=True)
class Refusal:
    """The call is not taken. The caller hears `say` in `language` (BCP-47), then the line is closed."""

    reason: EndReason
    say: str
    language: str


@dataclass(frozen=True)
class NextStep:
    """What happens to a caller whose media stream is over: words (or none), then the end or another stream."""

    say: str
    then: Literal["hang_up", "reconnect"]
    language: str


class Call(Protocol):
    """A call that was taken."""

    @property
    def call_sid(self) -> str:
        """The carrier's id of the call."""

    @property
    def stream_token(self) -> str:
        """The secret that the next media stream must show; a new one for each stream."""

    async def serve_stream(self, opened: OpenStream) -> None:
        """Carry the media stream; returns when it is over. The socket is closed afterwards by the carrier module."""

    def after_stream(self) -> NextStep:
        """The media stream is over and the caller is still there: what now?"""

    def carrier_status(self, status: str, sequence: int | None) -> None:
        """The carrier tells how the call stands; see `bot.carriers.call_status.CallStatus`."""


class Calls(Protocol):
    """All calls of this process."""

    def receive(self, *, call_sid: str, account_sid: str, from_number: str, to_number: str) -> Call | Refusal:
        """Take a call and start it in the background. The same `call_sid` again gives the same answer."""

    def get(self, call_sid: str) -> Call | None:
        """The call, while it is known here."""

    def claim_stream(self, call_sid: str, token: str) -> Call:
        """Spend a token for a media stream.

        Raises `bot.errors.StreamRejected` for an unknown call, a wrong or spent token, and a second stream.
        """
