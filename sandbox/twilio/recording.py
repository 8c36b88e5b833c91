"""Recordings of a call: what was kept while they ran, paused and stopped, and the resource that REST shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal

from sandbox import sound

Kept = Literal["audio", "silence"]


@dataclass
class Recording:
    """One recording. Times are ms since the answer of the call; `spans` are what it holds, in order.

    `channels` 2: left the caller, right the other end. `track` `inbound` holds only what the caller said, `outbound`
    only what the caller heard. While paused it keeps silence or nothing, as `pause_behavior` said.
    """

    sid: str
    call_sid: str
    account_sid: str
    channels: int = 1
    track: str = "both"
    source: str = "StartCallRecordingAPI"
    callback: str = ""
    callback_events: tuple[str, ...] = ("completed",)
    status: str = "in-progress"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    spans: list[tuple[int, int, Kept]] = field(default_factory=list)
    _since: int = 0
    _keeps: Kept | None = "audio"

    def begin(self, now_ms: int) -> None:
        """Start to record."""
        self._since = now_ms

    def change(self, status: str, now_ms: int, *, pause_behavior: str = "silence") -> None:
        """Pause, go on (`in-progress`) or stop. Raises ValueError for another status or once it is stopped."""
        if status not in ("paused", "in-progress", "stopped"):
            raise ValueError(f"a recording cannot be set to {status!r}")
        if self.status in ("completed", "stopped", "absent"):
            raise ValueError("the recording is over")
        self._keep_until(now_ms)
        self.status = status
        self._keeps = {"in-progress": "audio", "stopped": None}.get(status)
        if status == "paused" and pause_behavior == "silence":
            self._keeps = "silence"

    def finish(self, now_ms: int) -> None:
        """The call is over; a recording that holds nothing is `absent`."""
        self._keep_until(now_ms)
        self._keeps = None
        self.status = "completed" if self.milliseconds else "absent"

    def _keep_until(self, now_ms: int) -> None:
        if self._keeps and now_ms > self._since:
            self.spans.append((self._since, now_ms, self._keeps))
        self._since = now_ms

    @property
    def milliseconds(self) -> int:
        """Its length."""
        return sum(end - start for start, end, _ in self.spans)

    def wav(self, said: bytes, heard: bytes) -> bytes:
        """The recording as a WAV file, from the two tracks of its call."""
        caller, other = self._cut(said), self._cut(heard)
        quiet = sound.SILENCE * len(caller)
        left = quiet if self.track == "outbound" else caller
        right = quiet if self.track == "inbound" else other
        return sound.wav(left, right) if self.channels == 2 else sound.wav(sound.mix(left, right))

    def _cut(self, track: bytes) -> bytes:
        scale = sound.RATE // 1000
        pieces = [
            track[start * scale : end * scale] if kept == "audio" else sound.SILENCE * ((end - start) * scale)
            for start, end, kept in self.spans
        ]
        return b"".join(pieces)

    def resource(self) -> dict[str, object]:
        """As `Recordings/{sid}.json` shows it."""
        path = f"/2010-04-01/Accounts/{self.account_sid}/Recordings/{self.sid}"
        moment = format_datetime(self.created)
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "call_sid": self.call_sid,
            "channels": self.channels,
            "conference_sid": None,
            "date_created": moment,
            "date_updated": moment,
            "duration": str(round(self.milliseconds / 1000)) if self.status == "completed" else None,
            "encryption_details": None,
            "error_code": None,
            "media_url": f"https://api.twilio.com{path}",
            "price": None,
            "price_unit": "USD",
            "sid": self.sid,
            "source": self.source,
            "start_time": moment,
            "status": self.status,
            "track": self.track,
            "uri": f"{path}.json",
        }

    def callback_fields(self) -> Mapping[str, str]:
        """What a recording status callback carries."""
        status = {"stopped": "completed", "paused": "in-progress"}.get(self.status, self.status)
        return {
            "AccountSid": self.account_sid,
            "CallSid": self.call_sid,
            "RecordingSid": self.sid,
            "RecordingUrl": f"https://api.twilio.com/2010-04-01/Accounts/{self.account_sid}/Recordings/{self.sid}",
            "RecordingStatus": status,
            "RecordingDuration": str(round(self.milliseconds / 1000)) if status == "completed" else "-1",
            "RecordingChannels": str(self.channels),
            "RecordingStartTime": format_datetime(self.created),
            "RecordingSource": self.source,
            "RecordingTrack": self.track,
        }
