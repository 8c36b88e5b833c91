"""What gets into the log, what never does, and what it looks like."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from loguru import logger

from bot import logs
from bot.errors import TapeError
from bot.logs import call_context, configure_logging

NUMBER = "+15550142"


if TYPE_CHECKING:
    from loguru import Record


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logger.remove()
    logger.add(sys.stderr)
    root.handlers[:] = handlers
    root.setLevel(level)


def log_as(module: str, level: str, message: str) -> None:
    """Log as if the code stood in `module`: loguru takes the name from the calling frame's globals."""
    exec(f"logger.log({level!r}, {message!r})", {"logger": logger, "__name__": module})


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.mark.parametrize("level", ["INFO", "DEBUG", "TRACE"])
def test_what_pipecat_says_below_a_warning_is_never_shown(stream: io.StringIO, level: str) -> None:
    configure_logging(level, "text", stream)
    for quiet in ("TRACE", "DEBUG", "INFO"):
        log_as("pipecat.services.google.gemini_live.llm", quiet, f"Transcription: my number is {NUMBER}")
    log_as("pipecat.transports.base_output", "WARNING", "queue is long")
    logging.getLogger("twilio.http_client").info("Body: %s", NUMBER)
    logging.getLogger("websockets.client").debug("> %s", NUMBER)
    assert NUMBER not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1
    assert "queue is long" in stream.getvalue()


def test_our_own_messages_follow_the_level(stream: io.StringIO) -> None:
    configure_logging("INFO", "text", stream)
    log_as("bot.call", "DEBUG", "detail")
    log_as("bot.call", "INFO", "news")
    log_as("server", "INFO", "start")
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["news", "start"]


def test_the_standard_library_is_routed_even_from_uvicorn(stream: io.StringIO) -> None:
    own = logging.StreamHandler(io.StringIO())
    logging.getLogger("uvicorn.error").addHandler(own)
    configure_logging("INFO", "json", stream)
    logging.getLogger("uvicorn.error").error("port %d is taken", 7860)
    [line] = stream.getvalue().splitlines()
    values = json.loads(line)
    assert (values["level"], values["message"], values["logger"]) == ("ERROR", "port 7860 is taken", "uvicorn.error")
    assert own.stream.getvalue() == ""


def test_json_lines_carry_time_level_logger_and_call(stream: io.StringIO) -> None:
    configure_logging("INFO", "json", stream)
    with call_context("CA123"):
        log_as("bot.call", "INFO", "ended\nin two lines")
    log_as("bot.app", "WARNING", "no call here")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {"level": "INFO", "message": "ended\nin two lines", "logger": "bot.call", "call": "CA123"}
    assert "call" not in second


def test_a_call_s_id_stays_with_the_tasks_of_the_call(stream: io.StringIO) -> None:
    configure_logging("INFO", "json", stream)

    async def say(words: str) -> None:
        await asyncio.sleep(0)
        log_as("bot.call", "INFO", words)

    async def call(sid: str) -> None:
        with call_context(sid):
            await asyncio.create_task(say(f"in {sid}"))

    async def calls() -> None:
        await asyncio.gather(call("CA1"), call("CA2"))

    asyncio.run(calls())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted((line["call"], line["message"]) for line in lines) == [("CA1", "in CA1"), ("CA2", "in CA2")]


def test_text_is_short_and_shows_the_end_of_the_call_s_id(stream: io.StringIO) -> None:
    configure_logging("INFO", "text", stream)
    with call_context("CA0123456789abcdef"):
        log_as("bot.call", "INFO", "braces {} and <tags> stay")
    time, level, call, message = stream.getvalue().split(maxsplit=3)
    assert len(time) == len("12:34:56.789")
    assert (level, call, message) == ("INFO", "abcdef", "braces {} and <tags> stay\n")


def test_colour_is_for_terminals_only(stream: io.StringIO) -> None:
    configure_logging("INFO", "text", stream)
    log_as("bot.call", "INFO", "plain")
    terminal = Terminal()
    configure_logging("INFO", "text", terminal)
    log_as("bot.call", "INFO", "coloured")
    assert "\x1b[" not in stream.getvalue()
    assert "\x1b[" in terminal.getvalue()
    in_json = Terminal()
    configure_logging("INFO", "json", in_json)
    log_as("bot.call", "INFO", "never in JSON")
    assert "\x1b[" not in in_json.getvalue()


def fail_with(error: Exception) -> None:
    """Log `error`, raised while a KeyError that quotes the caller was handled, as bot/call.py would."""
    caller_number = NUMBER
    try:
        try:
            raise KeyError(caller_number)
        except KeyError:
            raise error  # noqa: B904 (the context is what is tested)
    except Exception:
        exec("logger.exception('failed')", {"logger": logger, "__name__": "bot.call"})


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_traceback_in_a_call_shows_where_and_not_what(stream: io.StringIO, format: str) -> None:
    configure_logging("INFO", format, stream)  # type: ignore[arg-type]
    with call_context("CA1"):
        fail_with(ValueError(f"not a day: {NUMBER}"))
    shown = stream.getvalue()
    assert NUMBER not in shown
    assert "in fail_with" in shown
    assert shown.index("KeyError") < shown.index("ValueError")


def test_texts_that_quote_nobody_are_shown(stream: io.StringIO) -> None:
    configure_logging("INFO", "text", stream)
    with call_context("CA1"):
        fail_with(ConnectionRefusedError(111, "Connection refused"))
    configure_logging("INFO", "text", stream)  # forgets that this place has just spoken
    fail_with(TapeError("x.mcap: damaged at byte 7"))
    assert "ConnectionRefusedError: [Errno 111] Connection refused" in stream.getvalue()
    assert "TapeError: x.mcap: damaged at byte 7" in stream.getvalue()


class HandTime:
    """Stops loguru's clock at the first record; `advance` moves it on."""

    def __init__(self) -> None:
        self._first: datetime | None = None
        self._since = timedelta()

    def __call__(self, record: Record) -> None:
        self._first = self._first or record["time"]
        record["time"] = self._first + self._since

    def advance(self, seconds: float) -> None:
        self._since += timedelta(seconds=seconds)


def test_a_repeated_error_comes_once_a_second_with_the_count_of_the_rest(stream: io.StringIO) -> None:
    configure_logging("INFO", "json", stream)
    clock = HandTime()
    timed = logger.patch(clock)

    def say(place: str) -> None:
        exec(f"log.error('{place} {{}}', 1)", {"log": timed, "__name__": f"bot.{place}"})

    for _ in range(10):
        say("gemini")
        say("desk")
        clock.advance(0.05)
    clock.advance(0.6)
    say("gemini")
    clock.advance(5)
    say("gemini")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["message"], line.get("more_like_this", 0)) for line in lines] == [
        ("gemini 1", 0),
        ("desk 1", 0),
        ("gemini 1", 9),
        ("gemini 1", 0),
    ]


def test_the_count_is_said_in_text_too_and_news_are_never_held_back(stream: io.StringIO) -> None:
    configure_logging("INFO", "text", stream)
    clock = HandTime()
    timed = logger.patch(clock)
    for _ in range(5):
        exec("log.warning('slow disk'); log.info('news')", {"log": timed, "__name__": "bot.tape"})
        clock.advance(0.3)
    text = stream.getvalue()
    assert text.count("news") == 5
    assert text.count("slow disk") == 2
    assert "slow disk (3 more like this since)\n" in text


def test_libraries_that_log_themselves_are_named_in_one_place() -> None:
    assert {"bot", "desk", "sandbox", "server", "qa"} <= set(logs.OUR_PACKAGES)
