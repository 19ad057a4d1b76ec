"""Measured cost of models and methods: parameters, FLOPs, latency, throughput; seconds and memory per step."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from rkd.errors import RkdError
from rkd.methods.base import Batch, Method
from rkd.models import onednn
from rkd.models.loading import count_parameters
from rkd.training.batches import Split

ENCODERS = ("bert", "roberta", "distilbert", "camembert", "electra", "mpnet", "xlm-roberta")
Inputs = dict[str, Tensor]


def flops(config: PretrainedConfig, length: int) -> int:
    """Count the floating-point operations of one example's forward pass, in matrix products only.

    A product of an a × b and a b × c matrix counts 2abc. Per layer of width h with an inner width f, and n tokens: 8nh²
    for queries, keys, values and output, 4nhf for the feed-forward network, 4n²h for attention. Biases, softmax,
    LayerNorm, GELU and look-ups are not counted, as in `torch.utils.flop_counter`. The tests compare the two.

    Args:
        config: config of a classifier whose model_type is one of `ENCODERS`.
        length: number of tokens, including special tokens.

    Raises:
        RkdError: another architecture.

    >>> flops(BertConfig(), length=128) / 1e9  # BERT-base
    22.35...
    """
    if config.model_type not in ENCODERS:
        raise RkdError(f"flops: found a model of type {config.model_type}; expected one of {', '.join(ENCODERS)}")
    n, h = length, config.hidden_size
    inner = config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    layer = 8 * n * h * h + 4 * n * h * inner + 4 * n * n * h
    head = 2 * h * h + 2 * h * config.num_labels  # pooler or dense layer of the first token, then the classifier
    # ELECTRA's embeddings may be narrower than its layers.
    project = 2 * n * config.embedding_size * h if getattr(config, "embedding_size", h) != h else 0
    return int(config.num_hidden_layers * layer + head + project)


def measure_models(
    models: Mapping[str, PreTrainedModel],
    splits: Split | Mapping[str, Split],
    device: torch.device,
    *,
    repeats: int = 50,
    warm_up: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure size and speed of models on the same examples of real lengths.

    Latency is the median time of one example; throughput is the batch size divided by the median time of a batch.
    Batches are drawn at random and padded to their longest example. Models are interleaved at every batch, so that a
    slow spell affects all of them equally. The timed code is the model's own forward pass in float32.

    Args:
        models: the models by name.
        splits: the examples; or, where models have tokenizers of their own, the same examples as each model reads them.
        device: where they are measured.

    Returns:
        One dict per model: row, parameters, parameters_without_embeddings, flops (per example, the mean over all
        examples at their own lengths), latency_ms, throughput (examples per second).
    """
    reads = splits if isinstance(splits, Mapping) else dict.fromkeys(models, splits)
    count = len(next(iter(reads.values())))
    if count < batch_size:
        raise RkdError(f"efficiency: {count} examples; expected at least {batch_size}, the batch size")
    for model in models.values():
        model.to(device).eval()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    single, many = (
        [torch.randperm(count, generator=generator)[:size] for _ in range(warm_up + repeats)]
        for size in (1, batch_size)
    )
    latency, batch_time = (_medians(models, reads, batches, warm_up, device) for batches in (single, many))
    result = []
    for name, model in models.items():
        parameters = count_parameters(model)
        result.append(
            {
                "row": name,
                "parameters": parameters["total"],
                "parameters_without_embeddings": parameters["without_embeddings"],
                "flops": statistics.fmean(flops(model.config, length) for length in reads[name].lengths.tolist()),
                "latency_ms": 1e3 * latency[name],
                "throughput": batch_size / batch_time[name],
            }
        )
    return result


def measure_methods(
    builders: Mapping[str, Callable[[], Method]],
    batch: Batch,
    device: torch.device,
    *,
    rounds: int = 3,
    steps: int = 5,
    warm_up: int = 2,
) -> list[dict[str, Any]]:
    """Measure the cost of one training step of several methods on the same batch.

    Every round builds and measures all methods in turn. They are interleaved, so that a slow spell affects all methods
    equally.

    Args:
        builders: functions by row that build the method with its models on `device`.
        batch: a batch on `device`.

    Returns:
        One dict per row: row, seconds (median over all steps), memory_mib (see `peak_memory`), and the counts of one
        step: student_forwards, teacher_forwards, backwards, flops.
    """
    seconds: dict[str, list[float]] = {name: [] for name in builders}
    records: dict[str, dict[str, Any]] = {}
    for turn in range(rounds):
        for name, build in builders.items():
            with peak_memory(device) as memory:
                method = build()
                method.student.train()
                for _ in range(warm_up):
                    method.step(batch)
                for _ in range(steps):
                    seconds[name].append(_timed(partial(method.step, batch), device))
            if turn == 0:
                records[name] = {"memory_mib": memory["mib"], **count_step(method, batch)}
            del method
            gc.collect()
    return [{"row": name, "seconds": statistics.median(times), **records[name]} for name, times in seconds.items()]


def count_step(method: Method, batch: Batch) -> dict[str, int]:
    """Count the forward and backward passes and the FLOPs (matrix products) of one step.

    A forward pass is one call of the word embeddings; a backward pass is one signal that is propagated back to their
    output. Passes differ in cost, and the FLOPs show by how much.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counts = {"student_forwards": 0, "teacher_forwards": 0, "backwards": 0}

    look_up = nn.Embedding.forward

    def count_backward(_: Tensor) -> None:
        counts["backwards"] += 1

    def counted(embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        output = look_up(embedding, tokens)
        if name := getattr(embedding, "counted_as", None):
            counts[name] += 1
            if output.requires_grad:
                output.register_hook(count_backward)
        return output

    models = {"student_forwards": method.student, "teacher_forwards": method.teacher}
    embeddings = {name: _embedding(model) for name, model in models.items() if model is not None}
    for name, embedding in embeddings.items():
        vars(embedding)["counted_as"] = name  # a copy of the model has it, too
    try:
        with (
            # No hook: a model with hooks may take other passes.
            mock.patch.object(nn.Embedding, "forward", counted),
            FlopCounterMode(display=False, custom_mapping=onednn.counted()) as counter,
            sdpa_kernel(SDPBackend.MATH),  # the counter does not know the CPU's fused attention
        ):
            method.step(batch)
    finally:
        for embedding in embeddings.values():
            del vars(embedding)["counted_as"]
    return {**counts, "flops": counter.get_total_flops()}


@contextmanager
def peak_memory(device: torch.device) -> Iterator[dict[str, float]]:
    """Measure the peak memory of the block in MiB, available as "mib" after the block.

    On a GPU, this is the peak of allocated tensors. On a CPU under Linux, it is the rise of the process's resident
    memory above its initial level; memory that the process holds but does not use hides part of it. NaN on other
    systems.
    """
    result = {"mib": float("nan")}
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield result
        result["mib"] = torch.cuda.max_memory_allocated(device) / 2**20
        return
    start = _reset_resident_peak()
    yield result
    if start is not None:
        result["mib"] = (_status("VmHWM") - start) / 2**10


def _reset_resident_peak() -> int | None:
    """Reset the kernel's record of peak resident memory; return the current value in KiB, or None if unsupported."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


def _embedding(model: nn.Module) -> nn.Module:
    """Return the word embeddings, the one module that every forward pass calls once, unpadded or not."""
    embedding: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    return embedding


def _inputs(split: Split, rows: Tensor, device: torch.device) -> Inputs:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: tensor.to(device) for name, tensor in split.batch(rows).items() if name in names}


@torch.no_grad()
def _medians(
    models: Mapping[str, PreTrainedModel],
    reads: Mapping[str, Split],
    batches: Sequence[Tensor],
    warm_up: int,
    device: torch.device,
) -> dict[str, float]:
    """Return the median seconds of a forward pass by model."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for number, rows in enumerate(batches):
        for name, model in models.items():
            inputs = _inputs(reads[name], rows, device)
            elapsed = _timed(partial(model, **inputs), device)
            if number >= warm_up:
                times[name].append(elapsed)
    return {name: statistics.median(found) for name, found in times.items()}


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that `work` takes, including its work on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
