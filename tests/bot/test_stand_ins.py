"""The child process that stands in for what is not configured."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from bot.errors import ConfigurationError
from bot.settings import Settings
from bot.stand_ins import start_stand_ins, write_card


def settings(folder: Path, **values: Any) -> Settings:
    return Settings(
        _env_file=None, **({"google_api_key": None, "twilio_account_sid": None, "data_dir": folder} | values)
    )


async def test_without_their_packages_the_start_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as error:
        await start_stand_ins(settings(tmp_path))
    assert str(error.value).startswith("GOOGLE_API_KEY: is not set, and the stand-ins")
    assert "uv sync --group sandbox" in str(error.value)


@pytest.mark.skipif(importlib.util.find_spec("pocketsphinx") is None, reason="the group sandbox is not installed")
async def test_they_take_the_place_of_what_is_missing_only_and_leave_a_card(tmp_path: Path) -> None:
    given = settings(tmp_path, google_api_key=SecretStr("a real key"))
    stand_ins = await start_stand_ins(given)
    try:
        filled = stand_ins.apply(given)
        assert filled.google_api_key == SecretStr("a real key")
        assert filled.gemini_base_url is None
        assert filled.twilio_api_base_url == stand_ins.twilio_url
        path = write_card(filled, "http://127.0.0.1:7860")
        card = json.loads(path.read_text())
        assert os.stat(path).st_mode & 0o077 == 0
        async with httpx.AsyncClient(auth=(card["account_sid"], card["auth_token"])) as http:
            account = await http.get(f"{card['twilio_api']}/2010-04-01/Accounts/{card['account_sid']}.json")
        assert account.json()["sid"] == filled.twilio_account_sid
    finally:
        await stand_ins.stop()
    assert stand_ins.process.returncode is not None


@pytest.mark.skipif(importlib.util.find_spec("pocketsphinx") is None, reason="the group sandbox is not installed")
async def test_the_account_is_the_same_at_the_next_start(tmp_path: Path) -> None:
    accounts = set()
    for _ in range(2):
        stand_ins = await start_stand_ins(settings(tmp_path))
        await stand_ins.stop()
        accounts.add(stand_ins.apply(settings(tmp_path)).twilio_account_sid)
    assert len(accounts) == 1


@pytest.mark.skipif(importlib.util.find_spec("pocketsphinx") is None, reason="the group sandbox is not installed")
async def test_they_do_not_outlive_a_server_that_was_killed(tmp_path: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c",
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.argv[1], '-m', 'sandbox', 'serve', '--with-parent'], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)",
        sys.executable, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    child = int(await server.stdout.readline())
    server.kill()
    await server.wait()
    async with asyncio.timeout(10):
        while _runs(child):
            await asyncio.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
