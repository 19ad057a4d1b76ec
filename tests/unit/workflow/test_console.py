"""Snakemake's progress as one line per job."""

import logging
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_rkd import LogHandler


def console(**settings):
    defaults = dict.fromkeys(("dryrun", "verbose", "debug_dag", "stdout", "printshellcmds"), False)
    settings = defaults | {"nocolor": True, "quiet": None, "show_failed_logs": True} | settings
    return LogHandler(SimpleNamespace(**settings), None)


def record(event=None, text="", level=logging.INFO, **fields):
    made = logging.LogRecord("snakemake", level, "", 0, text, None, None)
    vars(made).update(fields, event=event)
    return made


def started(jobid, rule, **wildcards):
    return record(LogEvent.JOB_INFO, jobid=jobid, rule_name=rule, wildcards=wildcards)


def test_a_job_is_one_line_with_its_run(capsys):
    handler = console()
    handler.emit(record(LogEvent.RUN_INFO, stats={"train_student": 2, "main_table": 1, "total": 3}))
    run = {"task": "cola", "variant": "kd", "digest": "0123456789"}
    for seed in ("1", "2"):
        handler.emit(started(int(seed), "train_student", **run, seed=seed))
    handler.emit(record(text="Select jobs to execute..."))
    handler.emit(record(LogEvent.JOB_STARTED, text="Execute 2 jobs...", jobs=[1, 2]))
    for job in (2, 1):  # both are done before Snakemake tells of its progress
        handler.emit(record(LogEvent.JOB_FINISHED, job_id=job))
    handler.emit(record(LogEvent.PROGRESS, done=2, total=3))
    handler.emit(started(3, "main_table"))
    handler.emit(record(LogEvent.JOB_FINISHED, job_id=3))
    handler.emit(record(LogEvent.PROGRESS, done=3, total=3))
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        ["3", "jobs,", "among", "them", "2", "train_student"],
        ["[1", "of", "3]", "train_student", "cola", "kd", "seed-2", "0", "s"],
        ["[2", "of", "3]", "train_student", "cola", "kd", "seed-1", "0", "s"],
        ["[3", "of", "3]", "main_table", "0", "s"],
    ]


def test_warnings_and_errors_are_those_of_snakemake(capsys, tmp_path):
    handler = console()
    log = tmp_path / "job.log"
    log.write_text("error: loss is nan at step 12\n")
    handler.emit(record(text="low on space", level=logging.WARNING))
    fields = {"rule_name": "train_student", "rule_msg": None, "jobid": 7, "input": [], "output": [], "log": [str(log)]}
    handler.emit(record(LogEvent.JOB_ERROR, level=logging.ERROR, **fields, conda_env=None, shellcmd="python …", aux={}))
    told = capsys.readouterr().err
    assert "low on space" in told
    assert "Error in rule train_student" in told
    assert "loss is nan at step 12" in told, "the log is shown where the failure is reported"


def test_a_dry_run_is_shown_whole(capsys):
    handler = console(dryrun=True)
    handler.emit(record(text="This was a dry-run"))
    assert "This was a dry-run" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["Nothing to be done (all files are up to date).", "Complete log(s): x"])
def test_what_says_something_is_kept(capsys, text):
    handler = console()
    handler.emit(record(text=text))
    assert text in capsys.readouterr().err
