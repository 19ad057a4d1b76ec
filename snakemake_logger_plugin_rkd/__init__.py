"""Snakemake's progress as one line per job. Warnings, errors and Snakemake's own log file stay as they are.

Snakemake finds logger plugins by the name of their package: `snakemake --logger rkd`, as in `make results`. It imports
all that it finds before it reads a Snakefile. So this package imports nothing of rkd: the Snakefile may be that of a
clone with another one.
"""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# Lines of Snakemake's that say something to the user; all others of their level repeat what the lines of jobs say.
_KEPT = ("Nothing to be done", "Complete log", "Unlocking", "Terminating", "Shutting down")


class LogHandler(LogHandlerBase):
    """The handler that `snakemake --logger rkd` writes to the terminal with.

    Each finished job is a line with its number, its rule, its run and its seconds:

        [ 7 of 24] train_student     cola kd seed-1                  12 s
    """

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        settings = self.common_settings
        stream = sys.stdout if settings.stdout else sys.stderr
        self._jobs: dict[int, tuple[str, float]] = {}
        self._finished: list[int] = []
        self._whole = settings.dryrun or settings.verbose or settings.debug_dag
        self._default = ColorizingTextHandler(nocolor=settings.nocolor, stream=stream)
        self._default.addFilter(
            DefaultFilter(
                settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds
            )
        )
        self._default.setFormatter(DefaultFormatter(settings.quiet, settings.show_failed_logs))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or remember what belongs to the line of a job."""
        event = getattr(record, "event", None)
        if self._whole or record.levelno >= logging.WARNING:
            self._default.handle(record)
        elif event == LogEvent.RUN_INFO:
            self._write(record, _counts(record.stats))  # type: ignore[attr-defined]
        elif event == LogEvent.JOB_INFO:
            self._jobs[record.jobid] = (_job(vars(record)), time.monotonic())  # type: ignore[attr-defined]
        elif event == LogEvent.JOB_FINISHED:
            self._finished.append(record.job_id)  # type: ignore[attr-defined]
        elif event == LogEvent.PROGRESS:
            self._write(record, "\n".join(self._lines(record.done, record.total)))  # type: ignore[attr-defined]
        elif event is None and record.getMessage().startswith(_KEPT):
            self._default.handle(record)

    def _lines(self, done: int, total: int) -> list[str]:
        lines = []
        width = len(str(total))
        for number, job in enumerate(self._finished, done - len(self._finished) + 1):
            told, started = self._jobs.pop(job, (f"job {job}", time.monotonic()))
            lines.append(f"[{number:{width}} of {total}] {told:58} {time.monotonic() - started:5.0f} s")
        self._finished.clear()
        return lines

    def _write(self, record: logging.LogRecord, text: str) -> None:
        """Write a line as the default handler writes a message without an event."""
        if text:
            self._default.handle(logging.LogRecord(record.name, record.levelno, "", 0, text, None, None))


def _job(event: Mapping[str, Any]) -> str:
    """Return a job's rule and run."""
    wildcards = event.get("wildcards") or {}
    run = [
        f"seed-{value}" if name == "seed" else str(value)
        for name in ("task", "variant", "axis", "seed")
        if (value := wildcards.get(name)) is not None
    ]
    return f"{event['rule_name']:17} {' '.join(run)}"


def _counts(stats: Mapping[str, int]) -> str:
    """Return the number of jobs, and that of each rule with several.

    >>> _counts({"train_student": 8, "main_table": 1, "total": 9})
    '9 jobs, among them 8 train_student'
    """
    several = [f"{count} {rule}" for rule, count in stats.items() if count > 1 and rule != "total"]
    return f"{stats['total']} jobs" + (f", among them {', '.join(several)}" if several else "")
