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
from bot.events import EndReason, Trouble

START_SECONDS = 5.0
"""A media socket that has not said ``start`` by then is closed; until then nobody knows which call it is for."""

Dialled = Literal["completed", "answered", "busy", "no-answer", "failed", "canceled"]
"""What became of a call to a person (Twilio: DialCallStatus)."""


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
class Ring:
    """Ring a person for `seconds` and connect the caller; the person sees `caller_id` (E.164; empty: the caller's)."""

    number: str
    seconds: int
    caller_id: str


@dataclass(frozen=True)
class TakeMessage:
    """Record what the caller says, then say `afterwards` and hang up."""

    afterwards: str


@dataclass(frozen=True)
class NextStep:
    """What happens to a caller whose media stream is over: words (or none), then what follows."""

    say: str
    then: Literal["hang_up", "reconnect"] | Ring | TakeMessage
    language: str


@dataclass(frozen=True)
class Briefing:
    """What a person who picks up hears before the caller is put through; any key within `seconds` takes the call."""

    say: str
    language: str
    seconds: int


@dataclass(frozen=True)
class RecordedMessage:
    """A message that a caller left with the carrier's recorder. `from_number` is empty where it was not told."""

    call_sid: str
    from_number: str
    recording_sid: str
    url: str
    seconds: float


class KnownCall(Protocol):
    """A call that was taken, and may be over since."""

    @property
    def call_sid(self) -> str:
        """The carrier's id of the call."""

    @property
    def stream_token(self) -> str:
        """The secret that the next media stream must show; a new one for each stream. Empty once the call is over."""

    def after_stream(self) -> NextStep:
        """The media stream is over and the caller is still there: what now?"""

    def carrier_status(self, status: str, sequence: int | None) -> None:
        """The carrier tells how the call stands; see `bot.carriers.call_status.CallStatus`."""

    def carrier_failed(self, trouble: Trouble) -> None:
        """Something failed between the carrier and us: counted, and on the tape while there is one."""


class Call(KnownCall, Protocol):
    """A call that is up."""

    async def serve_stream(self, opened: OpenStream) -> None:
        """Carry the media stream; returns when it is over. The socket is closed afterwards by the carrier module."""


class Calls(Protocol):
    """All calls of this process."""

    def receive(self, *, call_sid: str, account_sid: str, from_number: str, to_number: str) -> KnownCall | Refusal:
        """Take a call and start it in the background. The same `call_sid` again gives the same answer."""

    def get(self, call_sid: str) -> KnownCall | None:
        """The call, while it is known here."""

    def after_dial(self, call_sid: str, status: Dialled, *, bridged: bool) -> NextStep:
        """Ringing a person, and the talk with them if there was one, is over: what now? Also for an unknown call."""

    def briefing(self, call_sid: str) -> Briefing:
        """What the person hears who picked up for this call."""

    def accepted(self, call_sid: str) -> None:
        """The person took the call."""

    def after_message(self, message: RecordedMessage) -> NextStep:
        """A caller has left a message and may still be there."""

    async def keep_message(self, message: RecordedMessage) -> None:
        """Store a message, once however often it is told. Raises what the desk raises: then it is to be told again."""

    def claim_stream(self, call_sid: str, token: str) -> Call:
        """Spend a token for a media stream.

        Raises `bot.errors.StreamRejected` for an unknown call, a wrong or spent token, and a second stream.
        """
