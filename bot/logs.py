"""Logging: one line for each thing an operator should know, without any caller's data.

Our own messages name ids and sizes only. What libraries log is not ours to vouch for (Pipecat writes transcripts,
Twilio's SDK telephone numbers), so their records are shown from WARNING on, whatever level is set. Tracebacks never
print the values of variables, nor, where a call may be behind them, the text of the exception: database and validation
errors quote what they were given. A call's id is bound with `call_context`.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, TextIO

import orjson
from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record

OUR_PACKAGES = ("bot", "desk", "records", "console", "qa", "sandbox", "server", "__main__")
_REPEAT_SECONDS = 1.0
_TEXT = (
    "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {extra[shown_call]}{message}\n{extra[shown_exception]}"
)


def configure_logging(
    level: str = "INFO", format: Literal["text", "json"] = "text", stream: TextIO | None = None
) -> None:
    """Send all logging of the process, loguru's and the standard library's, to `stream` (stderr) in `format`.

    Text is for people (coloured on a terminal), JSON for collectors: one object a line with ``time``, ``level``,
    ``message``, ``logger``, ``call`` where one is bound, and ``exception``.
    """
    stream = stream or sys.stderr
    output = _Output(stream, as_json=format == "json")
    logger.remove()
    logger.add(
        output,
        level=level,
        format=_text_format,
        filter=_may_be_shown,
        colorize=format == "text" and stream.isatty(),
        backtrace=False,
        diagnose=False,
    )
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.WARNING, force=True)
    # uvicorn's command line gives these handlers of their own.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


def call_context(call_sid: str) -> AbstractContextManager[None]:
    """Bind the call's id to every message logged inside, in tasks started inside too."""
    return logger.contextualize(call=call_sid)


def _is_ours(record: Record) -> bool:
    return (record["name"] or "").split(".", 1)[0] in OUR_PACKAGES


def _may_be_shown(record: Record) -> bool:
    return _is_ours(record) or record["level"].no >= logging.WARNING


def _text_format(record: Record) -> str:
    call = record["extra"].get("call", "")
    record["extra"]["shown_call"] = f"{call[-6:]} " if call else ""
    record["extra"]["shown_exception"] = _traceback(record)
    return _TEXT


def _traceback(record: Record) -> str:
    """The traceback of the record's exception and its causes; empty without one."""
    shown = []
    error = record["exception"].value if record["exception"] else None
    text_is_safe = _is_ours(record) and "call" not in record["extra"]
    while error:
        text = f": {error}" if text_is_safe or isinstance(error, OSError) else " (its text may quote a caller)"
        frames = "".join(traceback.format_tb(error.__traceback__))
        shown.append(f"Traceback (most recent call last):\n{frames}{type(error).__qualname__}{text}\n")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nthe direct cause or context of:\n".join(reversed(shown))


class _Output:
    """The sink. Warnings and errors of one place in the code come at most once a second; the rest is counted.

    loguru calls it under a lock, one message at a time.
    """

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._last_shown: dict[tuple[str | None, int], float] = {}
        self._held_back: dict[tuple[str | None, int], int] = {}

    def __call__(self, message: Message) -> None:
        record = message.record
        place = (record["name"], record["line"])
        more = 0
        if record["level"].no >= logging.WARNING:
            moment = record["time"].timestamp()
            if moment - self._last_shown.get(place, 0.0) < _REPEAT_SECONDS:
                self._held_back[place] = self._held_back.get(place, 0) + 1
                return
            self._last_shown[place] = moment
            more = self._held_back.pop(place, 0)
        self._stream.write(self._json(record, more) if self._as_json else self._text(message, more))
        self._stream.flush()

    @staticmethod
    def _text(message: Message, more: int) -> str:
        if not more:
            return message
        first, newline, rest = message.partition("\n")
        return f"{first} ({more} more like this since){newline}{rest}"

    @staticmethod
    def _json(record: Record, more: int) -> str:
        values: dict[str, object] = {
            "time": record["time"].isoformat(timespec="milliseconds"),
            "level": record["level"].name,
            "message": record["message"],
            "logger": record["name"],
        }
        if "call" in record["extra"]:
            values["call"] = record["extra"]["call"]
        if more:
            values["more_like_this"] = more
        if record["exception"]:
            values["exception"] = _traceback(record)
        return orjson.dumps(values).decode() + "\n"


class _ToLoguru(logging.Handler):
    """Hands records of the standard library's logging on to loguru, under the name of the logger they came from."""

    def emit(self, record: logging.LogRecord) -> None:
        def as_from_there(ours: Record) -> None:
            ours["name"], ours["function"], ours["line"] = record.name, record.funcName or "", record.lineno

        level: str | int = record.levelno
        if record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            level = record.levelname
        logger.patch(as_from_there).opt(exception=record.exc_info).log(level, "{}", record.getMessage())
