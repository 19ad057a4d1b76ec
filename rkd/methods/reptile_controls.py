"""Controls of ReptileKD's outer update: alternatives to AdamW along the pseudo-gradient."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from rkd.errors import RkdError
from rkd.methods.base import linear_schedule


class ReptileSGD:
    """θ_T ← θ_T − ε · g with the pseudo-gradient g = θ_T − θ'_S: the outer step of Reptile (Nichol et al., 2018).

    ε warms up from 0 over `warmup_steps`, then decays linearly to 0 at `total_steps`. There is no clipping and no
    weight decay: the rule interpolates between θ_T and θ'_S.

    Args:
        parameters: the parameters to update, with their pseudo-gradients in `grad`.
        step_size: ε in (0, 1]; 1 sets θ_T to θ'_S in one step.
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
    """Random signs for steps of given size, from a separate generator.

    The generator is seeded with torch's initial seed. Draws from it do not affect dropout.

    Args:
        parameters: the parameters to redirect, all on one device.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.generator = torch.Generator(parameters[0].device).manual_seed(torch.initial_seed())

    @torch.no_grad()
    def redirect(self, parameters: list[nn.Parameter], before: list[Tensor]) -> None:
        """Multiply each entry of the step from `before` to `parameters` by a random sign."""
        for parameter, start in zip(parameters, before, strict=True):
            flips = torch.empty_like(start).bernoulli_(0.5, generator=self.generator)
            parameter.sub_(start).mul_(1 - 2 * flips).add_(start)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
