"""The only reader of the environment.

`Settings()` reads the variables of ``.env.example`` from the environment and from a file ``.env`` beside ``server.py``;
`load_settings` turns whatever is wrong into one `bot.errors.ConfigurationError` that names the variable.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.errors import ConfigurationError


def is_loopback(host: str | None) -> bool:
    """Whether `host` is this machine by name or number."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


Days = Annotated[int, Field(ge=0, le=36_500)]


class Settings(BaseSettings):
    """Every setting, its default and what it means. Secrets are `SecretStr`, so that no log shows one."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    google_api_key: SecretStr | None = Field(None, description="Key of the Gemini API with Live access.")
    gemini_models: Annotated[tuple[str, ...], NoDecode] = Field(
        ("gemini-3.1-flash-live-preview", "gemini-3.8-live"),
        description="Live models, comma separated; the first that exists answers.",
    )
    gemini_text_model: str = Field(
        "gemini-flash-latest", description="Model that summarises finished calls, where a key is set."
    )
    gemini_base_url: str | None = Field(
        None, description="Another Gemini endpoint: https://…, or http://… on this machine (plain ws://)."
    )
    twilio_account_sid: str | None = Field(None, description="Account SID, AC and 32 hexadecimal digits.")
    twilio_auth_token: SecretStr | None = Field(None, description="Auth token: signs webhooks, opens the REST API.")
    twilio_shared_key: SecretStr | None = Field(
        None, description="Secret of a webhook shared key, where Twilio signs with one (SHA-256) instead of the token."
    )
    twilio_api_base_url: str | None = Field(None, description="Another Twilio REST endpoint, for the stand-in.")
    public_url: str | None = Field(
        None,
        description="https address under which the carrier reaches this server; signatures are made over it.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(7860, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(Path("./data"), description="Folder of tapes, greetings and the default database.")
    database_url: str | None = Field(
        None, repr=False, description="sqlite:///… or postgresql://…; default a SQLite file in DATA_DIR."
    )
    recordings_url: str | None = Field(
        None, description="Where recordings are kept: a folder or s3://bucket/prefix; default a folder in DATA_DIR."
    )
    aws_access_key_id: SecretStr | None = Field(None, description="Access key of the recordings' bucket.")
    aws_secret_access_key: SecretStr | None = Field(None, description="Secret key of the recordings' bucket.")
    aws_session_token: SecretStr | None = Field(None, description="Session token, with temporary keys.")
    aws_region: str | None = Field(None, description="Region of the recordings' bucket.")
    aws_endpoint_url: str | None = Field(None, description="Another S3-compatible store than Amazon's.")
    retention_audio_days: Days | None = Field(None, description="Days to keep recordings; left out, for good.")
    retention_transcript_days: Days | None = Field(None, description="Days to keep what was said on calls.")
    retention_number_days: Days | None = Field(None, description="Days to keep callers' numbers.")
    redis_url: str | None = Field(None, repr=False, description="Redis, when several processes serve one number.")
    flow: str = Field("dental", description="The flow that answers: a file in flows/, with or without .yaml.")
    max_calls: int = Field(20, ge=1, le=1000, description="Calls at once; further callers hear a busy sentence.")
    webhook_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), repr=False, description="Addresses, comma separated, that are told of finished and of flagged calls."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Key that signs what they are told: whsec_ and base64, or any text."
    )
    console_password: SecretStr | None = Field(
        None, description="Password of the console; without it the first start makes one."
    )
    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe message shown."
    )
    log_format: Literal["text", "json"] = Field("text", description="text for people, json for collectors.")

    @field_validator("gemini_models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(name.strip().removeprefix("models/") for name in value.split(",") if name.strip())
        if not names:
            raise ValueError("names no model")
        return names

    @field_validator("webhook_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        return tuple(url.strip() for url in value.split(",") if url.strip()) if isinstance(value, str) else value

    @field_validator("webhook_urls")
    @classmethod
    def _safe_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if not parts.hostname or parts.scheme not in ("http", "https") or parts.fragment:
                raise ValueError("holds something that is not an address such as https://crm.example.com/calls")
            if parts.scheme == "http" and not is_loopback(parts.hostname):
                raise ValueError("may use http:// only for this machine; elsewhere it must be https://")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _good_secret(cls, value: SecretStr | None) -> SecretStr | None:
        secret = value.get_secret_value() if value else ""
        if secret.startswith("whsec_"):
            try:
                base64.b64decode(secret.removeprefix("whsec_"), validate=True)
            except binascii.Error:
                raise ValueError("begins with whsec_, but what follows is not base64") from None
        return value

    @field_validator("gemini_base_url", "twilio_api_base_url", "public_url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("is not an address such as https://bot.example.com")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("may use http:// only for this machine; elsewhere it must be https://")
        return value.rstrip("/")

    @field_validator("recordings_url")
    @classmethod
    def _known_store(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("", "file", "s3", "memory"):
            raise ValueError("is neither a folder nor a bucket")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.twilio_account_sid) != bool(self.twilio_auth_token):
            missing = "twilio_auth_token" if self.twilio_account_sid else "twilio_account_sid"
            raise ValueError(f"{missing.upper()}: It is missing; the account SID and the auth token go together")
        if self.webhook_urls and not self.webhook_secret:
            raise ValueError("WEBHOOK_SECRET: It is missing; what WEBHOOK_URLS are told must be signed")
        return self

    @property
    def database(self) -> str:
        """The database's address, with the default worked out."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'switchboard.db').absolute()}"

    @property
    def recordings(self) -> str:
        """Where recordings are kept, with the default worked out."""
        return self.recordings_url or str((self.data_dir / "recordings").absolute())

    @property
    def s3(self) -> dict[str, str]:
        """What is set of the bucket's access; the rest obstore finds in the environment or from the machine's role."""
        given = {
            "access_key_id": self.aws_access_key_id,
            "secret_access_key": self.aws_secret_access_key,
            "session_token": self.aws_session_token,
            "region": self.aws_region,
            "endpoint": self.aws_endpoint_url,
        }
        return {
            key: value.get_secret_value() if isinstance(value, SecretStr) else value
            for key, value in given.items()
            if value is not None
        }

    @property
    def retention(self) -> dict[str, int | None]:
        """Days to keep each kind; None for good."""
        return {
            "audio": self.retention_audio_days,
            "transcript": self.retention_transcript_days,
            "number": self.retention_number_days,
        }

    @property
    def uses_stand_in_model(self) -> bool:
        """Nothing says which Gemini to use, so the stand-in answers."""
        return self.google_api_key is None

    @property
    def uses_stand_in_carrier(self) -> bool:
        """Nothing says which Twilio account to use, so calls come from the stand-in phone."""
        return self.twilio_account_sid is None

    def without_secrets(self) -> dict[str, object]:
        """The settings for a tape: secrets are replaced by whether they are set, addresses with one by their scheme."""
        values = self.model_dump(mode="json")
        for name, value in list(values.items()):
            original = getattr(self, name)
            if isinstance(original, SecretStr):
                values[name] = "set"
            elif name == "webhook_urls":
                values[name] = len(self.webhook_urls)
            elif isinstance(value, str):
                values[name] = _address_without_secrets(value)
        return values


def _address_without_secrets(value: str) -> str:
    """Any other text as it is. A password may hold every sign, and drivers take one in the query as well."""
    scheme, is_address, rest = value.partition("://")
    return f"{scheme}://…" if is_address and not {"@", "?"}.isdisjoint(rest) else value


_CURES = {
    "gemini_models": "Give Live model ids such as gemini-3.8-live, separated by commas.",
    "gemini_base_url": "Give an https:// address, or http:// on 127.0.0.1.",
    "twilio_api_base_url": "Leave it out to use Twilio itself.",
    "webhook_urls": "Give https:// addresses, separated by commas.",
    "webhook_secret": "Give whsec_ and 24 to 64 bytes in base64, or any long text.",
    "recordings_url": "Give a folder, or s3://bucket/prefix.",
    "public_url": "Give the https:// address that Twilio calls, without a path that is not served here.",
    **{f"retention_{kind}_days": "Give whole days, 0 or more." for kind in ("audio", "transcript", "number")},
    "port": "Give a port between 0 and 65535.",
    "max_calls": "Give a number between 1 and 1000.",
    "log_level": "Use TRACE, DEBUG, INFO, WARNING or ERROR.",
    "log_format": "Use text or json.",
}


def load_settings(**overrides: object) -> Settings:
    """Read the settings.

    Raises `bot.errors.ConfigurationError` for the first variable that is wrong.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        problem = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            variable, _, rest = problem.partition(": ")
            raise ConfigurationError(variable, f"{rest}.", "Set both, or neither.") from error
        name = str(first["loc"][0]).lower()
        cure = _CURES.get(name, "See .env.example.")
        raise ConfigurationError(name.upper(), problem.rstrip(".") + ".", cure) from error
