"""Projected GAN (Sauer et al. 2021, https://arxiv.org/abs/2111.01007): discriminators on random projections of a frozen
network's features, and the light generator of Liu et al. 2021 (Towards Faster and Stabilized GAN Training for
High-fidelity Few-shot Image Synthesis, https://arxiv.org/abs/2101.04775)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganzoo import ConfigError, WeightsError
from ganzoo_dcgan.model import ClassEmbedding, Palette, stages
from ganzoo_dcgan.spectral import SpectralNorms
from ganzoo_projected.backbone import SCALES, digest, folded, load, outline
from ganzoo_projected.resize import Resize, average, bilinear

WIDEST = 8
"""The channel count doubles at each halving of the resolution, up to this many times `width`."""
SIDE = 4
"""The smallest side of a head's map of logits, unless its features are smaller already."""


def _convolution(before: int, after: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, padding=size // 2, bias=False)


class _Excitation(nn.Module):
    """Skip-layer excitation (Liu et al., equation 1): a small feature map (N, small, side, side) scales the channels of
    a larger one (N, large, H, W)."""

    def __init__(self, small: int, large: int, side: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Resize(average(side, 4)),
            nn.Conv2d(small, large, 4, bias=False),
            nn.LeakyReLU(0.1),
            nn.Conv2d(large, large, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        scale: Tensor = self.layers(small)
        return large * scale


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the last feature map; each one before it has twice as many, up to 8 * width.
        palette: number of colours, linear in the latent, of which each pixel is a mixture
            (`ganzoo_dcgan.model.Palette`); 0: the last convolution gives the colours themselves, as published.
        num_classes: number of classes of a class-conditional generator, which is also called with labels (N,): an
            embedding of the class is appended to the latent.

    Raises:
        ConfigError: a size that is not of that form.
    """

    def __init__(
        self,
        z_dim: int = 256,
        image_size: int = 64,
        channels: int = 3,
        width: int = 64,
        palette: int = 0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        base, k = stages(image_size)
        widths = [width * min(2**i, WIDEST) for i in reversed(range(k + 1))]
        self.embed = None if num_classes is None else ClassEmbedding(num_classes, z_dim)
        units = z_dim if num_classes is None else 2 * z_dim
        self.start = nn.Sequential(
            nn.ConvTranspose2d(units, 2 * widths[0], base, bias=False),
            nn.BatchNorm2d(2 * widths[0]),
            nn.GLU(1),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2), _convolution(before, 2 * after), nn.BatchNorm2d(2 * after), nn.GLU(1)
            )
            for before, after in pairwise(widths)
        )
        # As published, the excitation of a map comes from one 16 times smaller (a gap of 4 doublings); where there are
        # few scales the gap is shorter.
        self.gap = min(4, 1 + k // 2)
        self.excitations = nn.ModuleList(
            _Excitation(widths[i], widths[i + self.gap], base << i) for i in range(k + 1 - self.gap) if self.gap > 1
        )
        end = _convolution(widths[-1], palette or channels)
        self.end = nn.Sequential(end, *([] if palette else [nn.Tanh()]))
        self.palette = Palette(units, palette, channels) if palette else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(labels)], 1)
        maps = [self.start(z[:, :, None, None])]
        for i, block in enumerate(self.blocks, 1):
            x = block(maps[-1])
            if len(self.excitations) and i >= self.gap:
                x = self.excitations[i - self.gap](maps[i - self.gap], x)
            maps.append(x)
        images: Tensor = self.end(maps[-1])
        return images if self.palette is None else self.palette(images, z)


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N, 4 * cells): a head for each of four scales of a frozen
    network's features. All heads have the same number of cells, so that they have the same weight in a mean.

    The features of each scale are mixed across channels by a random 1x1 convolution and then across scales, from the
    smallest map to the largest, by random 3x3 convolutions and bilinear upsampling (section 3.2). These projections
    are frozen and saved. The network is frozen too, stays in evaluation mode, and is not saved; a digest of its weights
    is, and other weights are refused. The heads halve their maps to a side of 4 to 7 by convolutions of stride 2 with
    spectral norm. A map that is smaller already keeps its size, and its logits are repeated.

    Args:
        image_size: any; images are resized to `resolution` by bilinear interpolation.
        channels: 1 or 3; grey images are repeated.
        backbone: timm's name of a model whose features have four scales.
        weights: a safetensors file of that model; None: the published weights, from the Hub or its cache; "random":
            untrained ones. The path of a file is not stored: a person who loads this discriminator names their own copy
            of the same weights.
        resolution: height and width in pixels of the images that the backbone is given.
        width: channels of the largest scale's projection; each smaller one has twice as many, up to 8 * width.
        num_classes: number of classes of a class-conditional discriminator, which is also called with labels (N,): the
            inner product of each cell's features with an embedding of the class is added to the cell's logit (Miyato &
            Koyama 2018, https://arxiv.org/abs/1802.05637).

    Raises:
        ConfigError: an unknown backbone, one without such features, or a setting out of range.
    """

    independent = True  # but for BatchNorm in the heads
    mean: Tensor
    std: Tensor
    weights_digest: Tensor

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        backbone: str = "tf_efficientnet_lite0",
        weights: str | None = None,
        resolution: int = 128,
        width: int = 64,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ConfigError(f"{backbone} takes images of 1 or 3 channels, not {channels}: leave --pack out")
        self.stored = {"weights": weights if weights == "random" else None}
        self.backbone, self.weights, self.resolution = backbone, weights, resolution
        shapes, self.scales, mean, std = outline(backbone, resolution)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("weights_digest", torch.zeros(32, dtype=torch.uint8))
        self.frozen: list[nn.Module] = []  # the backbone: in a list, so parameters(), state_dict() and train() skip it
        self.resize = nn.Identity() if image_size == resolution else Resize(bilinear(image_size, resolution))
        widths = [width * min(2**i, WIDEST) for i in range(SCALES)]
        self.across_channels = nn.ModuleList(
            _convolution(inputs, wide, 1) for (inputs, _), wide in zip(shapes, widths, strict=True)
        )
        self.across_scales = nn.ModuleList(_convolution(small, large) for large, small in pairwise(widths))
        self.enlarge = nn.ModuleList(Resize(bilinear(small, large)) for (_, large), (_, small) in pairwise(shapes))
        for projection in (*self.across_channels, *self.across_scales):
            nn.init.kaiming_normal_(projection.weight)
            projection.requires_grad_(False)
        self.heads, self.scores, self.embeds = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for (_, side), wide in zip(shapes, widths, strict=True):
            layers: list[nn.Module] = []
            while side >= 2 * SIDE or not layers:
                halve = side >= 2 * SIDE
                after = min(2 * wide, WIDEST * width) if halve else wide
                down = nn.Conv2d(wide, after, 4, stride=2, padding=1, bias=False) if halve else _convolution(wide, wide)
                layers += [down, nn.BatchNorm2d(after), nn.LeakyReLU(0.2, inplace=True)]
                wide, side = after, (side // 2 if halve else side)
            self.heads.append(nn.Sequential(*layers))
            self.scores.append(_convolution(wide, 1))
            if num_classes is not None:
                self.embeds.append(ClassEmbedding(num_classes, wide))
        trained = (module for part in (self.heads, self.scores, self.embeds) for module in part.modules())
        self.spectral = SpectralNorms(m for m in trained if isinstance(m, nn.Conv2d | nn.Embedding))

    def prepare(self) -> None:
        """Load the backbone, unless that has been done. The first call of this network does so too.

        Raises:
            HubError: its weights cannot be fetched.
            WeightsError: a file that is missing, damaged or of another model, or other weights than those that this
                discriminator was trained on.
        """
        if not self.frozen:
            net = load(self.backbone, self.weights)
            self.digest = digest(net)
            self._compare()
            self.weights_digest.copy_(self.digest)
            images = torch.randn(2, 3, self.resolution, self.resolution, generator=torch.Generator().manual_seed(0))
            self.frozen.append(folded(net, images).to(self.mean.device))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        self.prepare()
        self.spectral.update()
        with torch.autocast(images.device.type, enabled=False):  # pixels keep their precision
            images = self.resize(images)
        # [-1, 1] to the backbone's own scale
        normalised = ((images.expand(-1, 3, -1, -1) + 1) / 2 - self.mean) / self.std
        features = self.frozen[0](normalised)
        mixed = [mix(features[i]) for mix, i in zip(self.across_channels, self.scales, strict=True)]
        for i in reversed(range(SCALES - 1)):
            mixed[i] = mixed[i] + self.enlarge[i](self.across_scales[i](mixed[i + 1]))
        maps = []
        for i, (head, score) in enumerate(zip(self.heads, self.scores, strict=True)):
            x = head(mixed[i])
            logits = score(x)
            if self.embeds:
                logits = logits + (x * self.embeds[i](labels)[:, :, None, None]).sum(1, keepdim=True)
            maps.append(logits)
        side = max(logits.shape[-1] for logits in maps)
        maps = [logits if logits.shape[-1] == side else interpolate(logits, (side, side)) for logits in maps]
        return torch.cat([logits.flatten(1) for logits in maps], 1)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Discriminator":
        for net in self.frozen:
            net._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        if self.frozen:
            self._compare()

    def _compare(self) -> None:
        if self.weights_digest.any() and not torch.equal(self.weights_digest.cpu(), self.digest):
            where = {None: "its published weights", "random": "random weights"}.get(self.weights, self.weights)
            raise WeightsError(
                f"this discriminator was trained on other weights of {self.backbone} than {where}: name the file of "
                "the right ones by --set discriminator.weights=FILE"
            )
