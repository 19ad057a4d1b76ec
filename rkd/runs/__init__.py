"""The one reader of what a run leaves behind, and of where it lies. Only reads; no torch.

| module      | reads                                                              |
|-------------|--------------------------------------------------------------------|
| paths       | task, variant and seed from a path, and the paths of a run         |
| record      | run.json: the spec, digests of outputs, data, code and machine     |
| history     | history.jsonl: one evaluation per line                             |
| predictions | predictions.parquet, logits.parquet                                |
| metrics     | a run's metrics file                                               |
| manifest    | manifest.json of the prepared data                                 |
| prepared    | the same for trainings, which first compare every file             |
| task        | the task that one of these files names and perhaps defines         |

Whatever a file holds, a reader returns it with the types that its users rely on, or raises one `RkdError` that names
the file, the key, what was found and what was expected.
"""
