"""Keys and ephemeral tokens of the Gemini stand-in.

Source: Live API "Ephemeral tokens" (AuthTokenService.CreateAuthToken, v1alpha). A token starts `uses` sessions (0: any
number; resuming is free) and may lock the setup: the whole of it, or the fields of `fieldMask`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.gemini.wire import Close, Json, as_int, camel, invalid, normalise

TOKEN_PREFIX = "auth_tokens/"
SPENT = Close(1011, "Token has been used too many times")
EXPIRED = Close(1011, "Token has expired")
UNKNOWN = Close(1007, "API key not valid. Please pass a valid API key.")
_LONGEST = timedelta(hours=20)


@dataclass
class Token:
    """One ephemeral token. `uses_left` None means any number of sessions."""

    uses_left: int | None
    expires: datetime
    new_sessions_until: datetime
    setup: Json | None
    mask: tuple[str, ...]

    def lock(self, setup: Json) -> Json:
        """The client's setup with the locked fields put back, silently, as the service does."""
        if self.setup is None:
            return setup
        if not self.mask:
            resumption = {k: v for k, v in setup.items() if k == "sessionResumption"}
            return {"model": setup.get("model"), **self.setup, **resumption}
        locked = dict(setup)
        for path in self.mask:
            _put(locked, path.split("."), self.setup)
        return locked


class Gatekeeper:
    """Decides who may connect. `keys` None lets any non-empty API key in."""

    def __init__(self, keys: frozenset[str] | None, chance: random.Random) -> None:
        self._keys = keys
        self._chance = chance
        self._tokens: dict[str, Token] = {}

    def knows(self, key: str | None) -> bool:
        """Whether this is a good API key (ephemeral tokens are not)."""
        if not key or key.startswith(TOKEN_PREFIX):
            return False
        return self._keys is None or key in self._keys

    def mint(self, body: Any, now: datetime) -> str:
        """`POST /v1alpha/auth_tokens` -> the token's name. Raises Reject (answer it with HTTP 400)."""
        if not isinstance(body, dict):
            raise invalid()
        wanted = normalise(body)
        uses = as_int(wanted.get("uses", 1), "uses")
        expires = _time(wanted, "expireTime", now + timedelta(minutes=30))
        if uses < 0 or expires > now + _LONGEST:
            raise invalid()
        setup = wanted.get("bidiGenerateContentSetup")
        mask = str(wanted.get("fieldMask") or "")
        token = Token(
            uses_left=uses or None,
            expires=expires,
            new_sessions_until=_time(wanted, "newSessionExpireTime", now + timedelta(seconds=60)),
            setup=setup if isinstance(setup, dict) else None,
            mask=tuple(".".join(camel(part) for part in path.split(".")) for path in mask.split(",") if path),
        )
        name = f"{TOKEN_PREFIX}{self._chance.getrandbits(160):040x}"
        self._tokens[name] = token
        return name

    def find(self, name: str | None) -> Token | None:
        """The token of that name, with or without `auth_tokens/`."""
        return self._tokens.get(TOKEN_PREFIX + (name or "").removeprefix(TOKEN_PREFIX))

    def spend(self, token: Token, now: datetime, *, resuming: bool) -> Close | None:
        """Counts one session of a token; what to refuse it with, or None."""
        if now > token.expires or (now > token.new_sessions_until and not resuming):
            return EXPIRED
        if resuming or token.uses_left is None:
            return None
        if token.uses_left == 0:
            return SPENT
        token.uses_left -= 1
        return None


def key_in(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """The API key of a request: header `x-goog-api-key` or `?key=`."""
    return headers.get("x-goog-api-key") or query.get("key")


def token_in(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """The ephemeral token of a request: `Authorization: Token NAME` or `?access_token=`."""
    scheme, _, name = headers.get("authorization", "").partition(" ")
    return name.strip() if scheme.lower() == "token" else query.get("access_token")


def _time(body: Json, name: str, default: datetime) -> datetime:
    text = body.get(name)
    if text is None:
        return default
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        raise invalid(f"Invalid value at '{name}'.") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _put(target: Json, path: list[str], source: Json) -> None:
    name, rest = path[0], path[1:]
    if name not in source:
        target.pop(name, None)
    elif rest and isinstance(source[name], dict):
        inner = target.get(name)
        target[name] = dict(inner) if isinstance(inner, dict) else {}
        _put(target[name], rest, source[name])
    else:
        target[name] = source[name]
