"""Small files that the report reads: metrics and measurements."""

SCORES = {"accuracy": 0.75, "f1": 0.85, "rows": 408}
METRICS = {
    "task": "mrpc",
    "variant": "kd",
    "method": "kd",
    "seed": 1,
    "splits": {"validation": SCORES},
    "primary_score": 0.8,
    "synthetic": False,
}
MODELS = {
    "task": "rte",
    "length": 63.7,
    "processor": "Some CPU",
    "threads": 2,
    "rows": [
        {"row": name, "parameters": 2e6 * k, "parameters_without_embeddings": 1e6 * k, "flops": 1e9 * k}
        | {"latency_ms": 10.0 * k, "throughput": 100 / k}
        for name, k in (("teacher", 2), ("student", 1))
    ],
}
METHODS = {
    "task": "rte",
    "batch": [32, 80],
    "processor": "Some CPU",
    "threads": 1,
    "rows": [
        {"row": name, "method": name, "seconds": 0.1 * k, "memory_mib": 10.0 * k, "flops": 2e9 * k}
        | {"student_forwards": k, "teacher_forwards": 1, "backwards": k}
        for name, k in (("kd", 1), ("reptile", 2), ("metadistil", 5))
    ],
}
