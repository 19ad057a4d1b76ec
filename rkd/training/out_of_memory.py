"""A one-line error for lack of memory, with advice."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rkd.errors import RkdError

# Fragments of torch's RuntimeErrors on GPUs and CPUs.
_FRAGMENTS = ("out of memory", "can't allocate memory", "not enough memory")


@contextmanager
def explain_out_of_memory(what: str, training: Mapping[str, Any]) -> Iterator[None]:
    """Turn out-of-memory errors within the block into an `RkdError` with advice on settings.

    Args:
        what: the run, for example "mrpc/kd/seed-1".
        training: settings with `batch_size` and `gradient_accumulation`.

    >>> with explain_out_of_memory("mrpc/kd/seed-1", {"batch_size": 32, "gradient_accumulation": 1}):
    ...     raise MemoryError
    Traceback (most recent call last):
    rkd.errors.RkdError: mrpc/kd/seed-1: not enough memory for batch_size 32 in 1 part; …
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(part in str(error).lower() for part in _FRAGMENTS):
            raise
        size, parts = training["batch_size"], training.get("gradient_accumulation", 1)
        more = next((n for n in range(2 * parts, size + 1) if size % n == 0), None)
        advice = f"set gradient_accumulation to {more}, which gives the same result, or " if more else ""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RkdError(
            f"{what}: not enough memory for batch_size {size} in {parts} part{'s' * (parts > 1)}; {advice}lower "
            f"batch_size or max_length, or run fewer jobs at a time (snakemake --cores). Found: {reason}"
        ) from error
