# Tables and figures from metrics, predictions, histories and measurements: seconds, no torch.

STYLE = ["rkd/report/figures/rkd.mplstyle"]
SPEC = verbatim(PLAN.report().json())
WHEN_ASKED_FOR = ["cost", "efficiency", "tune_teacher", "tune"]  # tables
BASELINES = [name for name in ("kd", "finetune") if name in PLAN.variants] or PLAN.variants[:1]


PRODUCTS = [
    Product(
        "main_table",
        table("main"),
        ("Main table", "all rows"),
        "main",
        "make_main_table.py",
        {"metrics": ALL_METRICS},
        spec=SPEC,
        reads=["rkd/report/tables/literature.csv"],
    ),
    Product(
        "selection_table",
        table("selection"),
        ("Selection", "dev scores by selection rule"),
        "selection",
        "make_selection_table.py",
        {"histories": HISTORIES},
        spec=SPEC,
    ),
    Product(
        "comparisons",
        table("comparisons"),
        ("Comparisons", "differences between rows"),
        "comparisons",
        "make_comparisons.py",
        {"predictions": PREDICTIONS, "clusters": CLUSTER_FILES},
        options=f"--baselines {' '.join(BASELINES)} --margin {PLAN.config['equivalence_margin']}",
        spec=SPEC,
    ),
    Product(
        "forest_plot",
        figure("forest"),
        ("Comparisons", "differences with intervals"),
        "forest",
        "plot_forest.py",
        {"comparisons": table("comparisons")[:1]},
        options=f"--margin {PLAN.config['equivalence_margin']}",
        spec=SPEC,
        reads=STYLE,
    ),
    Product(
        "behaviour_table",
        table("behaviour"),
        ("Behaviour", "gap closed, agreement, calibration"),
        "behaviour",
        "make_behaviour_table.py",
        {"predictions": ALL_PREDICTIONS, "metrics": ALL_METRICS, "clusters": CLUSTER_FILES},
        spec=SPEC,
    ),
    Product(
        "classes_table",
        table("classes"),
        ("Classes", "precision, recall and F1 of every class"),
        "classes",
        "make_classes_table.py",
        {"predictions": ALL_PREDICTIONS},
        spec=SPEC,
    ),
    Product(
        "learning_curves",
        figure("learning_curves"),
        ("Learning curves", "dev score by step"),
        "learning_curves",
        "plot_learning_curves.py",
        {"histories": HISTORIES, "teacher_metrics": runs(METRICS, [TEACHER])},
        spec=SPEC,
        reads=STYLE,
    ),
    Product(
        "teacher_dynamics",
        figure("teacher_dynamics"),
        ("Teacher dynamics", "trainable teachers"),
        "teacher_dynamics",
        "plot_teacher_dynamics.py",
        {"histories": HISTORIES},
        spec=SPEC,
        reads=STYLE,
    ),
    Product(
        "score_vs_cost",
        figure("cost"),
        ("Cost", "score against training time"),
        "score_vs_cost",
        "plot_score_vs_cost.py",
        {"metrics": STUDENT_METRICS, "runs": RECORDS},
        spec=SPEC,
        reads=STYLE,
    ),
    Product(
        "axis_table",
        table("ablation_{axis}"),
        ("Ablations", "{axis}"),
        "ablation",
        "make_ablation_table.py",
        {"metrics": lambda wildcards: axis_runs(wildcards.axis)},
        spec=lambda wildcards: PLAN.report(wildcards.axis).json(),
    ),
    Product(
        "axis_figure",
        figure("ablation_{axis}"),
        ("Ablations", "{axis}"),
        "ablation",
        "plot_ablation.py",
        {"metrics": lambda wildcards: axis_runs(wildcards.axis)},
        options="--references",
        spec=lambda wildcards: PLAN.report(wildcards.axis).json(),
        reads=STYLE,
    ),
    Product(
        "provenance_table",
        table("provenance"),
        ("Provenance", "commits, versions, machines"),
        "provenance",
        "make_provenance.py",
        {"runs": files_of(f"{RUN}/run.json", PLAN.runs())},
        options=f"--planned {len(PLAN.runs())}",
    ),
    # Made of measurements, so only when asked for: see rules/profiling.smk.
    Product(
        "efficiency_table",
        table("efficiency"),
        ("Efficiency", "size and speed"),
        "efficiency",
        "make_efficiency_table.py",
        {"measurements": [measurement("efficiency", PLAN.tasks[0])]},
    ),
    Product(
        "cost_table",
        table("cost"),
        ("Cost", "a training step by method"),
        "cost",
        "make_cost_table.py",
        {"measurement": [measurement("cost", PLAN.tasks[0])]},
        spec=SPEC,
    ),
    Product(
        "score_vs_latency",
        figure("latency"),
        ("Efficiency", "score against latency"),
        "latency",
        "plot_latency.py",
        {"metrics": ALL_METRICS, "efficiency": table("efficiency")[:1]},
        spec=SPEC,
        reads=STYLE,
    ),
]


# One shape for all: a script reads the spec from standard input and its files by options named as the inputs.
for product in PRODUCTS:

    rule:
        name:
            product.name
        input:
            **product.inputs,
        output:
            product.outputs,
        log:
            log_of(product.name, product.job),
        benchmark:
            benchmark_of(product.name, product.job)
        localrule: True
        conda:
            "../environment.yaml"
        params:
            script=script(product.script),
            arguments=product.arguments,
            folder=working_folder,
            inputs=options_of_inputs,
            # A script without a spec does not read it; a here-string cannot be empty.
            spec=product.spec or verbatim("{}"),
            code=code_digest(f"workflow_scripts/{product.script}", *product.reads),
        shell:
            "(cd {params.folder:q} && python {params.script:q} {params.arguments} {params.inputs}) "
            "<<< {params.spec:q} > {log} 2>&1"


rule report:
    input:
        **if_stored(
            records=files_of(f"{RUN}/run.json", PLAN.runs()),
            histories=files_of(f"{RUN}/history.jsonl", PLAN.runs()),
            manifests=files_of_data("manifest.json"),
        ),
        tables=TABLE_FILES,
        sources=[f"{TABLES}/{name}.json" for name in TABLE_NAMES],
        figures=[*FIGURE_FILES, *(f"{FIGURES}/{name}.json" for name in FIGURE_NAMES)],
        logs=lost_logs(),
    output:
        page=reported([PAGE], "Overview", "everything on one page", "report"),
        record=f"{os.path.splitext(PAGE)[0]}.json",
    log:
        log_of("report"),
    benchmark:
        benchmark_of("report")
    localrule: True
    conda:
        "../environment.yaml"
    params:
        config=lambda wildcards, output: PLAN.page(),
        # The part of it by which the page is made anew; the rest is not compared, see `own_files`.
        compared=verbatim(PLAN.page(compared=True)),
        script=script("make_report.py"),
        folder=working_folder,
        results=verbatim(RESULTS),
        page=verbatim(PAGE),
        tables=[*TABLE_NAMES[:-1], *WHEN_ASKED_FOR, TABLE_NAMES[-1]],
        figures=[*FIGURE_NAMES, "latency"],
        # Made when asked for only, so no inputs of this rule; what they hold decides whether the page is made anew.
        measured=digests(*(f"{TABLES}/{name}.json" for name in WHEN_ASKED_FOR), f"{FIGURES}/latency.png"),
        code=code_digest("workflow_scripts/make_report.py", "CITATION.cff"),
    shell:
        "(cd {params.folder:q} && python {params.script:q} --config - --results {params.results} "
        "--tables {params.tables:q} --figures {params.figures:q} --out {params.page}) "
        "<<< {params.config:q} > {log} 2>&1"


rule submission:
    input:
        predictions=submitted,
    output:
        SUBMISSION,
    log:
        log_of("submission", "{variant}"),
    benchmark:
        benchmark_of("submission", "{variant}")
    localrule: True
    conda:
        "../environment.yaml"
    params:
        script=script("make_submission.py"),
        fill="--fill-missing" if PLAN.config["fill_missing_tasks"] else "",
        code=code_digest("workflow_scripts/make_submission.py"),
    shell:
        "python {params.script:q} --out {output:q} {params.fill} --predictions {input.predictions:q} > {log} 2>&1"


# No other rule has a name with this beginning, so that an axis may have any.
for axis in PLAN.axes:

    rule:
        name:
            f"ablation_{axis}"
        input:
            table(f"ablation_{axis}"),
            figure(f"ablation_{axis}"),
