"""``server.py check``: one line for each thing, with its cure, and an exit status that says if calls can be taken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fakes.gemini import ListedEar, ListedMind, LoudnessDetector, ToneVoice
from pydantic import SecretStr
from rich.console import Console

from bot.doctor import check_everything
from bot.settings import Settings
from sandbox.gemini import GeminiStandIn
from sandbox.gemini.faults import Faults
from sandbox.twilio.exchange import Exchange
from sandbox.twilio.record import new_sid

TOKEN = "doctor-token"
HERE = "https://bot.example.com"


@dataclass
class Clinic:
    """Stand-ins, and the doctor's words about a server that would use them."""

    gemini: GeminiStandIn
    exchange: Exchange
    data: Path

    async def examine(self, *, fix: bool = False, **changes: Any) -> tuple[int, str]:
        settings = Settings(
            _env_file=None,
            **{
                "google_api_key": SecretStr("good-key"),
                "gemini_base_url": self.gemini.url,
                "gemini_models": ("gemini-3.8-live",),
                "twilio_account_sid": self.exchange.account_sid,
                "twilio_auth_token": SecretStr(TOKEN),
                "twilio_api_base_url": self.exchange.api_base_url,
                "public_url": HERE,
                "data_dir": self.data,
            }
            | changes,
        )
        shown = StringIO()
        status = await check_everything(fix=fix, console=Console(file=shown, width=300), settings=settings)
        return status, shown.getvalue()


Examine = Callable[..., Coroutine[Any, Any, tuple[int, str]]]


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Clinic]:
    async with (
        GeminiStandIn(
            mind_factory=lambda: ListedMind("Hello."),
            voice=ToneVoice(60),
            ear=ListedEar(),
            detector_factory=LoudnessDetector,
            api_keys=["good-key"],
            speed=5.0,
        ) as gemini,
        Exchange(new_sid("AC"), TOKEN) as exchange,
    ):
        exchange.add_number("+15005550006", voice_url="https://elsewhere.example.com/voice")
        yield Clinic(gemini, exchange, tmp_path)


async def test_a_number_that_points_elsewhere_is_named_and_mended(clinic: Clinic) -> None:
    status, shown = await clinic.examine()
    assert status == 0
    assert "voice_url, fallback_url, status_callback do not point here" in shown
    status, shown = await clinic.examine(fix=True)
    assert "now points here" in shown
    status, shown = await clinic.examine()
    assert (status, "webhook, fallback and status callback point here" in shown) == (0, True)
    assert clinic.exchange.numbers[0]["voice_url"] == f"{HERE}/twilio/voice"
    assert clinic.exchange.numbers[0]["voice_fallback_url"] == f"{HERE}/twilio/fallback"


async def test_a_good_key_is_timed(clinic: Clinic) -> None:
    _, shown = await clinic.examine()
    assert "gemini-3.8-live: session after " in shown
    assert "ms, first audio " in shown


@pytest.mark.parametrize(
    ("changes", "faults", "named"),
    [
        ({"google_api_key": SecretStr("wrong")}, Faults(), "GOOGLE_API_KEY"),
        ({"gemini_models": ("gemini-9.9-live",)}, Faults(), "GEMINI_MODELS"),
        ({}, Faults(upgrade_status=429), "quota"),
        ({}, Faults(refuse_connect=True), "reach"),
    ],
)
async def test_what_is_wrong_with_gemini_is_named_with_its_cure(
    clinic: Clinic, changes: dict[str, Any], faults: Faults, named: str
) -> None:
    clinic.gemini.faults.every = faults
    status, shown = await clinic.examine(**changes)
    line = next(line for line in shown.splitlines() if "gemini" in line)
    assert status == 1
    assert named in line


async def test_one_model_that_is_gone_does_not_keep_calls_away(clinic: Clinic) -> None:
    status, shown = await clinic.examine(gemini_models=("gemini-9.9-live", "gemini-3.8-live"))
    assert status == 0
    assert "! gemini" in shown
    assert "✓ gemini" in shown


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"twilio_auth_token": SecretStr("wrong")}, "TWILIO_AUTH_TOKEN"),
        ({"public_url": None}, "PUBLIC_URL"),
        ({"flow": "nail_salon"}, "FLOW"),
        ({"database_url": "postgresql://nobody:pw@127.0.0.1:1/none"}, "DATABASE_URL"),
    ],
)
async def test_whatever_else_is_wrong_is_named(clinic: Clinic, changes: dict[str, Any], named: str) -> None:
    status, shown = await clinic.examine(**changes)
    assert status == 1
    assert named in shown
    assert "pw@" not in shown


async def test_a_folder_that_cannot_be_written_is_named(clinic: Clinic) -> None:
    blocked = clinic.data / "file"
    blocked.write_text("")
    status, shown = await clinic.examine(data_dir=blocked, database_url=f"sqlite:///{clinic.data / 'desk.db'}")
    assert status == 1
    assert "DATA_DIR" in shown


async def test_a_store_of_recordings_that_cannot_be_used_is_named(clinic: Clinic) -> None:
    (clinic.data / "recordings").write_text("not a folder")
    status, words = await clinic.examine()
    assert status == 1
    assert "RECORDINGS_URL: The folder cannot be made" in words
    (clinic.data / "recordings").unlink()
    status, words = await clinic.examine()
    assert status == 0
    assert "recordings can be written and read" in words
    assert list((clinic.data / "recordings").iterdir()) == []


async def test_nothing_configured_can_take_calls_from_the_stand_in(clinic: Clinic) -> None:
    nothing = {name: None for name in ("google_api_key", "twilio_account_sid", "twilio_auth_token", "public_url")}
    status, shown = await clinic.examine(**nothing)
    assert status == 0
    assert "practice voice" in shown
