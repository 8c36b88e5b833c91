"""Fixtures for every package's tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest
import trustme
from fakes.runbook import ROWS, rows_held
from hypothesis import settings
from sqlalchemy.engine import make_url

# Examples are not timed: on a busy machine any of them may take long.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_numbers = count()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mix the tests where several processes share them: calls in real time mostly wait, others compute all the time."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: hashlib.sha256(item.nodeid.encode()).digest())


@pytest.fixture(autouse=True)
def rows_hold(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that stands in the runbook's table of failures does not pass where its row is not true."""
    rows = [row for row in ROWS if row.test == request.node.originalname]
    if not rows:
        yield
        return
    with rows_held(rows):
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a Postgres in which tests may make databases: TEST_POSTGRES_URL, or a private server for this session."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield given
        return
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("Postgres is not installed and TEST_POSTGRES_URL is not set")
    if os.geteuid() == 0 and _unprivileged_user() is None:
        pytest.skip("Postgres does not run as root and there is no user 'postgres' or 'nobody'")
    with tempfile.TemporaryDirectory(prefix="switchboard-postgres-") as folder:
        yield from _private_server(binaries, Path(folder))


def _postgres_binaries() -> Path | None:
    """The folder with initdb and postgres: Debian's, which is not on the PATH, or the PATH's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    candidates = [*reversed(debian), *([Path(found).resolve().parent] if found else [])]
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _unprivileged_user() -> str | None:
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _private_server(binaries: Path, folder: Path) -> Iterator[str]:
    user = _unprivileged_user() if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data, log = folder / "data", folder / "log"
    make = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, user=user, cwd=folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "max_connections": 200,
        # Another zone than UTC, so that a moment stored without its zone shows.
        "timezone": "Asia/Tokyo",
    }
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *options], stdout=out, stderr=out, user=user, cwd=folder
        )
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        _wait_until_up(server, url, log)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_up(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Postgres did not start: {log.read_text()}") from error
            time.sleep(0.05)
        else:
            return


Migrate = Callable[[str], None]
MakeDatabase = Callable[..., str]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Migrate], Path]:
    """The file of an SQLite database on which this migration has run, to be copied."""

    @cache
    def made(migrate: Migrate) -> Path:
        path = tmp_path_factory.mktemp("template") / "migrated.db"
        migrate(f"sqlite:///{path}")
        return path

    return made


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[Callable[[Migrate], str]]:
    """The name of a Postgres database on which this migration has run, to be copied."""
    names: list[str] = []

    @cache
    def made(migrate: Migrate) -> str:
        names.append(_create_database(postgres_url))
        migrate(_url_of(postgres_url, names[-1]))
        return names[-1]

    yield made
    for name in names:
        _drop_database(postgres_url, name)


def _create_database(server: str, template: str = "template1") -> str:
    name = f"records_test_{os.environ.get('PYTEST_XDIST_WORKER', 'gw')}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


def _drop_database(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _url_of(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgres"])
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeDatabase]:
    """Makes the test's database on each engine and gives its URL: empty, or as `migrate` leaves it.

    A migration takes up to 0.2 s; it runs once in a session, and the tests get copies.
    """
    fixture = request.getfixturevalue
    if request.param == "sqlite":
        path = tmp_path / "records.db"

        def make_file(migrate: Migrate | None = None) -> str:
            if migrate:
                shutil.copy(fixture("sqlite_template")(migrate), path)
            return f"sqlite:///{path}"

        yield make_file
        return
    server, names = fixture("postgres_url"), list[str]()

    def make_postgres(migrate: Migrate | None = None) -> str:
        names.append(_create_database(server, *([fixture("postgres_template")(migrate)] if migrate else [])))
        return _url_of(server, names[-1])

    yield make_postgres
    for name in names:
        _drop_database(server, name)


@pytest.fixture
def empty_url(make_database: MakeDatabase) -> str:
    """An empty database on each engine."""
    return make_database()


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """A bucket ``calls`` on moto's server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/calls", method="PUT")).close()
    yield {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1", "endpoint": endpoint}
    server.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's side of TLS for 127.0.0.1, and the file of the certificate authority behind it."""
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return server, str(path)


@pytest.fixture
def secure(authority: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context for a stand-in that speaks TLS; the clients of this test trust it as they trust any service."""
    server, path = authority
    monkeypatch.setenv("SSL_CERT_FILE", path)
    return server
