"""``uv run server.py check``: tries every configured thing and explains it in one line each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape

from bot.app import find_flow, try_recordings, where_the_password_lies
from bot.carriers.twilio import CarrierRest, Number, number_urls
from bot.errors import CarrierUnreachable, ConfigurationError, FlowError, ModelError, RecordingsError
from bot.flow import Flow, load_flow
from bot.gemini_client import GeminiClients, probe
from bot.ports import SystemClock
from bot.settings import Settings, load_settings
from desk.desk import Desk, migrate

Verdict = Literal["good", "stand-in", "warning", "bad"]
_SIGNS = {"good": "[green]✓[/]", "stand-in": "[yellow]·[/]", "warning": "[yellow]![/]", "bad": "[red]✗[/]"}


@dataclass(frozen=True)
class Finding:
    """One line of the report. A ``bad`` one means that calls cannot be taken."""

    verdict: Verdict
    what: str
    words: str


async def check_everything(*, fix: bool, console: Console | None = None, settings: Settings | None = None) -> int:
    """Print a line for each thing. Gives 0 if calls can be taken, else 1.

    Raises `bot.errors.ConfigurationError` where the settings themselves cannot be read.
    """
    console = console or Console()
    settings = settings or load_settings()
    bad = 0
    checks: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
        ("flow", lambda: _flow(settings)),
        ("gemini", lambda: _gemini(settings)),
        ("twilio", lambda: _twilio(settings, fix=fix)),
        ("address", lambda: _address(settings)),
        ("database", lambda: _database(settings)),
        ("folder", lambda: _folder(settings)),
        ("recordings", lambda: _recordings(settings)),
        ("console", lambda: _console(settings)),
    ]
    for name, check in checks:
        with console.status(f"Checking {name} …"):
            findings = await check()
        for finding in findings:
            bad += finding.verdict == "bad"
            console.print(
                f"{_SIGNS[finding.verdict]} {finding.what:<11}{escape(finding.words)}", highlight=False, soft_wrap=True
            )
    console.print("[green]Calls can be taken.[/]" if not bad else f"[red]Calls cannot be taken: {bad} to mend.[/]")
    return 1 if bad else 0


async def _flow(settings: Settings) -> list[Finding]:
    try:
        flow = await asyncio.to_thread(lambda: load_flow(find_flow(settings.flow)))
    except (FlowError, ConfigurationError) as error:
        return [Finding("bad", "flow", str(error))]
    return [Finding("good", "flow", f"{flow.id}: {flow.title}, {len(flow.tools)} tools, {len(flow.steps)} steps")]


async def _gemini(settings: Settings) -> list[Finding]:
    if settings.google_api_key is None:
        return [
            Finding("stand-in", "gemini", "GOOGLE_API_KEY is not set: the stand-in answers, which is a practice voice.")
        ]
    clients = GeminiClients(settings)
    await clients.open()
    return await _models(clients, settings)


async def _models(clients: GeminiClients, settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    usable = 0
    for model in settings.gemini_models:
        try:
            found = await probe(clients, model)
        except ModelError as error:
            findings.append(Finding("warning", "gemini", f"{model}: {error}"))
            if error.kind in ("bad_key", "unreachable", "no_live_access"):
                break
            continue
        usable += 1
        words = f"{model}: session after {found.setup_ms:.0f} ms, first audio {found.first_audio_ms:.0f} ms later"
        findings.append(Finding("good", "gemini", words))
    if not usable:
        # None of them answers: what was a warning for one model is the end for all.
        findings = [Finding("bad", finding.what, finding.words) for finding in findings]
    return findings


async def _twilio(settings: Settings, *, fix: bool) -> list[Finding]:
    if settings.uses_stand_in_carrier:
        return [Finding("stand-in", "twilio", "TWILIO_ACCOUNT_SID is not set: only the stand-in phone can call.")]
    rest = CarrierRest(settings, SystemClock())
    try:
        findings = [Finding("good", "twilio", f"account {await rest.check_credentials()!r}")]
        numbers = await rest.numbers()
        if not numbers:
            return [*findings, Finding("warning", "numbers", "the account has no number; buy one in Twilio's console")]
        return [*findings, *[await _number(rest, number, settings, fix=fix) for number in numbers]]
    except CarrierUnreachable as error:
        return [Finding("bad", "twilio", str(error))]
    finally:
        await rest.close()


async def _number(rest: CarrierRest, number: Number, settings: Settings, *, fix: bool) -> Finding:
    if settings.public_url is None:
        return Finding("warning", "number", f"{number.phone_number}: cannot be judged without PUBLIC_URL")
    wanted = number_urls(settings.public_url)
    wrong = [name for name, url in wanted.items() if getattr(number, name) != url]
    if number.diverted_to:
        wrong.append("diverted_to")
    if not wrong:
        return Finding("good", "number", f"{number.phone_number}: webhook, fallback and status callback point here")
    if fix:
        await rest.set_number_urls(number.sid, settings.public_url)
        return Finding("good", "number", f"{number.phone_number}: now points here (mended {', '.join(wrong)})")
    return Finding(
        "warning",
        "number",
        f"{number.phone_number}: {', '.join(wrong)} do not point here; mend with: server.py check --fix",
    )


async def _address(settings: Settings) -> list[Finding]:
    if settings.public_url:
        return [Finding("good", "address", f"{settings.public_url}: signatures are checked against it")]
    if settings.uses_stand_in_carrier:
        return [Finding("stand-in", "address", "PUBLIC_URL is not set: fine for the stand-in phone on this machine.")]
    return [
        Finding("bad", "address", "PUBLIC_URL is not set: Twilio's signatures cannot be checked behind a TLS proxy.")
    ]


async def _database(settings: Settings) -> list[Finding]:
    def attempt() -> str:
        flow: Flow = load_flow(find_flow(settings.flow))
        migrate(settings.database)
        desk = Desk(settings.database, flow.desk_business(), SystemClock())
        try:
            desk.open()
            desk.ping()
        finally:
            desk.close()
        return settings.database.split("://", 1)[0]

    try:
        kind = await asyncio.to_thread(attempt)
    except (ConfigurationError, FlowError) as error:
        return [Finding("bad", "database", str(error))]
    except Exception as error:  # whatever the driver raises, the operator needs one line
        first_line = (str(error).splitlines() or [""])[0]
        return [Finding("bad", "database", f"DATABASE_URL: {type(error).__name__}: {first_line[:160]}")]
    return [Finding("good", "database", f"{kind}: reachable, its tables are up to date")]


async def _folder(settings: Settings) -> list[Finding]:
    def attempt() -> None:
        folder = settings.data_dir / "tapes"
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / ".trial"
        trial.write_bytes(b"")
        trial.unlink()

    try:
        await asyncio.to_thread(attempt)
    except OSError as error:
        cure = "Give DATA_DIR a folder that this user may write to."
        return [Finding("bad", "folder", f"DATA_DIR: {settings.data_dir}: {error.strerror}. {cure}")]
    return [Finding("good", "folder", f"{settings.data_dir.absolute()}: tapes can be written")]


async def _recordings(settings: Settings) -> list[Finding]:
    where = urlsplit(settings.recordings)._replace(query="").geturl()
    try:
        await asyncio.to_thread(try_recordings, settings)
    except (ConfigurationError, RecordingsError) as error:
        return [Finding("bad", "recordings", f"{error} Check RECORDINGS_URL and the AWS_… settings ({where}).")]
    return [Finding("good", "recordings", f"{where}: recordings can be written and read")]


async def _console(settings: Settings) -> list[Finding]:
    path = where_the_password_lies(settings)
    if path is None:
        how = "CONSOLE_PASSWORD is set"
    elif await asyncio.to_thread(path.exists):
        how = f"its password lies in {path.absolute()}"
    else:
        how = f"the first start makes its password and keeps it in {path.absolute()}"
    return [Finding("good", "console", f"{settings.public_url or ''}/console: {how}")]
