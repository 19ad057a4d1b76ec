"""Measurement jobs: load models and data, call `rkd.profiling.measure`, and write the result as JSON."""

import copy
import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

import torch

from rkd.methods.base import Method
from rkd.methods.build import build
from rkd.models import loading
from rkd.profiling import measure
from rkd.specs.profiling import StepCostSpec, TimedVariant
from rkd.tasks import get
from rkd.training.batches import load_prepared, on_device
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
    manifest, _, splits = load_prepared(data)
    task = get(manifest["task"], manifest.get("custom_task"))
    split = splits[task.primary_split]
    reads = dict.fromkeys(folders, split)
    if "student_tokenizer" in manifest:
        own = load_prepared(data, own_tokens=True)[2][task.primary_split]
        reads = {row: split if row == "teacher" else own for row in folders}
    loaded = {row: loading.load_finetuned(Path(folder)) for row, folder in folders.items()}
    rows = measure.measure_models(loaded, reads, where, repeats=repeats)
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
    own = any(one.options.get("student_tokenizer") == "own" for one in spec.variants)
    manifest, tokenizer, splits = load_prepared(data, own_tokens=own)
    task = get(manifest["task"], manifest.get("custom_task"))
    rows = splits["train"].shuffled(spec.batch_size, seed=0, epoch=1)[0]
    batch = on_device(splits["train"].batch(rows), where)
    length = int(splits["train"].lengths.max())
    first_student = loading.load_for(spec.student, task, tokenizer, seed=0, max_length=length)
    first_teacher = loading.load_finetuned(teacher)
    loading.check_fit(first_student, first_teacher, same_vocabulary=not own)

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
