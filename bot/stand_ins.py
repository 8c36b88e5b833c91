"""Starts the stand-ins for Gemini and Twilio as a child process, so that a server without any settings can be called.

They speak the real protocols over real sockets (docs/decisions/0010), and the rest of the bot does not know that it
talks to them: they are only other addresses in `Settings`. A process of their own keeps their recogniser and voice off
the audio loop.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from bot.errors import ConfigurationError
from bot.ports import Ids
from bot.settings import Settings

_START_SECONDS = 30.0


@dataclass(frozen=True)
class StandIns:
    """The running child process and where it listens."""

    process: asyncio.subprocess.Process
    gemini_url: str
    twilio_url: str

    def apply(self, settings: Settings) -> Settings:
        """`settings` with the stand-ins in place of what is not configured."""
        changes: dict[str, object] = {}
        if settings.uses_stand_in_model:
            changes |= {"google_api_key": SecretStr("stand-in"), "gemini_base_url": self.gemini_url}
        if settings.uses_stand_in_carrier:
            sid, token = _account(settings)
            changes |= {
                "twilio_account_sid": sid,
                "twilio_auth_token": SecretStr(token),
                "twilio_api_base_url": self.twilio_url,
            }
        return settings.model_copy(update=changes)

    async def stop(self) -> None:
        """End the child process."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 5)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


async def start_stand_ins(settings: Settings) -> StandIns:
    """Start what `settings` leaves to stand-ins.

    Raises `bot.errors.ConfigurationError` where their packages are not installed.
    """
    missing = [name for name in ("espeakng_loader", "pocketsphinx") if importlib.util.find_spec(name) is None]
    if missing:
        variable = "GOOGLE_API_KEY" if settings.uses_stand_in_model else "TWILIO_ACCOUNT_SID"
        raise ConfigurationError(
            variable,
            "is not set, and the stand-ins that would take its place are not installed.",
            "Set it, or install the stand-ins with: uv sync --group sandbox",
        )
    sid, token = _account(settings)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "serve", "--with-parent", "--account-sid", sid, "--auth-token", token,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
        ready = json.loads(line)
    except (TimeoutError, ValueError) as error:
        process.kill()
        raise ConfigurationError(
            "GOOGLE_API_KEY", "is not set, and the stand-in did not start.", "Try: uv run -m sandbox serve"
        ) from error
    return StandIns(process, ready["gemini"], ready["twilio"])


def write_card(settings: Settings, server_url: str) -> Path:
    """Leave a card in the data folder by which ``python -m sandbox call`` finds this server.

    JSON: ``server``, ``account_sid``, ``auth_token``, ``twilio_api``. Only its owner may read it.
    """
    assert settings.twilio_auth_token is not None
    card = {
        "server": server_url,
        "account_sid": settings.twilio_account_sid,
        "auth_token": settings.twilio_auth_token.get_secret_value(),
        "twilio_api": settings.twilio_api_base_url,
    }
    path = settings.data_dir / "sandbox.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(card, file)
    return path


def _account(settings: Settings) -> tuple[str, str]:
    """The account that stands in for a real one: kept between starts, so that a phone's card stays true."""
    path = settings.data_dir / "sandbox.json"
    try:
        card = json.loads(path.read_text())
        return card["account_sid"], card["auth_token"]
    except (OSError, ValueError, KeyError):
        ids = Ids()
        sid, token = "AC" + ids.hex(32), ids.hex(32)
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"account_sid": sid, "auth_token": token}, file)
        return sid, token
