"""Failed jobs of a Snakemake run, from its log: one line per job, with the reason and the log to read."""

import re
from pathlib import Path


def failed_jobs(text: str, folder: str | Path = ".") -> list[str]:
    """One line for each job that failed and was not done by a later attempt: its log, and the reason in it.

    Args:
        text: Snakemake's own log.
        folder: the working directory, where the jobs' logs are.

    Example:
        >>> failed_jobs(Path(".snakemake/log/2026-01-01T120000.000000.snakemake.log").read_text())
        ['results/logs/train_student/cola/kd/seed-1.log: error: cola/kd/seed-1: loss is nan at step 12']
    """
    failed: dict[str, str] = {}
    events = re.compile(r"^Error in rule (?P<rule>\S+):\n(?P<block>(?: +.*\n)+)|^Finished jobid: (?P<done>\d+)", re.M)
    for event in events.finditer(text):
        if event["done"]:
            failed.pop(event["done"], None)
            continue
        job = re.search(r"^ +jobid: (\d+)", event["block"], re.M)
        log = re.search(r"^ +log: (\S+)", event["block"], re.M)
        told = f"{log[1]}: {_reason(Path(folder) / log[1])}" if log else f"{event['rule']}: it has no log"
        failed[job[1] if job else event["rule"]] = told
    return sorted(failed.values())


def _reason(log: Path) -> str:
    """Return the last line that names an error, else the last line."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "the log was not written"
    told = [line for line in lines if line]
    named = [line for line in told if re.search(r"error", line, re.IGNORECASE)]
    return (named or told or ["the log is empty: the job was killed"])[-1]
