"""Randomness as a function of (seed, step, purpose), never of history.

Any draw of step k can be made without running steps 0..k-1, which is what makes a resumed run equal an uninterrupted
one bit for bit. Everything is drawn on the CPU and then moved, so that a seed means the same on every device.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def stream_seed(seed: int, step: int, purpose: str) -> int:
    """The 32-bit seed of the stream for one purpose at one step."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}/{purpose}".encode()).digest()[:4], "big")


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and of `device`, for Dropout and a stranger's `torch.randn`.

    `torch.manual_seed` would do, but queues a call with a traceback for every absent backend: a millisecond each time.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextlib.contextmanager
def preserve_torch(device: torch.device) -> Iterator[None]:
    """Put torch's own generators of the CPU and of `device` back at the end, as the caller had them."""
    backend = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    here, there = torch.get_rng_state(), backend.get_rng_state() if backend else None
    try:
        yield
    finally:
        torch.set_rng_state(here)
        if backend and there is not None:
            backend.set_rng_state(there)


class Rng:
    """One stream of random numbers. Successive draws continue it.

    Args:
        seed, step, purpose: which stream.
        device: where the numbers are moved to after they are drawn on the CPU.
    """

    def __init__(self, seed: int, step: int, purpose: str, device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator().manual_seed(stream_seed(seed, step, purpose))
        self.device = torch.device(device)

    def randn(self, n: int, *shape: int) -> torch.Tensor:
        """(n, *shape) float32 from N(0, 1)."""
        return torch.randn(n, *shape, generator=self.generator).to(self.device, non_blocking=True)

    def rand(self, n: int, *shape: int) -> torch.Tensor:
        """(n, *shape) float32, uniform on [0, 1)."""
        return torch.rand(n, *shape, generator=self.generator).to(self.device, non_blocking=True)

    def randint(self, high: int, n: int, *shape: int) -> torch.Tensor:
        """(n, *shape) int64, uniform on 0..high-1."""
        return torch.randint(high, (n, *shape), generator=self.generator).to(self.device, non_blocking=True)
