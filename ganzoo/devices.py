"""Devices and their arithmetic: which one to use, how exactly it computes, and how tensors come from it."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ganzoo.errors import ConfigError

Arithmetic = Literal["ieee", "tf32"]
Key = TypeVar("Key")
PIECE = 1 << 26
"""The most bytes that `to_host` joins on a device, where larger networks may have left little memory."""


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: there is no such device on this machine.
    """
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in usable.items() if present))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device must be auto, cpu, cuda, cuda:N or mps, not {name!r}") from error
    if not usable.get(device.type, False):
        kinds = ", ".join(kind for kind, present in usable.items() if present)
        raise ConfigError(f"--device {name} is not usable on this machine, which has: {kinds}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def exact_arithmetic(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """On CUDA, float32 arithmetic without TF32: what sampling and evaluation need to agree with other machines."""
    return _backends(device, "ieee")


def fast_arithmetic(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """On CUDA, TF32 in convolutions and matrix products: what training can afford."""
    return _backends(device, "tf32")


@contextlib.contextmanager
def _backends(device: torch.device, arithmetic: Arithmetic) -> Iterator[None]:
    """On CUDA, that arithmetic and the same kernels each time, put back at the end; nothing elsewhere.

    torch's older switches (`allow_tf32`) are left alone: mixing them with these is an error in some versions of it.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    switches: list[tuple[Any, str, Any]] = [
        (matmul, "fp32_precision", arithmetic),
        (cudnn.conv, "fp32_precision", arithmetic),  # type: ignore[attr-defined]
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in switches]
    for module, name, value in switches:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def keep_freed_memory() -> None:
    """Let glibc keep up to 64 MB of freed memory for what comes next, instead of handing it back to the system and
    waiting for fresh pages in each step. It does so by itself once a block of 32 MB has been freed, which is all that
    this does. Other allocators just free the block."""
    torch.empty((1 << 25) - (1 << 16), dtype=torch.uint8)


def to_host(tensors: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    """The tensors on the CPU, without graphs. Those that lie on a device come in one copy of all their bytes, or a few
    if they are large: each copy waits for the device. They may share memory."""
    host = {name: tensor.detach() for name, tensor in tensors.items()}
    there = [name for name, tensor in host.items() if tensor.device.type != "cpu"]
    there.sort(key=lambda name: -host[name].element_size())  # so that each begins at a multiple of its size
    while there:
        device, size = host[there[0]].device, 0
        names: list[Key] = []
        for name in there:
            if host[name].device == device and (not names or size + host[name].nbytes <= PIECE):
                names.append(name)
                size += host[name].nbytes
        joined = torch.cat([host[name].reshape(-1).view(torch.uint8) for name in names]).cpu()
        for name, part in zip(names, torch.split(joined, [host[name].nbytes for name in names]), strict=True):
            host[name] = part.view(host[name].dtype).view(host[name].shape)
        there = [name for name in there if name not in set(names)]
    return host
