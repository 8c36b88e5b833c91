"""``python -m qa verify``: whether tapes are whole and unchanged, and records are what their tapes say.

For each tape: it reads to its end and was finished; its SHA-256 is the one that was written down when it was found; and
deriving it again gives the record that is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from bot.errors import SwitchboardError
from bot.ports import SystemClock
from bot.settings import load_settings
from bot.tape import TapeReader
from qa.tapes import open_tape
from records.derive import DERIVE_VERSION
from records.inbox import file_sha256
from records.job_log import JobLog
from records.record import CallRecord
from records.steps import CallSteps, Parts, open_parts
from records.store import migrate
from records.text_model import Ear


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``verify`` to the command line."""
    help = "check tapes, and records against their tapes"
    parser = commands.add_parser("verify", help=help, description=f"{help.capitalize()}.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("call", nargs="?", metavar="CALL", help="a call's id, or a .mcap file")
    which.add_argument("--all", action="store_true", help="every call")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what is wrong; exit status 1 where something is. Raises `bot.errors.SwitchboardError`."""
    settings = load_settings()
    migrate(settings.database)
    parts = open_parts(settings, SystemClock())
    steps = CallSteps(parts)
    calls = parts.log.call_ids() if arguments.all else [arguments.call]
    console = Console(highlight=False)
    wrong = 0
    for call in track(calls, "Verifying", console=Console(stderr=True), disable=not arguments.all):
        try:
            problems = list(verify(call, parts, steps))
        except (SwitchboardError, OSError) as error:
            problems = [str(error).removeprefix(f"{call}: ")]
        wrong += bool(problems)
        for problem in problems:
            console.print(f"[red]{call}[/]: {problem}", soft_wrap=True)
    console.print(f"{len(calls) - wrong} of {len(calls)} are well.")
    return 1 if wrong else 0


def verify(call: str, parts: Parts, steps: CallSteps) -> Iterator[str]:
    """What is wrong with a call's tape and record; nothing where retention has removed what could be compared."""
    page = parts.store.page(call)
    if page and page.expired:
        return
    with open_tape(call, parts.settings) as path:
        tape = TapeReader(path)
        records = sum(1 for _ in tape)
        if tape.truncated:
            yield f"the tape was never finished ({records} records can be read)"
            return
        digest = file_sha256(path)
        call_id = call if page else _call_of(path, tape, digest, parts.log)
        known = parts.log.sha256_of(call_id)
        if known is not None and known != digest:
            yield "the tape is not the one that was found: its SHA-256 differs"
            return
        page = page or parts.store.page(call_id)
        if page and page.expired:
            return
        if page is None:
            yield "there is no record of it"
        elif page.record.derived_by != DERIVE_VERSION:
            yield f"the record was derived by version {page.record.derived_by}; rebuild it by {DERIVE_VERSION}"
        else:
            derived = steps.derived(path, page.record, Ear(None, page.record))
            again = replace(derived, call_id=call_id)  # a copy's name does not tell it
            names = [field.name for field in fields(CallRecord)]
            different = [name for name in names if getattr(again, name) != getattr(page.record, name)]
            if different:
                yield f"deriving the tape again gives something else: {', '.join(different)}"


def _call_of(path: Path, tape: TapeReader, digest: str, log: JobLog) -> str:
    """The call that a tape is of: by the file's name, or, of a copy with another name, by what is in it."""
    named = path.name.removesuffix(".mcap")
    if log.sha256_of(named) is not None:
        return named
    return log.call_of_tape(digest) or next(iter(log.calls_of(str(tape.meta.get("call", "")))), named)
