"""Who may use the console: the password, how often it may be wrong, and sessions in signed cookies.

There is one operator and one password: ``CONSOLE_PASSWORD``, or one that the first start makes and keeps in
``DATA_DIR/console-password``. Sessions are signed with a key made of ``DATA_DIR/console-key`` and the password: they
outlive a restart, and end when the password changes.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from itsdangerous import BadSignature, TimestampSigner, URLSafeTimedSerializer

from bot.errors import ConfigurationError
from bot.ports import Clock, Ids
from bot.settings import Settings

OPERATOR = "operator"
SESSION_SECONDS = 12 * 3600
"""How long a login lasts, whatever is done meanwhile."""
TRIES_OF_CLIENT, SECONDS_FOR_TRY = 5, 30.0
"""Wrong passwords in a row that one address may send, and how long each further one is waited for."""
TRIES_OF_ALL, SECONDS_FOR_TRY_OF_ALL = 30, 6.0
"""The same for all addresses together."""
CLIENTS_KEPT = 1000
_SESSIONS_ENDED_KEPT = 1000


def password_file(settings: Settings) -> Path | None:
    """Where the password lies that the first start makes; None where ``CONSOLE_PASSWORD`` is the password."""
    given = settings.console_password
    return None if given and given.get_secret_value() else settings.data_dir / "console-password"


@dataclass(frozen=True)
class Session:
    """A login: ``id`` is its random name in the audit log."""

    who: str
    id: str


class Throttle:
    """How soon somebody who sent wrong passwords may send another: a pure object, fed with a monotonic time.

    Leaky buckets by the generic cell rate algorithm (ITU-T I.371, annex A), one for each address (for IPv6 each /64)
    and one for all. Only what was wrong counts, and at most `CLIENTS_KEPT` addresses are remembered.
    """

    def __init__(self) -> None:
        self._clients: dict[str, float] = {}
        self._all = 0.0

    def wait_seconds(self, client: str, now: float) -> float:
        """How long this address has to wait before its next try; 0 where it need not."""
        of_client = self._clients.get(_network(client), 0.0) - (TRIES_OF_CLIENT - 1) * SECONDS_FOR_TRY
        of_all = self._all - (TRIES_OF_ALL - 1) * SECONDS_FOR_TRY_OF_ALL
        return max(of_client - now, of_all - now, 0.0)

    def failed(self, client: str, now: float) -> None:
        """A password of this address was wrong."""
        network = _network(client)
        self._clients[network] = max(self._clients.get(network, 0.0), now) + SECONDS_FOR_TRY
        self._all = max(self._all, now) + SECONDS_FOR_TRY_OF_ALL
        if len(self._clients) > CLIENTS_KEPT:
            self._clients = {kept: until for kept, until in self._clients.items() if until > now}
        if len(self._clients) > CLIENTS_KEPT:
            del self._clients[min(self._clients, key=self._clients.__getitem__)]


def _network(client: str) -> str:
    """An address as the throttle counts it: whoever has one IPv6 address has the other 2**64 of its network, too."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped:
        return client
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


@dataclass(frozen=True)
class Login:
    """What became of a try to log in: a session's ``cookie``, or how long to wait before the next try."""

    outcome: Literal["logged_in", "wrong_password", "throttled", "closed"]
    session: Session | None = None
    cookie: str = ""
    wait_seconds: float = 0.0


class Access:
    """The door of the console. `open` it before it is asked; until then nobody is let in."""

    def __init__(self, settings: Settings, clock: Clock, ids: Ids) -> None:
        self.password_file = password_file(settings)
        self.made_password: str | None = None
        """The password, where this start has made it."""
        self._settings = settings
        self._clock = clock
        self._ids = ids
        self._throttle = Throttle()
        self._password: bytes | None = None
        self._signer: URLSafeTimedSerializer | None = None
        self._ended: dict[str, float] = {}  # sessions that were logged out, and when their cookies end by themselves

    def open(self) -> None:
        """Read the password and the key, or make them. Blocks. Raises ConfigurationError where they cannot be kept."""
        given = self._settings.console_password
        try:
            if self.password_file:
                password, made = _read_or_make(self.password_file, "-".join(self._ids.hex(4) for _ in range(5)))
                self.made_password = password if made else None
            else:
                password = given.get_secret_value() if given else ""
            key, _ = _read_or_make(self._settings.data_dir / "console-key", self._ids.token())
        except OSError as error:
            problem = f"The console's password and key cannot be kept there ({error.strerror})."
            raise ConfigurationError("DATA_DIR", problem, "Choose a folder that this user may write.") from error
        self._signer = _signer(hmac.digest(key.encode(), password.encode(), "sha256"), self._clock)
        self._password = hashlib.sha256(password.encode()).digest()

    def log_in(self, password: str, client: str) -> Login:
        """Let somebody in who knows the password; `client` is the address they come from."""
        if self._password is None or self._signer is None:
            return Login("closed")
        now = self._clock.now_ns() / 1e9
        if wait := self._throttle.wait_seconds(client, now):
            return Login("throttled", wait_seconds=wait)
        given = hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()
        if not hmac.compare_digest(given, self._password):
            self._throttle.failed(client, now)
            return Login("wrong_password")
        session = Session(OPERATOR, self._ids.hex(16))
        return Login("logged_in", session, self._signer.dumps([session.who, session.id]))

    def session(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None where it is none of ours, too old or logged out."""
        if self._signer is None or not cookie:
            return None
        try:
            who, name = self._signer.loads(cookie, max_age=SESSION_SECONDS)
        except BadSignature:
            return None
        return None if name in self._ended else Session(who, name)

    def log_out(self, session: Session) -> None:
        """End a session, copies of its cookie too, as long as this process lives."""
        now = self._clock.now_ns() / 1e9
        self._ended = {name: until for name, until in self._ended.items() if until > now}
        self._ended[session.id] = now + SESSION_SECONDS
        if len(self._ended) > _SESSIONS_ENDED_KEPT:
            del self._ended[next(iter(self._ended))]


def _signer(key: bytes, clock: Clock) -> URLSafeTimedSerializer:
    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return clock.wall_ns() // 1_000_000_000

    how = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(key, salt="console session", signer=Signer, signer_kwargs=how)


def _read_or_make(path: Path, new: str) -> tuple[str, bool]:
    """The secret in a file that only its owner may read, and whether it is the `new` one.

    It is there whole or not at all, and of several processes that make it at once one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made = False
    if not path.exists():
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{new}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(part, path)
            made = True
        part.unlink()
    path.chmod(0o600)
    secret = path.read_text().strip()
    if not secret:
        raise OSError(0, f"{path.name} is empty; remove it", str(path))
    return secret, made
