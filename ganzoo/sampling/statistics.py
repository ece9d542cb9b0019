"""Running statistics of an averaged generator."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ganzoo.rng import Rng, seed_torch, stream_seed
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
    norms = [module for module in g.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    before = [copy.deepcopy(norm.state_dict()) for norm in norms]
    with generating(g) as device:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the blocks
            norm.training = True
        size = BLOCK if inputs is None else piece(inputs)
        for k in range(BLOCKS):
            z = draw_latent(g, BLOCK, Rng(0, k, "statistics", device))[:size]
            seed_torch(stream_seed(0, k, "statistics/torch"), device)
            numbers = k * size + torch.arange(size)
            labels = numbers.to(device) % (class_count(g) or 1)
            if inputs is None:
                generate(g, z, labels)
                continue
            given = inputs[numbers % len(inputs)].to(device)
            generate(g, z, labels, from_uint8(given) if given.dtype == torch.uint8 else given)
    for norm, momentum, state in zip(norms, momenta, before, strict=True):
        norm.momentum = momentum
        if norm.num_batches_tracked is not None and not norm.num_batches_tracked:
            norm.load_state_dict(state)
