"""Other ways for ReptileKD to move the teacher than AdamW along the pseudo-gradient: its controls."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from rkd.errors import RkdError
from rkd.methods.base import linear_schedule


class ReptileSGD:
    """θ_T ← θ_T − ε · g with the pseudo-gradient g = θ_T − θ'_S: the outer step of Reptile (Nichol et al., 2018).

    ε climbs from 0 over `warmup_steps` and then falls linearly to 0 at `total_steps`. Nothing is clipped and nothing
    decays: the rule is an interpolation between θ_T and θ'_S.

    Args:
        parameters: what to update, with the pseudo-gradients in `grad`.
        step_size: ε in (0, 1]; 1 would put θ_T on θ'_S at once.
    """

    def __init__(self, parameters: list[nn.Parameter], step_size: float, total_steps: int, warmup_steps: int) -> None:
        if not 0 < step_size <= 1:
            raise RkdError(f"outer_step_size: found {step_size}; expected a number above 0 and at most 1")
        self.sgd = SGD(parameters, lr=step_size)
        self.schedule = linear_schedule(self.sgd, total_steps, warmup_steps)

    def step(self) -> None:
        """Update the parameters, advance the schedule and drop the pseudo-gradients."""
        self.sgd.step()
        self.schedule.step()
        self.sgd.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"sgd": self.sgd.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sgd.load_state_dict(state["sgd"])
        self.schedule.load_state_dict(state["schedule"])


class RandomSigns:
    """Random directions for steps whose sizes are given, from a generator of its own.

    The generator is seeded with the seed that torch's was given; no draw from it changes what dropout draws.

    Args:
        parameters: those whose steps will be redirected, all on one device.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.generator = torch.Generator(parameters[0].device).manual_seed(torch.initial_seed())

    @torch.no_grad()
    def redirect(self, parameters: list[nn.Parameter], before: list[Tensor]) -> None:
        """Give each step from `before` to `parameters`, entry by entry, a sign drawn by chance."""
        for parameter, start in zip(parameters, before, strict=True):
            flips = torch.empty_like(start).bernoulli_(0.5, generator=self.generator)
            parameter.sub_(start).mul_(1 - 2 * flips).add_(start)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
