"""The README's first command, as a newcomer runs it: real processes, real speech, nothing configured."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from bot.tape import TapeReader

ROOT = Path(__file__).parents[2]
NEEDED = [name for name in ("espeakng_loader", "pocketsphinx", "webrtcvad") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(NEEDED), reason=f"the stand-ins' voice and ear are not installed: {NEEDED}")


def environment(data: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    return kept | {"DATA_DIR": str(data), "PORT": "0", "COLUMNS": "200"}


def channels(data: Path) -> set[str]:
    tape = next(data.glob("recordings/*/tape.mcap"))
    return {record.channel for record in TapeReader(tape)}


def recordings(data: Path) -> set[str]:
    return {path.name for path in data.glob("recordings/*/*")}


def permissions(folder: Path) -> dict[str, int]:
    """Of all that was written, by name."""
    return {path.name: path.stat().st_mode for path in folder.rglob("*")}


async def test_the_sample_call_books_what_the_customer_asked_for(tmp_path: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "server.py", cwd=ROOT, env=environment(tmp_path), stdout=asyncio.subprocess.PIPE, stderr=None
    )
    assert server.stdout is not None
    shown = ""
    try:
        async with asyncio.timeout(240):
            while "qa show" not in shown:
                line = await server.stdout.readline()
                assert line, f"the server ended: {shown}"
                shown += line.decode()
        async with asyncio.timeout(60):
            while "stereo.flac" not in recordings(tmp_path):  # the worker makes it after the call
                await asyncio.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await server.wait() == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
    modes = permissions(tmp_path)
    assert {"tape.mcap", "stereo.flac", "switchboard.db"} <= modes.keys()
    assert not {name for name, mode in modes.items() if mode & 0o077}, "what callers said is for its owner only"
    with create_engine(f"sqlite:///{tmp_path / 'switchboard.db'}").connect() as database:
        booked = database.execute(text("SELECT service_id, status FROM desk_appointments")).all()
    assert [tuple(row) for row in booked] == [("cleaning", "booked")]
    assert "caller  " in shown
    assert "tool    book_appointment" in shown
    assert "answers after" in shown
    assert re.search(r"booked +Booked for Emma Wilson: Cleaning .* at 11:00 AM", shown)
    assert re.search(r"outcome +booked; goodbye", shown)
    assert re.search(r"flags +none", shown)
    assert channels(tmp_path) >= {
        "meta",
        "carrier.in",
        "carrier.out",
        "model.in",
        "model.out",
        "event",
    }


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"FLOW": "nail_salon"}, "FLOW: 'nail_salon' is no file in flows/. There are: dental, home_repair."),
        ({"MAX_CALLS": "many"}, "MAX_CALLS: "),
        (
            {"TWILIO_ACCOUNT_SID": "AC1"},
            "TWILIO_AUTH_TOKEN: It is missing; ",
        ),
        ({"DATABASE_URL": "mysql://somewhere"}, "DATABASE_URL: "),
        ({"RECORDINGS_URL": "ftp://somewhere"}, "RECORDINGS_URL: is neither a folder nor a bucket. Give a folder"),
    ],
)
async def test_bad_configuration_stops_the_start_with_one_message(
    tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "server.py",
        "--no-sample-call",
        cwd=ROOT,
        env=environment(tmp_path) | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, errors = await server.communicate()
    assert server.returncode == 2
    assert named in errors.decode()
    assert "Traceback" not in errors.decode()
