# Read, check and tokenise each task once.


rule prepare_data:
    output:
        manifest=f"{DATA}/manifest.json",
        dataset=directory(f"{DATA}/dataset"),
        tokenizer=directory(f"{DATA}/tokenizer"),
    log:
        "results/logs/prepare_data/{task}.log",
    benchmark:
        "results/benchmarks/prepare_data/{task}.tsv"
    conda:
        "../environment.yaml"
    params:
        spec=lambda wildcards: PLAN.data(wildcards.task).json(),
        files=own_files,
        code=code_digest("workflow_scripts/prepare_data.py"),
    shell:
        "python workflow_scripts/prepare_data.py --spec - --files {params.files:q} --out results/data/{wildcards.task} "
        "<<< {params.spec:q} > {log} 2>&1"
