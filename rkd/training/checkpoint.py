"""The state of a training run on disk: a stopped or killed run continues where it was and ends with the same bits.

A run has one folder. In it `checkpoint.json` names the file with the state and that file's checksum. It is replaced
last and atomically. A valid checkpoint therefore exists no matter when the process dies: the old one or the new one.
"""

import contextlib
import hashlib
import json
import logging
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rkd.methods.base import Method
from rkd.utils.files import atomic_path, sha256, write_json
from rkd.utils.locks import differences, lock
from rkd.utils.provenance import processor_name

log = logging.getLogger("rkd")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Files that may be deleted from a run's folder: states, and temporary files of killed processes.
_OURS = re.compile(r"step-\d+\.pt|\.(step-\d+\.pt|checkpoint\.json)\.\d+\.(tmp|old)")


@dataclass
class Progress:
    """The progress of a training run, apart from its models and optimizers.

    Attributes:
        epoch: the current epoch, counted from 1.
        batch: number of its batches that are done.
        step: number of steps so far.
        sums, counts: sums and counts of the losses of this epoch, by name; not every step has every term.
        history: one record per evaluation.
        best_score, best_state: score and weights of the best epoch so far, by the selection rule.
        waited: number of epochs since the best one, for early stopping.
        seconds: training time up to the last checkpoint.
        resumed: steps at which the run was resumed from a checkpoint.
        processors: names of the processors that the run used, in order.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    history: list[dict[str, Any]] = field(default_factory=list)
    best_score: float = -float("inf")
    best_state: dict[str, torch.Tensor] | None = None
    waited: int = 0
    seconds: float = 0.0
    resumed: list[int] = field(default_factory=list)
    processors: list[str] = field(default_factory=list)


class Interrupted(SystemExit):
    """A signal has stopped the run. Uncaught, it exits the process with code 128 + signal, without a traceback."""


class Checkpoint:
    """The folder with a run's state; a context manager that locks the folder and handles signals.

    If another process trains the same run, it is asked to stop and waited for; this process then resumes from its
    checkpoint. Such processes are jobs that outlive a killed Snakemake.

    Within the block, SIGINT, SIGTERM and SIGHUP, unless ignored, let the current step finish. `after_step` then writes
    a checkpoint and raises `Interrupted`. This works only in the main thread, where Python delivers signals.

    Args:
        folder: a folder for this run only. None: nothing is saved, and signals keep their default behaviour.
        minutes: interval between checkpoints within an epoch.
        identity: everything that determines the run, as JSON. A checkpoint with a different identity is not used.
        processor: name of the processor in use, by default the CPU's. A run that resumes on another one logs a warning.

    Example:
        >>> with Checkpoint(folder, 15, {"spec": spec.json()}) as checkpoint:
        ...     progress = checkpoint.restore(method)
        ...     method.step(batch)
        ...     checkpoint.after_step(method, progress)
        ...     checkpoint.remove()
    """

    def __init__(
        self,
        folder: Path | None,
        minutes: float = 15,
        identity: Mapping[str, Any] | None = None,
        processor: str | None = None,
    ) -> None:
        self.folder = folder
        self.processor = processor or processor_name()
        self.minutes = minutes
        self.identity = json.loads(json.dumps(identity))
        self.signal: int | None = None
        self.at_once = False
        self.saved = self.started = time.monotonic()
        self.step: int | None = None  # step of the checkpoint in the folder
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Checkpoint":
        if self.folder is not None:
            self._lock = lock(self.folder / "lock", "trains this run", self.identity, take_over=True)
            if threading.current_thread() is threading.main_thread():
                for number in SIGNALS:
                    if signal.getsignal(number) is not signal.SIG_IGN:  # as set by nohup
                        self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.folder is not None:
            os.close(self._lock)

    def usable(self) -> bool:
        """Return True if `restore` will find a checkpoint of this run."""
        with contextlib.suppress(_Unusable):
            return self.folder is not None and _state(self.folder, self.identity) is not None
        return False

    def restore(self, method: Method) -> Progress:
        """Restore a newly built method and the random generators from the checkpoint.

        The log says why an existing checkpoint cannot be used.

        Returns:
            The progress of the checkpoint, or that of a new run.
        """
        self.saved = self.started = time.monotonic()
        try:
            path = None if self.folder is None else _state(self.folder, self.identity)
        except _Unusable as reason:
            log.warning("%s: this checkpoint is not used, training begins anew: %s", self.folder, reason)
            path = None
        if path is None:
            return Progress(processors=[self.processor])
        state = torch.load(path, map_location="cpu", weights_only=True)
        method.load_state_dict(state["method"])
        progress = Progress(**state["progress"])
        progress.counts = Counter(progress.counts)
        progress.resumed.append(progress.step)
        if progress.processors[-1:] != [self.processor]:
            before = ", ".join(progress.processors)
            log.warning(
                "%s: this processor may give other last digits than the one that the run began on; before: %s",
                self.processor,
                before,
            )
            progress.processors.append(self.processor)
        self.step = progress.step
        _set_random_states(state["random"])
        log.info("%s: going on from step %d (epoch %d)", self.folder, progress.step, progress.epoch)
        return progress

    def seconds(self, progress: Progress) -> float:
        """Return the training time in seconds, including the time before the run was resumed."""
        return progress.seconds + time.monotonic() - self.started

    def after_step(self, method: Method, progress: Progress, before_saving: Callable[[], None] = lambda: None) -> None:
        """Save if a checkpoint is due or a signal has arrived.

        Args:
            before_saving: brings `progress` up to date; called if something will be saved.

        Raises:
            Interrupted: a signal has arrived.
        """
        if self.folder is None:
            return
        stop = self.signal is not None
        if stop or time.monotonic() - self.saved >= 60 * self.minutes:
            before_saving()
            self.save(method, progress)
        if stop:
            self._stop()

    def save(self, method: Method, progress: Progress) -> None:
        """Save the state of the run atomically.

        Raises:
            RkdError: the folder cannot be written; the previous checkpoint is kept.
        """
        if self.folder is None or self.step == progress.step:
            return  # this state is saved already, and may be the only one: do not overwrite it
        fields = {**vars(progress), "counts": dict(progress.counts), "seconds": self.seconds(progress)}
        state = {"method": method.state_dict(), "progress": fields, "random": _random_states()}
        name = f"step-{progress.step}.pt"
        with atomic_path(self.folder / name) as path, path.open("wb") as file:
            torch.save(state, file)
        index = {"state": name, "sha256": sha256(self.folder / name), "identity": self.identity}
        write_json(self.folder / "checkpoint.json", index)
        self._delete_states(but=name)
        self.saved, self.step = time.monotonic(), progress.step

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Stop immediately on a signal within the block, which must not change any state of a checkpoint.

        Raises:
            Interrupted: a signal has arrived.
        """
        self.at_once = True
        try:
            if self.signal is not None:
                self._stop()
            yield
        finally:
            self.at_once = False

    def remove(self) -> None:
        """Delete the checkpoint of a finished run; other files in the folder are kept."""
        if self.folder is None:
            return
        try:
            (self.folder / "checkpoint.json").unlink(missing_ok=True)  # first: without it the rest is not a checkpoint
            self._delete_states()
            (self.folder / "lock").unlink(missing_ok=True)
        except OSError as error:  # the run is complete nevertheless
            log.warning("%s: cannot be removed: %s", self.folder, error.strerror)
        # Not empty: it holds other files, or a waiting process has recreated the lock and will remove the folder.
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _delete_states(self, but: str | None = None) -> None:
        assert self.folder is not None
        for path in sorted(self.folder.iterdir()):
            if _OURS.fullmatch(path.name) and path.name != but and not path.is_dir():
                path.unlink()

    def _on_signal(self, number: int, _frame: object) -> None:
        self.signal = number
        if self.at_once:
            self._stop()

    def _stop(self) -> None:
        assert self.signal is not None
        where = "begins anew, no step is saved yet" if self.step is None else f"goes on after step {self.step}"
        log.warning("%s: stopped; the same command %s (%s)", signal.Signals(self.signal).name, where, self.folder)
        raise Interrupted(128 + self.signal)


class _Unusable(Exception):
    """The reason why a checkpoint cannot be used."""


def _state(folder: Path, identity: Any) -> Path | None:
    """Read the state in a checkpoint's folder, if it is complete and of this run; None if there is no checkpoint."""
    if not (folder / "checkpoint.json").exists():
        return None
    try:
        index = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
        path, expected, theirs = folder / Path(index["state"]).name, index["sha256"], index["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _Unusable(f"checkpoint.json is damaged ({type(error).__name__}: {error})") from None
    if changes := differences(theirs, identity):
        raise _Unusable(f"it belongs to another run, that differs in {', '.join(changes)}")
    try:
        found = sha256(path)
    except OSError as error:
        raise _Unusable(f"{path.name} cannot be read ({error.strerror})") from None
    if found != expected:
        raise _Unusable(f"{path.name} is damaged: sha256 is {found}; expected {expected}")
    return path


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of the names and values of a model's parameters and buffers, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _random_states() -> dict[str, Any]:
    """Return the states of all global generators, in types that torch loads without pickle."""
    numpy = np.random.get_state(legacy=False)
    assert isinstance(numpy, dict)
    key = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": {**numpy, "state": {"key": key, "pos": int(numpy["state"]["pos"])}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def _set_random_states(states: dict[str, Any]) -> None:
    numpy = states["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    random.setstate(states["python"])
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"])
