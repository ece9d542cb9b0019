"""Running statistics of an averaged generator."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from ganzoo.rng import Rng, seed_torch, stream_seed
from ganzoo.sampling.draw import BLOCK, class_count, draw_latent, generate, generating

BLOCKS = 16
"""Blocks of latents from which BatchNorm's statistics are estimated."""


def estimate_statistics(g: nn.Module) -> None:
    """Estimate BatchNorm's running statistics anew from 1,024 fixed latents, for the present weights of `g`.

    The averaged weights need this: statistics that lag behind them, or were averaged along with them, spoil the
    samples. Layers that latents do not reach, as in an encoder, keep theirs. A generator with statistics of its own
    estimates them in `estimate(z)`, which is called with all these latents, and with labels if it has classes.
    """
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
        for k in range(BLOCKS):
            z = draw_latent(g, BLOCK, Rng(0, k, "statistics", device))
            seed_torch(stream_seed(0, k, "statistics/torch"), device)
            labels = (k * BLOCK + torch.arange(BLOCK, device=device)) % (class_count(g) or 1)
            generate(g, z, labels)
    for norm, momentum, state in zip(norms, momenta, before, strict=True):
        norm.momentum = momentum
        if norm.num_batches_tracked is not None and not norm.num_batches_tracked:
            norm.load_state_dict(state)
