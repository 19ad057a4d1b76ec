# Read, check and tokenise each task once; group related examples.


rule prepare_data:
    output:
        manifest=f"{DATA}/manifest.json",
        dataset=directory(f"{DATA}/dataset"),
        tokenizer=directory(f"{DATA}/tokenizer"),
    log:
        log_of("prepare_data", "{task}-{digest}"),
    benchmark:
        benchmark_of("prepare_data", "{task}-{digest}")
    localrule: True
    conda:
        "../environment.yaml"
    params:
        spec=data_spec,
        files=own_files,
        folder=folder_of_output("manifest"),
        script=script("prepare_data.py"),
        code=code_digest("workflow_scripts/prepare_data.py"),
    shell:
        "python {params.script:q} --spec - --files {params.files:q} --out {params.folder:q} "
        "<<< {params.spec:q} > {log} 2>&1"


rule group_examples:
    output:
        CLUSTERS,
    log:
        log_of("group_examples", "{task}"),
    benchmark:
        benchmark_of("group_examples", "{task}")
    localrule: True
    conda:
        "../environment.yaml"
    params:
        script=script("group_examples.py"),
        spec=cluster_spec,
        files=own_files,
        decides=lambda wildcards: [PLAN.data_digest(wildcards.task), *PLAN.clusters(wildcards.task).decides],
        code=code_digest("workflow_scripts/group_examples.py"),
    shell:
        "python {params.script:q} --spec - --files {params.files:q} --out {output:q} <<< {params.spec:q} > {log} 2>&1"
