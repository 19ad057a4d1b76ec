"""Time per training step: Reptile, the literal implementation, kd, MetaDistil and matrix products alone."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import MPNetConfig, MPNetForSequenceClassification

from benchmarks.data import WIDTH, Batch, full_batch, lengths, pad_to, random_batches, splits_of
from benchmarks.flops import Products, reptile_flops
from benchmarks.report import Goal, Row, not_measured
from benchmarks.sides import Pair, build, minilm, random_pair, stepper, take_quiz
from benchmarks.timing import Seconds, geometric, paired, ratios, spread
from rkd.methods.base import task_loss
from rkd.methods.kd import LogitCache
from rkd.models import onednn
from rkd.models.unpadded import logits
from rkd.tasks import get
from rkd.training.precision import autocast, has_bf16

AVX512 = onednn.available()
SPEED, SHARE = (Goal("≥", 11.0), Goal("≥", 0.65)) if AVX512 else (Goal("≥", 7.0), Goal("≥", 0.75))
BF16, SPEED_FULL, UNPADDED = Goal("≥", 1.6), Goal("≥", 1.5), Goal("≥", 2.0)
KD, METADISTIL = Goal("≤", 1.8), Goal(">", 1.0)
KNOWN = "kd known"  # after the first epoch, with all logits of the frozen teacher cached
NO_BF16 = "this CPU has no bf16"
# Matrix libraries on this machine. The goal applies to the last one, the fastest.
ROUTINES = ("torch.mm", "oneDNN") if AVX512 else ("torch.mm",)


def real_data(
    folder: Path, tasks: Sequence[str], batch_size: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[list[Row], dict[str, Seconds]]:
    """Time all sides on the same real batches of each task, MiniLM 6 → 3.

    Returns:
        The rows, and the seconds of every round by task and side.
    """
    bf16 = has_bf16(torch.device("cpu"))
    seconds: dict[str, Seconds] = {}
    fractions: dict[str, dict[str, list[float]]] = {routine: {} for routine in ROUTINES}
    for outputs in sorted({get(task).num_labels for task in tasks}, reverse=True):
        group = [task for task in tasks if get(task).num_labels == outputs]
        pair = minilm(group[0])
        methods = _methods(pair, bf16)
        for number, task in enumerate(group):
            batches = random_batches(splits_of(folder, task)["train"], batch_size, rounds)
            products = []
            for batch in batches:
                with Products() as recorded:
                    methods["reptile"].step(batch)
                products.append(recorded)
            sides = _sides(methods, batches)
            if number == 0:
                for side in sides.values():  # warm up optimizer states, thread pools and memory
                    side(0)
            bare = {
                f"products by {routine}": partial(_call, [recorded.replay(routine) for recorded in products])
                for routine in ROUTINES
            }
            found = paired({**sides, **bare}, rounds, clock)
            seconds[task] = found
            for routine in ROUTINES:
                times = zip(batches, products, found["reptile"], found[f"products by {routine}"], strict=True)
                fractions[routine][task] = [_rate_fraction(pair, *measured) for measured in times]
        del methods
        gc.collect()
    fraction_rows = [row for routine, found in fractions.items() for row in _fraction_rows(seconds, found, routine)]
    return [*_rows(seconds, bf16), *fraction_rows], seconds


def equal_padding(
    rounds: int,
    batch_size: int = 8,
    clock: Callable[[], float] = time.perf_counter,
    layers: tuple[int, int] = (6, 12),
    **config: Any,
) -> tuple[list[Row], dict[str, Seconds]]:
    """Time models of BERT-base's shape on batches without padding, where unpadding saves nothing.

    Args:
        layers: numbers of layers of student and teacher.
        config: overrides BERT-base's shape.
    """
    pair = random_pair(*layers, **config)
    batches = [full_batch(batch_size, WIDTH, pair.student.config.vocab_size, seed) for seed in range(rounds)]
    bf16 = has_bf16(torch.device("cpu"))
    sides: dict[str, Callable[[int], object]] = {}
    for side in ("literal", "reptile"):
        method = build(side, pair, batches[0])
        sides[side] = _at(stepper(method), batches)
        if bf16:
            sides[f"{side} bf16"] = _at(stepper(method, "bf16"), batches)
        sides[side](0)
    found = paired(sides, rounds, clock)
    models = f"BERT-base {layers[1]} → {layers[0]}"
    what = f"Reptile step without padding, {models}, {batch_size} × {WIDTH} tokens"
    rows = [versus(f"{what}, fp32", found, "literal", "reptile", SPEED_FULL)]
    if bf16:
        rows.append(versus(f"{what}, both bf16", found, "literal bf16", "reptile bf16"))
    return rows, {"bert-base": found}


def own_forward(
    folder: Path,
    rounds: int,
    batch_size: int = 32,
    clock: Callable[[], float] = time.perf_counter,
    layers: int = 12,
    **config: Any,
) -> tuple[list[Row], dict[str, Seconds]]:
    """Time forward and backward pass of MPNet on RTE's batches, without padding and by its own padded forward.

    Args:
        folder: the tokenised tasks; MPNet's vocabulary is large enough for their tokens.
        rounds, batch_size, clock: as in `real_data`.
        layers: number of layers.
        config: overrides the shape of MPNet-base.
    """
    torch.manual_seed(0)
    model = MPNetForSequenceClassification(MPNetConfig(num_hidden_layers=layers, **config)).train()
    task = "rte" if (folder / "rte").is_dir() else "cola"
    batches = random_batches(splits_of(folder, task)["train"], batch_size, rounds)
    kinds = ["fp32", *(["bf16"] if has_bf16(torch.device("cpu")) else [])]
    names = {"unpadded": True, "own": False}

    def step(unpadded: bool, kind: str, turn: int) -> None:
        with autocast(kind, torch.device("cpu")):
            z = logits(model, batches[turn], unpadded=unpadded)
        task_loss(z, batches[turn]["labels"]).backward()
        model.zero_grad(set_to_none=True)

    sides = {f"{name} {kind}": partial(step, names[name], kind) for kind in kinds for name in names}
    for side in sides.values():
        side(0)
    found = paired(sides, rounds, clock)
    models = f"MPNet-base, {layers} layers, {get(task).title} batches of {batch_size}"
    what = f"{models}: without padding against its own forward"
    rows = [versus(f"{what}, {kind}", found, f"own {kind}", f"unpadded {kind}", UNPADDED) for kind in kinds]
    return rows, {"mpnet": found}


def versus(name: str, seconds: Seconds, above: str, below: str, goal: Goal | None = None, note: str = "") -> Row:
    """Return the row of the ratio of two sides."""
    value = spread(ratios(seconds[above], seconds[below]))
    medians = {side: statistics.median(seconds[side]) for side in (above, below)}
    return Row(name, value, goal=goal, medians=medians, rounds=len(seconds[above]), note=note)


def over_tasks(
    name: str, seconds: Mapping[str, Seconds], above: str, below: str, goal: Goal | None = None, note: str = ""
) -> Row:
    """Return the row of the geometric mean over tasks of a ratio; medians are sums over tasks."""
    value = geometric({task: ratios(found[above], found[below]) for task, found in seconds.items()})
    medians = {side: sum(statistics.median(found[side]) for found in seconds.values()) for side in (above, below)}
    rounds = len(next(iter(seconds.values()))[above])
    return Row(name, value, goal=goal, medians=medians, rounds=rounds, note=note)


def _methods(pair: Pair, bf16: bool) -> dict[str, Any]:
    """Build one method per side; bf16 sides have their own weights."""
    names = ["literal", "reptile", "kd", KNOWN, "metadistil", *(["literal bf16", "reptile bf16"] if bf16 else [])]
    batch = full_batch(2, 8, vocabulary=1000)  # placeholder until take_quiz sets the quiz
    return {name: build(name.partition(" ")[0], pair, batch) for name in names}


def _sides(methods: Mapping[str, Any], batches: list[Batch]) -> dict[str, Callable[[int], object]]:
    padded = [pad_to(batch, WIDTH) for batch in batches]
    numbered = [
        {**batch, "row": len(batch["labels"]) * i + torch.arange(len(batch["labels"]))}
        for i, batch in enumerate(batches)
    ]
    sides = {}
    for name, method in methods.items():
        take_quiz(method, batches)
        kind, _, suffix = name.partition(" ")
        own = padded if kind == "literal" else batches
        if name == KNOWN:
            own = numbered
            method.known_logits = LogitCache()  # drop the logits of the previous task
            for batch in own:
                method.teacher_logits(batch)
        sides[name] = _at(stepper(method, "bf16" if suffix == "bf16" else "fp32"), own)
    return sides


def _at(step: Callable[[Batch], object], batches: list[Batch]) -> Callable[[int], object]:
    return lambda turn: step(batches[turn])


def _call(functions: list[Callable[[], None]], turn: int) -> None:
    functions[turn]()


def _rate_fraction(pair: Pair, batch: Batch, products: Products, step: float, bare: float) -> float:
    """Return (required FLOPs / seconds of the step) / (FLOPs of its products / seconds of the products alone)."""
    needed = reptile_flops(pair.student.config, pair.teacher.config, lengths(batch))
    return (needed / step) / (products.flops / bare)


def _rows(seconds: Mapping[str, Seconds], bf16: bool) -> list[Row]:
    """Compare Reptile with the literal implementation and kd, and MetaDistil with Reptile."""
    what = "Reptile step, real batches, MiniLM 6 → 3"
    rows = [versus(f"{what}, {get(task).title}, fp32", found, "literal", "reptile") for task, found in seconds.items()]
    rows.append(over_tasks(f"{what}, geometric mean, fp32", seconds, "literal", "reptile", SPEED))
    if bf16:
        rows += [
            over_tasks(f"{what}, geometric mean, both bf16", seconds, "literal bf16", "reptile bf16"),
            over_tasks(f"{what}, geometric mean, bf16 against fp32", seconds, "literal", "reptile bf16"),
            over_tasks(
                f"{what}, geometric mean, rkd in bf16 against rkd in fp32", seconds, "reptile", "reptile bf16", BF16
            ),
        ]
    else:
        rows.append(not_measured(f"{what}, geometric mean, bf16", NO_BF16, BF16))
    return [
        *rows,
        over_tasks("Reptile step against kd step, geometric mean", seconds, "reptile", "kd", KD),
        over_tasks(
            "kd step with the teacher's forward pass, against one with cached logits, geometric mean",
            seconds,
            "kd",
            KNOWN,
        ),
        over_tasks("MetaDistil step against Reptile step, time", seconds, "metadistil", "reptile", METADISTIL),
    ]


def _fraction_rows(seconds: Mapping[str, Seconds], fractions: Mapping[str, list[float]], routine: str) -> list[Row]:
    what = f"Reptile step: fraction of the rate of matrix products by {routine}, MiniLM 6 → 3"
    goal = SHARE if routine == ROUTINES[-1] else None
    rows = []
    for task, found in fractions.items():
        medians = {side: statistics.median(seconds[task][side]) for side in ("reptile", f"products by {routine}")}
        rows.append(Row(f"{what}, {get(task).title}", spread(found), "%", None, medians, rounds=len(found)))
    rounds = len(next(iter(fractions.values())))
    return [*rows, Row(f"{what}, geometric mean, fp32", geometric(fractions), "%", goal, rounds=rounds)]
