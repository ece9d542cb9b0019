"""Randomness as a function of (seed, step, purpose), never of history.

Any draw of step k can be made without running steps 0..k-1, which is what makes a resumed run equal an uninterrupted
one bit for bit. Everything is drawn on the CPU and then moved, so that a seed means the same on every device.
"""

import contextlib
import copy
import hashlib
from collections.abc import Iterator

import torch


def stream_seed(seed: int, step: int, purpose: str) -> int:
    """The 32-bit seed of the stream for one purpose at one step."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}/{purpose}".encode()).digest()[:4], "big")


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and of `device`, for Dropout and for a plugin's `torch.randn`.

    `torch.manual_seed` would do, but queues a call with a traceback for every absent backend: a millisecond each time.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.init()  # type: ignore[no-untyped-call]  # the generators exist from then on
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextlib.contextmanager
def preserve_torch(device: torch.device) -> Iterator[None]:
    """Restore torch's own generators of the CPU and of `device` at the end, as the caller had them."""
    cpu_state = torch.get_rng_state()
    device_state = None
    if device.type == "cuda":
        device_state = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        device_state = torch.mps.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(cpu_state)
        if device_state is not None and device.type == "cuda":
            torch.cuda.set_rng_state(device_state, device)
        elif device_state is not None:
            torch.mps.set_rng_state(device_state)


class Rng:
    """One stream of random numbers. Successive draws continue it.

    If a batch is split, over processes or to save memory, the stream of each part draws the numbers of the whole batch
    and returns the rows of its own part. So draw one row per item, with `n` the number of items at hand: a number
    shared by all items would differ between the parts.

    Args:
        seed: the seed of the run, or of the samples.
        step: the step, from 0; each step has a stream of its own.
        purpose: the name of the stream, such as "z0"; different purposes have independent streams.
        device: the device of the returned tensors. Numbers are drawn on the CPU, so that every device gets the same.
        part: the index of this part of the batch, from 0 to parts - 1.
        parts: the number of equal parts that the batch is split into.
    """

    def __init__(
        self, seed: int, step: int, purpose: str, device: torch.device | str = "cpu", part: int = 0, parts: int = 1
    ) -> None:
        self.seed, self.step, self.purpose = seed, step, purpose
        self.generator = torch.Generator().manual_seed(stream_seed(seed, step, purpose))
        self.device = torch.device(device)
        self.part, self.parts = part, parts

    def child(self, purpose: str) -> "Rng":
        """A new stream for part of this one's purpose. It does not depend on what this one has drawn."""
        return Rng(self.seed, self.step, f"{self.purpose}/{purpose}", self.device, self.part, self.parts)

    def on(self, device: torch.device | str) -> "Rng":
        """This stream, with tensors on another device. What one draws, the other does not draw again."""
        twin = copy.copy(self)
        twin.device = torch.device(device)
        return twin

    def randn(self, n: int, *shape: int) -> torch.Tensor:
        """A tensor (n, *shape) of numbers from N(0, 1)."""
        return self._own(torch.randn(n * self.parts, *shape, generator=self.generator), n)

    def rand(self, n: int, *shape: int) -> torch.Tensor:
        """A tensor (n, *shape) of numbers uniform on [0, 1)."""
        return self._own(torch.rand(n * self.parts, *shape, generator=self.generator), n)

    def randint(self, high: int, n: int, *shape: int) -> torch.Tensor:
        """An int64 tensor (n, *shape) of integers uniform on 0 to high - 1."""
        return self._own(torch.randint(high, (n * self.parts, *shape), generator=self.generator), n)

    def _own(self, whole: torch.Tensor, n: int) -> torch.Tensor:
        return to_device(whole[self.part * n : (self.part + 1) * n], self.device)


MASK = 0xFFFFFFFF
"""Keeps 32 bits of a whole number."""


def seeds_of(latents: torch.Tensor) -> torch.Tensor:
    """A seed for each row of latents (N, ...), from their bits: (N,) int64, from 0 to 2^32 - 1."""
    bits = latents.detach().float().flatten(1).contiguous().view(torch.int32).long() & MASK
    odd = torch.arange(bits.shape[1], device=bits.device) * 0x9E3779B1 + 0x85EBCA6B & MASK | 1
    mixed = (bits ^ bits >> 15) * odd & MASK
    return (mixed ^ mixed >> 16).sum(1) & MASK


def uniform_of(seeds: torch.Tensor, layer: int, count: int) -> torch.Tensor:
    """Numbers between 0 and 1 that depend on the seed of their item and on the layer alone: (N, count).

    They are computed on the device of the seeds, and are the same on every device and however a batch is split. For the
    noise and the dropout of a generator, take the seeds of its latents, `seeds_of`: then a latent always has the same
    image. Each position is hashed with its seed, by multiplications and shifts of 32 bits (the finaliser of
    MurmurHash3).

    Args:
        seeds: (N,) int64, from 0 to 2^32 - 1.
        layer: the number of the layer, from 0, so that layers have different numbers.
        count: of numbers for an item, at most 2^22.
    """
    position = torch.arange(count, device=seeds.device) + (layer << 22)
    x = seeds[:, None] ^ (position * 0x9E3779B1 & MASK)
    x = (x ^ x >> 16) * 0x85EBCA6B & MASK
    x = (x ^ x >> 13) * 0xC2B2AE35 & MASK
    return ((x ^ x >> 16) >> 8).float().add_(0.5).mul_(2.0**-24)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`. To CUDA it goes through pinned memory, so that nothing waits for the copy.

    Elsewhere the copy is finished on return: an asynchronous one from ordinary memory may read it after it was freed.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
