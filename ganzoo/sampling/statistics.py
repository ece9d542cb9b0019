"""Running statistics of an averaged generator."""

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganzoo.rng import Rng, seed_torch, stream_seed, to_device
from ganzoo.sampling.draw import BLOCK, class_count, draw_latent, generate, generating, piece
from ganzoo.sampling.options import takes_inputs
from ganzoo.sampling.values import from_uint8

BLOCKS = 16
"""Blocks of latents from which BatchNorm's statistics are estimated."""


def estimate_statistics(g: nn.Module, inputs: Tensor | None = None) -> None:
    """Estimate BatchNorm's running statistics anew from 1,024 fixed latents, for the present weights of `g`.

    A generator that translates gets `inputs` (N, ...), uint8 images or floats, in turn, and fewer than 1,024 in all if
    they are large; without inputs it keeps its statistics.

    The averaged weights need this: statistics that lag behind them, or were averaged along with them, spoil the
    samples. Layers that latents do not reach, as in an encoder, keep theirs. A generator with statistics of its own
    estimates them in `estimate(z)`, which is called with all these latents, and with labels if it has classes.
    """
    if takes_inputs(g) and inputs is None:
        return
    own: Callable[..., None] | None = getattr(g, "estimate", None)
    if own is not None:
        with generating(g) as device:
            z = torch.cat([draw_latent(g, BLOCK, Rng(0, k, "statistics", device)) for k in range(BLOCKS)])
            count = class_count(g)
            own(z) if count is None else own(z, torch.arange(len(z), device=device) % count)
    norms = [module for module in g.modules() if isinstance(module, _BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    before = [copy.deepcopy(norm.state_dict()) for norm in norms]
    with generating(g) as device, _plain_means(norms) as passes:
        for norm in norms:
            norm.reset_running_stats()
            norm.training = True
        size = BLOCK if inputs is None else piece(inputs)
        for k in range(BLOCKS):
            z = draw_latent(g, BLOCK, Rng(0, k, "statistics", device))[:size]
            seed_torch(stream_seed(0, k, "statistics/torch"), device)
            numbers = k * size + torch.arange(size)
            labels = to_device(numbers % (class_count(g) or 1), device)
            if inputs is None:
                generate(g, z, labels)
                continue
            given = to_device(inputs[numbers % len(inputs)], device)
            generate(g, z, labels, from_uint8(given) if given.dtype == torch.uint8 else given)
    for norm, state in zip(norms, before, strict=True):
        if not passes[norm]:
            norm.load_state_dict(state)


@contextlib.contextmanager
def _plain_means(norms: Sequence[_BatchNorm]) -> Iterator[Counter[nn.Module]]:
    """In the block, the running statistics of these layers are plain means over their passes, which it counts.

    It is torch's own count on the device that a momentum of None takes: the host would wait for it in every pass.
    """
    passes: Counter[nn.Module] = Counter()

    def count(norm: nn.Module, inputs: object) -> None:
        passes[norm] += 1
        norm.momentum = 1 / passes[norm]  # type: ignore[assignment]  # a number, as BatchNorm has it

    momenta = [norm.momentum for norm in norms]
    hooks = [norm.register_forward_pre_hook(count) for norm in norms]
    try:
        yield passes
    finally:
        for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
            hook.remove()
            norm.momentum = momentum
