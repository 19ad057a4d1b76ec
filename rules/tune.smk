# Tuning with an equal budget for every row: `snakemake tune_teacher`, then `snakemake tune` (docs/experiments.md). Each
# writes an overlay, which a person reads and passes on, and a table of all that was tried.

for target, role in (("tune_teacher", "teacher"), ("tune", "student")):

    rule:
        name:
            target
        input:
            histories=[f"{RUN}/history.jsonl".format(**run._asdict()) for run in PLAN.tuning_runs(role)],
        output:
            table(target),
            f"{TABLES}/{target}.json",
            f"{EXPERIMENT}/{target.replace('tune', 'tuned', 1)}.yaml",
        log:
            log_of(target),
        benchmark:
            benchmark_of(target)
        localrule: True
        conda:
            "../environment.yaml"
        params:
            script=script("make_tuning.py"),
            target=verbatim(target),
            folder=working_folder,
            tables=verbatim(TABLES),
            inputs=options_of_inputs,
            spec=verbatim(PLAN.tuning(role).json()),
            code=code_digest("workflow_scripts/make_tuning.py"),
        shell:
            "(cd {params.folder:q} && python {params.script:q} --spec - --target {params.target} --out-dir {params.tables} "
            "{params.inputs}) <<< {params.spec:q} > {log} 2>&1"
