"""Adam, SGD and RMSprop, and their state as named tensors."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from ganzoo.zoo.config import TrainConfig

STATE = {"adam": ("exp_avg", "exp_avg_sq", "step"), "sgd": ("momentum_buffer",), "rmsprop": ("square_avg", "step")}
"""What each optimizer keeps for a parameter: moments of its shape, and the number of its steps, a scalar."""
ALPHA = 0.99
"""The decay of RMSprop's mean square."""


class Optimizer:
    """The configured optimizer, by torch's own functions, fused where torch has that.

    `torch.optim` does the same arithmetic (its RMSprop rounds in another order), but its hooks and checks take longer
    than the steps of a small network, and it imports torch's compiler at its first call, which takes a second.

    Args:
        config: names the optimizer, its betas and eps.
        parameters: what it trains.
        lr: the learning rate.

    Attributes:
        lr: of the next step.
        betas: of the next step, of which SGD's momentum is the first.
        state: moments and `step` of each parameter that has had a gradient, by its number.
    """

    def __init__(self, config: TrainConfig, parameters: Iterable[nn.Parameter], lr: float) -> None:
        self.kind, self.eps = config.optimizer, config.eps
        self.parameters = list(parameters)
        self.lr, self.betas = lr, (config.betas[0], config.betas[1])
        self.state: dict[int, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update each parameter that has a gradient."""
        params: list[Tensor] = []
        grads: list[Tensor] = []
        states: list[dict[str, Tensor]] = []
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                params.append(parameter)
                grads.append(parameter.grad)
                states.append(self.state.get(i) or self._begin(i))
        if not params:
            return
        kept = [[state[name] for state in states] for name in STATE[self.kind]]
        if self.kind == "adam":
            beta1, beta2 = self.betas
            adam(
                params, grads, kept[0], kept[1], [], kept[2], fused=True, amsgrad=False, beta1=beta1, beta2=beta2,
                lr=self.lr, weight_decay=0.0, eps=self.eps, maximize=False,
            )  # fmt: skip
        elif self.kind == "sgd":
            sgd(
                params, grads, list(kept[0]), fused=True, weight_decay=0.0, momentum=self.betas[0], lr=self.lr,
                dampening=0.0, nesterov=False, maximize=False,
            )  # fmt: skip
        else:
            # RMSprop is Adam with the gradient in place of the first moment and, as after so many steps, without the
            # corrections of the moments. torch's own RMSprop goes through the memory once for each operation.
            many = [torch.full((), 1e9, device=params[0].device)] * len(params)
            adam(
                params, grads, grads, kept[0], [], many, fused=True, amsgrad=False, beta1=0.0, beta2=ALPHA,
                lr=self.lr, weight_decay=0.0, eps=self.eps, maximize=False,
            )  # fmt: skip
            torch._foreach_add_(kept[1], 1)

    def _begin(self, i: int) -> dict[str, Tensor]:
        parameter = self.parameters[i]
        step = torch.zeros((), device=self._device_of_step(parameter))
        self.state[i] = {name: step if name == "step" else torch.zeros_like(parameter) for name in STATE[self.kind]}
        return self.state[i]

    def _device_of_step(self, parameter: Tensor) -> torch.device:
        """Fused kernels read the count where the parameter is; elsewhere a read would wait for the device."""
        return parameter.device if self.kind == "adam" else torch.device("cpu")

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors, "parameter number.name"."""
        return {f"{i}.{key}": value for i, entries in self.state.items() for key, value in entries.items()}

    def fault(self, tensors: Mapping[str, Tensor]) -> str:
        """What is wrong with such tensors; empty if they fit. Fused kernels trust the state, whatever it holds."""
        for name, value in tensors.items():
            i, _, key = name.partition(".")
            known = i.isdecimal() and len(i) <= 6 and int(i) < len(self.parameters)
            if not known or key not in STATE[self.kind]:
                return f"has {name!r}, which is no state of this run's optimizer"
            p = self.parameters[int(i)]
            shape, dtype = ((), torch.float32) if key == "step" else (tuple(p.shape), p.dtype)
            if tuple(value.shape) != shape or value.dtype != dtype:
                return f"has {name} of {value.dtype} {tuple(value.shape)}, not of {dtype} {shape}"
            if missing := [other for other in STATE[self.kind] if f"{i}.{other}" not in tensors]:
                return f"lacks {i}.{missing[0]}"
        return ""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that `tensors` returned."""
        self.state = {}
        for name, value in tensors.items():
            i, _, key = name.partition(".")
            p = self.parameters[int(i)]
            if key == "step":
                kept = value.to(self._device_of_step(p), copy=True)
            else:  # fused kernels walk memory in order: moments must lie as their parameter does (channels_last)
                kept = torch.empty_like(p, requires_grad=False).copy_(value)
            self.state.setdefault(int(i), {})[key] = kept
