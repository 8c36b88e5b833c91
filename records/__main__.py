"""``python -m records COMMAND``: the records of finished calls, from the command line.

Exit status 2 and one line on stderr: the command could not do its work.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import desk.database
from bot.errors import SwitchboardError
from bot.logs import configure_logging
from bot.ports import Ids, SystemClock
from bot.settings import Settings, load_settings
from desk.database import DESK, open_database
from records import terminal
from records.backup import back_up
from records.job_log import JobLog
from records.store import RECORDS, migrate

if TYPE_CHECKING:
    from records.webhooks import Logged

Run = Callable[[argparse.Namespace, Settings], int]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m records", description="The records of finished calls.")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Run, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        return added

    work_command = command("work", work, "make the records of finished calls, until a signal; the server starts this")
    work_command.add_argument("--parent", type=int, metavar="PID", help="end when this process, which started it, does")
    jobs_command = command("jobs", jobs, "how the jobs and webhooks of finished calls stand")
    jobs_command.add_argument("--call", metavar="CALL", help="all steps and webhooks of this call, done ones too")
    retry_command = command("retry", retry, "try again now what failed for a call")
    retry_command.add_argument("call", metavar="CALL")
    delete_command = command("delete", delete, "remove everything of a call, or of all calls from a number")
    what = delete_command.add_mutually_exclusive_group(required=True)
    what.add_argument("--call", type=_call_id, metavar="CALL")
    what.add_argument("--number", metavar="NUMBER", help="as the carrier gives it, such as +12125550101")
    delete_command.add_argument("--who", metavar="NAME", default="command line", help="for the audit log")
    backup_command = command("backup", backup, "copy the SQLite database while it is in use")
    backup_command.add_argument("file", type=Path, metavar="FILE")
    move_command = command("migrate", move, "bring the tables to this version's revision, or to another one")
    move_command.add_argument("--to", metavar="REVISION", default="head", help="such as 0002; base removes everything")
    move_command.add_argument("--tables", choices=("records", "desk"), default="records")
    rebuild_command = command("rebuild", rebuild, "make records and recordings again from tapes")
    which = rebuild_command.add_mutually_exclusive_group(required=True)
    which.add_argument("call", nargs="?", type=_call_id, metavar="CALL")
    which.add_argument("--all", action="store_true", help="every call")
    terminal.add_commands(commands)
    return top


def _call_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no call's id, such as CA7f… or CA7f….2")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = parser().parse_args(argv)
    os.umask(0o077)  # what callers said is for this user only
    try:
        settings = load_settings()
        run: Run = arguments.run
        status = run(arguments, settings)
        sys.stdout.flush()
    except SwitchboardError as error:
        print(f"records: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def work(arguments: argparse.Namespace, settings: Settings) -> int:
    """Work until SIGTERM, or until the parent is gone; SIGINT is the parent's to answer."""
    from records.worker import NICENESS, Life, Stopped, hold_folder

    configure_logging(settings.log_level, settings.log_format)
    life = Life(arguments.parent)
    signal.signal(signal.SIGTERM, life.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN if arguments.parent else life.stop)
    os.nice(NICENESS)
    name = Ids().hex(16)
    try:
        before = hold_folder(settings.data_dir, name, life)
    except Stopped:
        return 0
    from records.worker import open_worker  # what it needs takes a second and 70 MB: not while another one works

    open_worker(settings, SystemClock(), name, life).run(before=before)
    sys.stdout.flush()
    os._exit(0)  # a step that still runs is finished by the next worker; Python would wait for its thread


def delete(arguments: argparse.Namespace, settings: Settings) -> int:
    """Erase."""
    from records.jobs import forget_jobs  # these take a second
    from records.retention import Retention
    from records.steps import open_parts

    migrate(settings.database)
    parts = open_parts(settings, SystemClock())
    forget = partial(forget_jobs, settings)
    retention = Retention(parts.database, parts.recordings, parts.inbox, settings.retention, parts.clock, forget)
    if arguments.call:
        count = int(retention.erase_call(arguments.call, arguments.who))
    else:
        count = retention.erase_number(arguments.number, arguments.who)
    parts.store.close()
    parts.database.close()
    print(f"{count} {'call is' if count == 1 else 'calls are'} erased.")
    return 0 if count else 1


def backup(arguments: argparse.Namespace, settings: Settings) -> int:
    """Copy the database."""
    copied = back_up(settings.database, arguments.file)
    print(f"{arguments.file}: {copied.calls} calls, {copied.bytes:,} bytes, checked.")
    return 0


def move(arguments: argparse.Namespace, settings: Settings) -> int:
    """Migrate up or down."""
    schema = {"records": RECORDS, "desk": DESK}[arguments.tables]
    desk.database.migrate(settings.database, arguments.to, schema)
    print(f"The tables of {arguments.tables} are at {desk.database.revision(settings.database, schema) or 'base'}.")
    return 0


def _log(settings: Settings) -> JobLog:
    migrate(settings.database)
    return JobLog(open_database(settings.database), SystemClock())


def jobs(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show the steps that are not done and the webhooks that are not delivered; of one call all of them."""
    from records.retention import last_sweep
    from records.webhooks import delivery_log

    log = _log(settings)
    database = open_database(settings.database)
    found = log.jobs(arguments.call)
    messages = delivery_log(database, arguments.call)
    if not found and not messages:
        print(f"No job of call {arguments.call}." if arguments.call else "Nothing is left to do.")
    console = terminal.open_console()
    if found:
        table = _table("call", "step", "status", "tries", "since", "next try", "note")
        for job in found:
            times = _moment(job.changed_at), _moment(job.next_try_at)
            table.add_row(job.call_id, job.step, job.status, str(job.tries or ""), *times, escape(job.note))
        console.print(table)
    if messages:
        console.print(_messages(messages, whole=arguments.call is not None))
    if not arguments.call and (swept := last_sweep(database, SystemClock())):
        how = f"failed ({swept.problem}) and is tried again" if swept.problem else "ran"
        calls = "1 call" if swept.calls_in_a_day == 1 else f"{swept.calls_in_a_day} calls"
        print(f"Retention last {how} {_moment(swept.at)}; within a day it removed something from {calls}.")
    return 0


def _messages(messages: Sequence[Logged], *, whole: bool) -> Table:
    """The delivery log: each message with its last attempt, or with the `whole` of its attempts."""
    table = _table("call", "webhook", "receiver", "state", "tries", "next try", "attempt", "answer")
    for message in messages:
        state = message.state.replace("_", " "), str(message.tries or ""), _moment(message.next_try_at)
        head = message.call_id, message.event, escape(message.target), *state
        tried = [(_moment(attempt.at), attempt.error or f"answered {attempt.status}") for attempt in message.attempts]
        first, *more = (tried if whole else tried[-1:]) or [("", "")]
        table.add_row(*head, *first)
        for attempt in more:
            table.add_row(*[""] * len(head), *attempt)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _moment(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""


def retry(arguments: argparse.Namespace, settings: Settings) -> int:
    """Ask the worker to try again."""
    from records.webhooks import retry_deliveries

    steps = _log(settings).retry(arguments.call)
    messages = retry_deliveries(open_database(settings.database), arguments.call, SystemClock())
    steps += [f"webhooks ({messages})"] if messages else []
    if not steps:
        print(f"records: nothing has failed for call {arguments.call}", file=sys.stderr)
        return 2
    print(f"The worker tries again: {', '.join(steps)}.")
    return 0


def rebuild(arguments: argparse.Namespace, settings: Settings) -> int:
    """Derive again. A call that cannot be is named, and the others go on."""
    from rich.progress import track

    from records.inbox import archived_calls
    from records.steps import REMADE, CallSteps, described, open_parts

    migrate(settings.database)
    parts = open_parts(settings, SystemClock())
    steps = CallSteps(parts).all()
    call_ids = [arguments.call]
    if arguments.all:
        # An older copy of the database may have come back beside newer tapes.
        call_ids = list(dict.fromkeys([*parts.log.call_ids(), *archived_calls(parts.recordings)]))
    failed = 0
    console = Console(stderr=True, highlight=False)
    for call_id in track(call_ids, "Rebuilding", console=console, disable=not arguments.all):
        try:
            notes = [note for name in REMADE if (note := steps[name](call_id))]
        except Exception as error:
            failed += 1
            notes = [described(error)]
        for note in notes:
            console.print(f"{call_id}: {note}", soft_wrap=True)
    print(f"{len(call_ids) - failed} of {len(call_ids)} rebuilt.")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
