"""What is done with a finished call, step by step; `python -m records rebuild` does the same again.

Each step takes a call's id, may be repeated, blocks, and raises where it could not do its part (`records.jobs` tries it
again). They read the tape and the record as they stand, and hand nothing on but through the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loguru import logger

from bot.errors import ModelError, SwitchboardError, TapeError
from bot.ports import Clock
from bot.settings import Settings
from bot.tape import TapeReader
from desk.database import Database, open_database
from records.derive import derive, load_prices
from records.derive.cost import charge
from records.derive.recording import write_recording
from records.derive.timeline import read
from records.inbox import Inbox, file_sha256, tape_key, tape_of
from records.job_log import JobLog
from records.record import CallRecord
from records.recordings import Recordings
from records.scorecard import JUDGE, SCORECARD, score
from records.store import Store
from records.text_model import Ear, TextModel, open_text_model
from records.webhooks import Webhooks

BY_RULES = "rules"
"""`Outcome.summarised_by` of a summary that no text model made."""

PLAN = ("derive", "recording", "summarise", "score", "webhooks")
"""The steps of a new call's job after its archive, in order."""

LAST_READER = "recording"
"""The last step that reads the tape: until then it stays in the inbox, where it is found without fetching it."""

Step = Callable[[str], str]
"""Does its part for a call's id: idempotent, blocking. Gives a note where it could do so only in part, else an empty
text; raises where it could not."""


@dataclass(frozen=True)
class Parts:
    """What the records are made with, put together from the settings by `open_parts`."""

    settings: Settings
    clock: Clock
    database: Database
    store: Store
    recordings: Recordings
    inbox: Inbox
    log: JobLog
    text_model: TextModel | None
    webhooks: Webhooks


def open_parts(settings: Settings, clock: Clock) -> Parts:
    """Put the parts together. Raises `bot.errors.ConfigurationError`."""
    database = open_database(settings.database)
    store = Store(settings.database, clock)
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else ""
    return Parts(
        settings=settings,
        clock=clock,
        database=database,
        store=store,
        recordings=Recordings(settings.recordings, settings.s3),
        inbox=Inbox(settings.data_dir, clock),
        log=JobLog(database, clock),
        text_model=open_text_model(settings),
        webhooks=Webhooks(database, clock, settings.webhook_urls, secret, store.call),
    )


REMADE = ("derive", "recording", "summarise", "score")
"""The steps that make what can be made again of a tape."""


class CallSteps:
    """The steps of a call's job."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._prices = load_prices()

    def all(self) -> Mapping[str, Step]:
        """Each step by its name in the plan (`PLAN`)."""
        return {
            "derive": self.derive,
            "recording": self.recording,
            "summarise": self.summarise,
            "score": self.score,
            "webhooks": self.webhooks,
        }

    def derive(self, call_id: str) -> str:
        """Make the record of the call's tape and keep it; a text model's summary of it, which was paid for, stays."""
        before = self._parts.store.call(call_id)
        ear = Ear(self._parts.text_model, before)
        with self._tape(call_id) as path:
            record = self.derived(path, before, ear)
        if not self._parts.store.save(record):
            self._parts.recordings.delete_all(call_id)
            return "The call was erased."
        return ear.trouble

    def derived(self, tape: Path, before: CallRecord | None, ear: Ear) -> CallRecord:
        """The record of a tape, with what a text model said of it `before`."""
        record = derive(TapeReader(tape), prices=self._prices, recogniser=ear).record
        if before is None or before.outcome.summarised_by == BY_RULES:
            return record
        return with_summary(record, before.outcome.summary, before.outcome.fields, before.outcome.summarised_by)

    def recording(self, call_id: str) -> str:
        """Write the recording and keep it in the recordings' store."""
        with self._tape(call_id) as path, self._parts.inbox.scratch() as folder:
            tape = TapeReader(path)
            recording = write_recording(tape, read(tape), folder)
            if recording is None:
                return ""
            for file, kind in (
                (recording.flac, "audio/flac"), (recording.opus, "audio/ogg"), (recording.peaks, "application/json"),
            ):  # fmt: skip
                key = f"{call_id}/{file.name}"
                self._parts.recordings.put(file, key, kind)
                if not self._parts.store.add_recording(call_id, key, kind, file.stat().st_size):
                    self._parts.recordings.delete(key)
                    return "The call was erased."
        return ""

    def summarise(self, call_id: str) -> str:
        """Have the text model summarise the call, once; where it fails the rules' summary stays, and the note tells."""
        record, model = self._parts.store.call(call_id), self._parts.text_model
        if model is None or record is None or record.outcome.summarised_by != BY_RULES or not record.turns:
            return ""
        try:
            summary = model.summarise(record)
        except ModelError as error:
            logger.warning("The summary of call {} is by rules: the text model failed ({})", call_id, error.kind)
            return f"The summary is by rules: {error}"
        record = charge(record, summary.usage, self._prices)
        self._parts.store.save(with_summary(record, summary.text, summary.fields, summary.by))
        return ""

    def score(self, call_id: str) -> str:
        """Judge the call by rule."""
        record = self._parts.store.call(call_id)
        scored = score(record) if record else None
        if scored:
            self._parts.store.add_score(call_id, SCORECARD, JUDGE, scored.score, scored.answers)
        return ""

    def webhooks(self, call_id: str) -> str:
        """Have the operator's systems told; each message goes its own way (`records.worker`)."""
        record = self._parts.store.call(call_id)
        if record:
            self._parts.webhooks.announce(record)
        return ""

    @contextmanager
    def _tape(self, call_id: str) -> Iterator[Path]:
        """The tape as it was found. Raises `TapeError` where it is gone or damaged: no good record may follow it."""
        with tape_of(call_id, self._parts.inbox, self._parts.recordings) as path:
            known = self._parts.log.sha256_of(call_id)
            if known is None and (record := self._parts.store.call(call_id)):
                known = record.tape_sha256
            if known is not None and file_sha256(path) != known:
                raise TapeError(
                    f"The tape of call {call_id} is damaged: its SHA-256 is not the one that was written down when it "
                    f"was found. What was made of it stays as it is. Put {tape_key(call_id)} back from a backup of "
                    "the recordings, and try again."
                )
            yield path


def with_summary(record: CallRecord, summary: str, fields: Mapping[str, Any], by: str) -> CallRecord:
    """A record with a text model's summary and fields; fields that the model does not have stay the rules'."""
    outcome = replace(record.outcome, summary=summary, fields={**record.outcome.fields, **fields}, summarised_by=by)
    return replace(record, outcome=outcome)


def described(error: Exception) -> str:
    """What an operator reads of a failure."""
    return f"{type(error).__name__}: {error}" if isinstance(error, SwitchboardError | OSError) else type(error).__name__
