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
from collections.abc import Iterator, Mapping
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
# What may be deleted in a run's folder: states, and what a killed process left of one. All else is someone else's.
_OURS = re.compile(r"step-\d+\.pt|\.(step-\d+\.pt|checkpoint\.json)\.\d+\.(tmp|old)")


@dataclass
class Progress:
    """The position of a training, beside the models and optimizers of its method.

    Attributes:
        epoch: the epoch under way, counted from 1.
        batch: how many of its batches have been trained on.
        step: number of steps so far.
        sums, counts: of the losses of this epoch, by name; not every step has every part of the loss.
        history: one record for every evaluation.
        best_score, best_state: score and weights of the epoch that the selection rule keeps, so far.
        seconds: of training, up to the last checkpoint.
        resumed: the steps at which the run was continued from a checkpoint.
        processors: names of the processors that the run was on, in that order.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    history: list[dict[str, Any]] = field(default_factory=list)
    best_score: float = -float("inf")
    best_state: dict[str, torch.Tensor] | None = None
    seconds: float = 0.0
    resumed: list[int] = field(default_factory=list)
    processors: list[str] = field(default_factory=list)


class Interrupted(SystemExit):
    """A signal has ended the run; uncaught, it ends the process with the code 128 + signal, without a traceback."""


class Checkpoint:
    """The folder with a run's state; as a context manager it holds the folder's lock and answers to signals.

    Another process that trains this very run is asked to stop, and waited for: it is what a killed Snakemake has left
    behind, a job that goes on alone, and this one goes on from its checkpoint.

    Within the block SIGINT, SIGTERM and SIGHUP, unless they are ignored, let the step under way end, and `after_step`
    then writes a checkpoint and raises `Interrupted`. So they do in the main thread; Python allows no other.

    Args:
        folder: of this run alone; None: nothing is saved, and signals do what they always do.
        minutes: time between two checkpoints within an epoch.
        identity: all that decides the run, as JSON has it. A checkpoint with another identity is not used.
        processor: name of the processor in use, by default the CPU's. The log warns when a run goes on on another.

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
        self.step: int | None = None  # that of the checkpoint in the folder
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Checkpoint":
        if self.folder is not None:
            self._lock = lock(self.folder / "lock", "trains this run", self.identity, take_over=True)
            if threading.current_thread() is threading.main_thread():
                for number in SIGNALS:
                    if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks for
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
        """Put a freshly built method back to where the checkpoint is, random generators included.

        What is there and cannot be used is named in the log.

        Returns:
            The progress of the checkpoint, or that of a run that has yet to begin.
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
        """Seconds of training, those before the run was continued included."""
        return progress.seconds + time.monotonic() - self.started

    def after_step(self, method: Method, progress: Progress) -> None:
        """Save where it is time to, or where a signal asks for the end of the run.

        Raises:
            Interrupted: there was a signal.
        """
        if self.folder is None:
            return
        if self.signal is not None or time.monotonic() - self.saved >= 60 * self.minutes:
            self.save(method, progress)
        if self.signal is not None:
            self._stop()

    def save(self, method: Method, progress: Progress) -> None:
        """Write the state of the run, whole or not at all.

        Raises:
            RkdError: the folder cannot be written; the checkpoint before is still there.
        """
        if self.folder is None or self.step == progress.step:
            return  # that very state is there, and may be the only one: it is not written over
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
        """End at once on a signal within the block, because it changes nothing that a checkpoint holds.

        Raises:
            Interrupted: there was a signal.
        """
        self.at_once = True
        try:
            if self.signal is not None:
                self._stop()
            yield
        finally:
            self.at_once = False

    def remove(self) -> None:
        """Delete the checkpoint of a run that has ended well; what else is in the folder stays."""
        if self.folder is None:
            return
        try:
            (self.folder / "checkpoint.json").unlink(missing_ok=True)  # first: what is left of it is no checkpoint
            self._delete_states()
            (self.folder / "lock").unlink(missing_ok=True)
        except OSError as error:  # the run is whole all the same
            log.warning("%s: cannot be removed: %s", self.folder, error.strerror)
        # Files of someone else are there, or a second process waits and has made the lock anew: it removes the folder.
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
    """Why a checkpoint cannot be used."""


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
    """SHA-256 over the names and values of a model's parameters and buffers, in hexadecimal."""
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
