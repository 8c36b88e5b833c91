"""The durable job of each finished call: derive -> recording -> summarise -> score -> webhooks.

Retention is no step of it: the worker sweeps every ten minutes (`records.retention`).

DBOS keeps it going: a step that is finished is not repeated after a kill, and work of a dead worker is resumed by
another one. `records.job_log` shows how each step stands and decides when a failed one is tried again. Before the job
comes the archive (`records.inbox`), because only the machine that took the call can read its tape until then.

The plan (the names of the steps) is an argument of the job: a new version of the code finishes old work by its old
plan, and passes over a step that it does not know any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, SetEnqueueOptions, SetWorkflowID
from dbos import error as dbos_error
from loguru import logger
from sqlalchemy import inspect
from sqlalchemy.engine import make_url

from bot.errors import SwitchboardError
from bot.settings import Settings
from desk.database import make_engine
from records.job_log import ARCHIVE, JobGone, JobLog
from records.steps import Step, described

CALLS, WEBHOOKS = "calls", "webhooks"
"""The queues: of jobs, and of messages to receivers, which are slow or away and must hold nobody up."""
AT_ONCE = 2
"""Jobs at once in one worker: a slow store or text model keeps one waiting while another derives."""
MESSAGES_AT_ONCE = 8
MESSAGES_AT_ONCE_TO_ONE = 2
POLL_SECONDS = 0.5
APPLICATION_VERSION = "1"
"""Pinned: DBOS would take a hash of the code, and leave the work of the code before a deploy lying."""
SCHEMA = "jobs"
MOST_DEATHS = 3
"""A step in which the worker died so often is not begun again at once: it fails, and is tried later."""


class StepFailed(SwitchboardError):
    """A step of a job failed; the job log says why."""


class WorkerDied(SwitchboardError):
    """A step takes its worker down: it is not begun again at once."""


class Jobs:
    """The jobs, as this worker runs them. One for each process: DBOS is a singleton."""

    def __init__(
        self, log: JobLog, steps: Mapping[str, Step], deliver: Callable[[str], None], database_url: str, worker: str
    ) -> None:
        """`deliver` sends the message with an id (`records.webhooks.Webhooks.deliver`).

        `database_url` is of DBOS's own tables; on Postgres they have a schema of their own, ``jobs``. `worker` names
        this process among all that share the database.
        """
        self._log = log
        self._steps = steps
        self._deliver = deliver
        config: DBOSConfig = {
            "name": "switchboard",
            "system_database_url": database_url,
            "dbos_system_schema": SCHEMA,
            "application_version": APPLICATION_VERSION,
            "executor_id": worker,
            "enable_otlp": False,
            "log_level": "CRITICAL",  # its tracebacks may carry what callers said; the job log tells what failed
            "sys_db_pool_size": 5,
            "notification_listener_polling_interval_sec": 5.0,
        }
        DBOS(config=config)

        @DBOS.workflow(name="call")
        def call(call_id: str, plan: list[str]) -> None:
            for name in plan:
                DBOS.run_step({"name": name}, self._step, call_id, name)

        @DBOS.workflow(name="webhook")
        def webhook(message_id: str) -> None:
            DBOS.run_step({"name": "deliver"}, self._send, message_id)

        self._call = call
        self._webhook = webhook

    def open(self) -> None:
        """Begin to work. Raises what the database raises."""
        DBOS.launch()
        common: dict[str, Any] = {"polling_interval_sec": POLL_SECONDS, "on_conflict": "always_update"}
        DBOS.register_queue(CALLS, worker_concurrency=AT_ONCE, **common)
        DBOS.register_queue(
            WEBHOOKS,
            worker_concurrency=MESSAGES_AT_ONCE,
            partition_worker_concurrency=MESSAGES_AT_ONCE_TO_ONE,
            **common,
        )

    def close(self) -> None:
        """Stop; what was begun goes on with the next worker."""
        DBOS.destroy(destroy_registry=True)

    def submit(self, call_id: str, plan: list[str]) -> None:
        """Start the job of an archived call; nothing happens where it was started before."""
        with SetWorkflowID(call_id):
            DBOS.enqueue_workflow(CALLS, self._call, call_id, plan)

    def try_again(self, call_id: str) -> None:
        """Take up a failed job at the step that failed."""
        failed = next((step for step in DBOS.list_workflow_steps(call_id) if step["error"] is not None), None)
        try:
            DBOS.rewind_workflow(call_id, start_step=failed["function_id"] if failed else 1, queue_name=CALLS)
        except dbos_error.DBOSNonExistentWorkflowError:
            # DBOS's tables were lost, on SQLite a file of their own: the log knows the plan and what of it is done.
            steps = self._log.steps(call_id)
            self.submit(call_id, [step for step, status in steps.items() if step != ARCHIVE and status != "done"])
        except dbos_error.DBOSException:
            return  # another worker was faster, and it runs

    def send(self, message_id: str, receiver: str) -> None:
        """Send a message to a receiver, or send it again; nothing happens where that is under way."""
        try:
            DBOS.rewind_workflow(message_id, start_step=1, queue_name=WEBHOOKS, queue_partition_key=receiver)
        except dbos_error.DBOSNonExistentWorkflowError:
            with SetWorkflowID(message_id), SetEnqueueOptions(queue_partition_key=receiver):
                DBOS.enqueue_workflow(WEBHOOKS, self._webhook, message_id)
        except dbos_error.DBOSException:
            return

    def tidy(self, before: datetime) -> None:
        """Remove what DBOS keeps of jobs and messages that began before then and are done; the log keeps its own."""
        options: dict[str, Any] = {"limit": 1000, "load_input": False, "load_output": False}
        done = DBOS.list_workflows(status="SUCCESS", end_time=before.isoformat(), **options)
        if done:
            DBOS.delete_workflows([workflow.workflow_id for workflow in done])

    def forget(self, workflows: Sequence[str]) -> None:
        """Remove what is known of jobs and messages, by their ids."""
        DBOS.delete_workflows(list(workflows))

    def has_failed(self, call_id: str) -> bool:
        """Whether a job has ended badly, or is unknown here."""
        status = DBOS.get_workflow_status(call_id)
        return status is None or status.status in ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

    def being_sent(self) -> set[str]:
        """The messages that are sent now, or that a worker will take up."""
        status = ["ENQUEUED", "PENDING", "DELAYED"]
        active = DBOS.list_workflows(name="webhook", status=status, load_input=False, load_output=False)
        return {workflow.workflow_id for workflow in active}

    def resume(self, worker: str) -> int:
        """Take over what a dead worker had begun; how many jobs that are."""
        left = DBOS.list_workflows(status="PENDING", executor_id=worker, load_input=False, load_output=False)
        for workflow in left:
            DBOS.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name or CALLS)
        return len(left)

    def _step(self, call_id: str, name: str) -> None:
        """One step, with its row in the log. What it raises is kept in DBOS's tables, so it has nothing of the call."""
        try:
            self._attempt(call_id, name)
        except JobGone:
            return
        except StepFailed:
            raise
        except Exception as error:
            problem = described(error)
            logger.error("Step {} of call {} failed: {}", name, call_id, type(error).__name__)
            self._log.failed(call_id, name, problem)
            raise StepFailed(f"{name} of call {call_id}") from None

    def _send(self, message_id: str) -> None:
        """One attempt to deliver; `records.webhooks` has its row."""
        try:
            self._deliver(message_id)
        except Exception as error:
            logger.warning("Message {} was not delivered: {}", message_id, type(error).__name__)
            raise StepFailed(f"deliver {message_id}") from None

    def _attempt(self, call_id: str, name: str) -> None:
        if self._log.begin(call_id, name) >= MOST_DEATHS:
            raise WorkerDied("The worker died in it again and again.")
        step = self._steps.get(name)
        note = step(call_id) if step else "This version has no such step."
        self._log.done(call_id, name, note)


def forget_jobs(settings: Settings, workflows: Sequence[str]) -> None:
    """Remove what is known of jobs and messages, from a process that does not run them."""
    url = jobs_database(settings)
    file = Path(str(make_url(url).database)) if url.startswith("sqlite") else None
    if (file and not file.exists()) or not _has_tables(url):
        return  # no worker has run yet
    client = DBOSClient(system_database_url=url, dbos_system_schema=SCHEMA)
    try:
        client.delete_workflows(list(workflows))
    finally:
        client.destroy()
    if file:
        # DBOS does not overwrite what it deletes. While a worker writes there, ids of calls stay until they are.
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _has_tables(url: str) -> bool:
    engine = make_engine(url)
    try:
        schema = None if engine.dialect.name == "sqlite" else SCHEMA
        return inspect(engine).has_table("workflow_status", schema)
    finally:
        engine.dispose()


def jobs_database(settings: Settings) -> str:
    """Where DBOS keeps its tables: on Postgres beside the calls, on SQLite in a file of their own."""
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{(settings.data_dir / 'jobs.db').absolute()}"
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
