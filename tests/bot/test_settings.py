"""Bad configuration stops the start with one message that names the variable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.errors import ConfigurationError
from bot.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
NAMES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_everything_has_a_default() -> None:
    settings = load_settings()
    assert settings.port == 7860
    assert settings.uses_stand_in_model
    assert settings.uses_stand_in_carrier
    assert settings.database.startswith("sqlite:////")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GEMINI_BASE_URL", "http://example.com"),
        ("GEMINI_BASE_URL", "ws://127.0.0.1:1"),
        ("PUBLIC_URL", "bot.example.com"),
        ("PUBLIC_URL", "https://bot.example.com/?a=1"),
        ("PORT", "70000"),
        ("MAX_CALLS", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("GEMINI_MODELS", " , "),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert error.value.variable == name
    assert str(error.value).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("given", "missing"),
    [("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"), ("TWILIO_AUTH_TOKEN", "TWILIO_ACCOUNT_SID")],
)
def test_half_an_account_names_the_missing_half(monkeypatch: pytest.MonkeyPatch, given: str, missing: str) -> None:
    monkeypatch.setenv(given, "x")
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert error.value.variable == missing


def test_models_are_a_comma_list_without_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_MODELS", "models/gemini-3.8-live, gemini-2.5-flash-native-audio-latest,")
    assert load_settings().gemini_models == ("gemini-3.8-live", "gemini-2.5-flash-native-audio-latest")


def test_a_plain_address_is_allowed_on_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1:9", "localhost:9", "[::1]:9"):
        monkeypatch.setenv("GEMINI_BASE_URL", f"http://{host}/")
        assert load_settings().gemini_base_url == f"http://{host}"


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://bot:planted-password@db/desk",
        "postgresql://db/desk?user=bot&password=planted",
        "postgresql://bot@db/desk?sslpassword=planted",
        "postgresql://bot:planted/planted?planted@db/desk",
        "postgresql://bot@db/desk?password=planted@planted",
    ],
)
def test_no_secret_reaches_the_tape(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "planted-key")
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "ACx")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "planted-token")
    monkeypatch.setenv("DATABASE_URL", address)
    monkeypatch.setenv("REDIS_URL", "redis://cache/0?password=planted")
    settings = load_settings()
    assert "planted" not in str(settings.without_secrets())
    assert "planted" not in repr(settings)
    assert settings.without_secrets()["google_api_key"] == "set"
    assert settings.without_secrets()["database_url"] == "postgresql://…"


def test_an_address_without_a_secret_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://calls.example.com")
    assert load_settings().without_secrets()["public_url"] == "https://calls.example.com"


def test_the_example_file_names_every_setting_and_no_other() -> None:
    written = re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(written) == sorted(NAMES)


def test_the_example_file_shows_the_defaults() -> None:
    defaults = {
        name.upper(): ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)
        for name, field in Settings.model_fields.items()
        if field.default not in (None, ())
    }
    written = dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert {name: value.removeprefix("./") for name, value in written.items() if value} == defaults


def test_the_bucket_gets_what_is_set_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().s3 == {}
    assert load_settings().recordings.endswith("/data/recordings")
    for name, value in (("RECORDINGS_URL", "s3://b/calls"), ("AWS_SECRET_ACCESS_KEY", "k"), ("AWS_REGION", "eu-1")):
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.recordings == "s3://b/calls"
    assert settings.s3 == {"secret_access_key": "k", "region": "eu-1"}
