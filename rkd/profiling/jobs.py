"""Measurement jobs: load models and data, call `rkd.profiling.measure`, and write the result as JSON."""

import copy
import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from rkd.methods.base import Method
from rkd.methods.build import build
from rkd.models import loading
from rkd.profiling import measure
from rkd.specs.profiling import StepCostSpec, TimedVariant
from rkd.tasks import Task, get
from rkd.training.batches import Split, load_prepared
from rkd.utils.files import write_json
from rkd.utils.provenance import Stopwatch, provenance
from rkd.utils.torch_setup import choose_device, quiet_transformers, seed_everything


def measured_task(
    data: Path, folders: Mapping[str, str], out: str, device: str, threads: int, repeats: int = 50
) -> None:
    """Measure trained models on a task's dev examples and write {"task", "length", "rows", …} to `out`.

    Args:
        data: a prepared task.
        folders: folders of trained models by row: "teacher", "student", or a variant's name.
    """
    started, where = Stopwatch(), _start(device, threads)
    task, splits, _ = _prepared(data)
    split = splits[task.primary_split]
    loaded = {row: loading.load_finetuned(Path(folder)) for row, folder in folders.items()}
    rows = measure.measure_models(loaded, split, where, repeats=repeats)
    write_json(
        out,
        {
            "task": task.name,
            "custom_task": task.own,
            "split": task.primary_split,
            "length": float(split.lengths.double().mean()),
            "batch_sizes": [1, 32],
            "repeats": repeats,
            "rows": rows,
            "models": dict(folders),
            **provenance(started, str(where), threads),
        },
    )


def measured_methods(
    spec: StepCostSpec, data: Path, teacher: Path, out: str, device: str, threads: int, *, steps: int = 5
) -> None:
    """Measure a training step of each variant on the first training batch and write {"task", "rows", …} to `out`.

    Args:
        spec: the variants, their student, and the batch size.
        data: a prepared task.
        teacher: folder of a fine-tuned teacher.
    """
    started, where = Stopwatch(), _start(device, threads)
    task, splits, tokenizer = _prepared(data)
    rows = splits["train"].shuffled(spec.batch_size, seed=0, epoch=1)[0]
    batch = {name: tensor.to(where) for name, tensor in splits["train"].batch(rows).items()}
    length = int(splits["train"].lengths.max())
    first_student = loading.load_for(spec.student, task, tokenizer, seed=0, max_length=length)
    first_teacher = loading.load_finetuned(teacher)
    loading.check_fit(first_student, first_teacher)

    def builder(one: TimedVariant) -> Method:
        return build(
            one.method,
            copy.deepcopy(first_student),
            copy.deepcopy(first_teacher),
            options=one.options,
            quiz=itertools.repeat(batch),
            device=where,
            **{"student_lr": 5e-5, "total_steps": 1000, **one.training},
        )

    builders = {one.variant: partial(builder, one) for one in spec.variants}
    found = measure.measure_methods(builders, batch, where, steps=steps)
    methods = {one.variant: one.method for one in spec.variants}
    write_json(
        out,
        {
            "task": task.name,
            "custom_task": task.own,
            "batch": list(batch["input_ids"].shape),
            "tokens": int(batch["attention_mask"].sum()),
            "rows": [{**line, "method": methods[line["row"]]} for line in found],
            "spec": spec.as_dict(),
            **provenance(started, str(where), threads),
        },
    )


def _start(device: str, threads: int) -> torch.device:
    quiet_transformers()
    seed_everything(0, threads)
    return cast(torch.device, choose_device(device))


def _prepared(data: Path) -> tuple[Task, dict[str, Split], Any]:
    """Load task, splits and tokenizer of a prepared task."""
    manifest, tokenizer, splits = load_prepared(data)
    return get(manifest["task"], manifest.get("custom_task")), splits, tokenizer
