"""Record where, with what and for how long a run was made."""

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy", "pandas", "snakemake")

# Variables by which users restrict the instructions of numerical libraries, or allow less exact ones.
_ARITHMETIC_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def processor_name() -> str:
    """Return the CPU's model name as reported by the operating system."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_state(folder: Path) -> dict[str, Any]:
    """Return the commit of `folder` and whether it has uncommitted changes; empty outside a Git checkout."""
    try:
        commit, status = (
            subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit.strip(), "dirty": bool(status.strip())}


def arithmetic(device: Any) -> dict[str, Any]:
    """Return the instruction set of a device, which decides the last bits of all numbers.

    Libraries choose their routines for matrix products and sums by the vector instructions of the processor, and by
    some variables of the environment.

    Args:
        device: a `torch.device`.

    Returns:
        `capability`, torch's name of the instructions that it uses on a CPU, or the compute capability of a GPU;
        `instructions`, the vector instructions of a CPU; `environment`, the variables that are set.

    >>> arithmetic(torch.device("cpu"))["capability"]
    'AVX2'
    """
    import torch

    environment = {name: os.environ[name] for name in _ARITHMETIC_VARIABLES if name in os.environ}
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return {"capability": f"{major}.{minor}", "environment": environment}
    there = [name for name, found in torch.cpu.get_capabilities().items() if found is True]
    if platform.machine() in ("x86_64", "AMD64"):
        there = [name for name in there if name.startswith(("avx", "amx", "fma"))]
    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "instructions": sorted(there),
        "environment": environment,
    }


@dataclass(frozen=True)
class Stopwatch:
    """The start of something: its date, and the seconds since then, even if the system's clock is set meanwhile.

    >>> Stopwatch().seconds()
    0.0
    """

    date: float = field(default_factory=time.time)
    _clock: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._clock


def provenance(started: Stopwatch, device: str, threads: int) -> dict[str, Any]:
    """Return the machine, software and time of a run: the part of run.json that is not the spec.

    Args:
        started: made at the start of the run.
        device: the torch device the run used, for example "cpu".
        threads: number of CPU threads of the run.
    """
    import resource

    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor": processor_name(),
        "device": device,
        "arithmetic": arithmetic(torch.device(device)),
        "threads": threads,
        "git": git_state(Path(__file__).resolve().parent),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started.date)),
        "seconds": round(started.seconds(), 1),
        "peak_memory_mib": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
    }
    if device.startswith("cuda"):
        result["gpu"] = torch.cuda.get_device_name()
        result["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() >> 20
    return result
