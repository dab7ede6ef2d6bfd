"""The factor on scores that temperature stands for, learnable and bounded."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from coembed import moment
from coembed.ramp import Ramp
from coembed.sharing import current


class Scale(nn.Module):
    """A positive factor, kept as its logarithm so that a step changes it by a ratio, and bounded by `ceiling`.

    Above the ceiling the value is the ceiling, and only gradients that would lower it pass: CLIP clips the parameter
    after each step, this does it without changing a parameter in forward. Raises ValueError for values that are not
    positive or lie above the ceiling. Source: Radford et al. 2021, section 2.5.

    With `ramp`, of temperatures, it is not learned: it is 1 over what that says at the step that is being taken.

    >>> Scale(10.0)()
    tensor(10., grad_fn=<_AtMostBackward>)
    """

    log_scale: Tensor

    def __init__(
        self, value: float, *, learnable: bool = True, ceiling: float = math.inf, ramp: Ramp | None = None
    ) -> None:
        super().__init__()
        self.ramp = ramp
        learnable = learnable and ramp is None
        if not 0 < value <= ceiling or math.isinf(value):
            raise ValueError(f"a scale of {value:g} must be positive and at most {ceiling:g}")
        self.ceiling = ceiling
        start = torch.tensor(math.log(value))
        if learnable:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    def forward(self) -> Tensor:
        """The factor, a scalar."""
        if self.ramp is not None:
            return torch.full_like(self.log_scale, 1 / self.ramp(moment.current().share))
        bounded: Tensor = _AtMost.apply(self.log_scale.exp(), self.ceiling)
        return bounded

    def hold(self) -> None:
        """Drop a gradient that would lead further above the ceiling, once it is added up over several processes."""
        if self.log_scale.grad is not None and self.log_scale.exp() > self.ceiling:
            self.log_scale.grad.clamp_(min=0)


class _AtMost(torch.autograd.Function):
    """A clamp from above that can be left again."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ceiling: float) -> Tensor:
        ctx.save_for_backward(value > ceiling)
        ctx.part = current().world > 1  # the sign of a part says nothing of the sum's: `hold` judges that
        return value.clamp(max=ceiling)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (over,) = ctx.saved_tensors
        (grad,) = grads
        if ctx.part:
            return grad, None
        return torch.where(over & (grad < 0), 0, grad), None  # descent with grad < 0 would raise the value further
