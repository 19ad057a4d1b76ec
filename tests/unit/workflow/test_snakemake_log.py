"""The list of failed jobs at the end of a run."""

from rkd.workflow.snakemake_log import failed_jobs

ERROR = """[Wed Jan  1 12:00:00 2026]
Error in rule train_student:
    message: None
    jobid: {job}
    input: results/data/cola/manifest.json
    output: results/students/cola/{name}/seed-1/run.json
    log: results/logs/train_student/cola/{name}/seed-1.log (check log file(s) for error details)
    shell:
        python workflow_scripts/train.py
        (command exited with non-zero exit code)
Logfile results/logs/train_student/cola/{name}/seed-1.log:
===================
Error in rule nothing, says the job
===================
"""


def test_one_line_per_job_that_stayed_failed(tmp_path):
    logs = {"kd": "12:00:00 epoch 1\nerror: loss is nan at step 3\n\n", "pkd": "killed here\n", "online": ""}
    for name, text in logs.items():
        path = tmp_path / "results/logs/train_student/cola" / name / "seed-1.log"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    jobs = {"kd": 1, "pkd": 2, "online": 3, "reptile": 4, "gone": 5}
    text = "".join(ERROR.format(job=job, name=name) for name, job in jobs.items())
    text += "".join(f"Finished jobid: {job} (Rule: train_student)\n" for job in (4, 5))
    text += ERROR.format(job=1, name="kd") + ERROR.format(job=5, name="gone")
    start = "results/logs/train_student/cola/"
    assert failed_jobs(text, tmp_path) == [
        f"{start}gone/seed-1.log: the log was not written",
        f"{start}kd/seed-1.log: error: loss is nan at step 3",
        f"{start}online/seed-1.log: the log is empty: the job was killed",
        f"{start}pkd/seed-1.log: killed here",
    ]
    assert failed_jobs("Building DAG of jobs...\n") == []
