"""Optimizers, and their state as named tensors."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ganzoo.zoo.config import TrainConfig


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The configured optimizer, fused where torch has that."""
    beta1, beta2 = config.betas
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr, (beta1, beta2), config.eps, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=beta1, fused=True)
    return torch.optim.RMSprop(parameters, lr, eps=config.eps, foreach=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors, "parameter number.name"."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}.{key}": torch.as_tensor(value)
        for i, entries in state.items()
        for key, value in entries.items()
        if value is not None
    }


MOMENTS = frozenset({"exp_avg", "exp_avg_sq", "square_avg", "momentum_buffer"})
"""Entries of the state that have the shape of their parameter; `step` is a scalar."""


def check_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> str:
    """What is wrong with the state of an optimizer; empty if it fits. Fused kernels trust it, whatever it holds."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        i, _, key = name.partition(".")
        if not i.isdecimal() or len(i) > 6 or int(i) >= len(parameters) or key not in {*MOMENTS, "step"}:
            return f"has {name!r}, which is no state of this run's optimizer"
        p = parameters[int(i)]
        shape, dtype = ((), torch.float32) if key == "step" else (tuple(p.shape), p.dtype)
        if tuple(value.shape) != shape or value.dtype != dtype:
            return f"has {name} of {value.dtype} {tuple(value.shape)}, not of {dtype} {shape}"
    return ""


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        i, _, key = name.partition(".")
        p = parameters[int(i)]
        # Fused kernels walk memory in order: moments must lie as their parameter does (channels_last).
        same = value.dim() > 0 and value.shape == p.shape
        state.setdefault(int(i), {})[key] = torch.empty_like(p).copy_(value) if same else value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
