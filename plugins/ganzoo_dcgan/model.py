"""The networks of Radford et al. 2015, https://arxiv.org/abs/1511.06434. With the defaults, at 64x64 pixels, they are
the published ones layer for layer, at half the published width."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot

from ganzoo import ConfigError
from ganzoo_dcgan.foreign import BASES, generator_from_foreign
from ganzoo_dcgan.foreign import WIDEST as WIDEST  # other plugins import it from here
from ganzoo_dcgan.spectral import SpectralNorms

NORMS = ("batch", "spectral")


def stages(image_size: int, least: int = 1) -> tuple[int, int]:
    """Base resolution, from 4 to 7, and number of doublings k such that image_size = base * 2^k, for k >= least.

    Raises:
        ConfigError: a size that is not of that form.
    """
    for base in BASES:
        k = (image_size // base).bit_length() - 1
        if k >= least and base << k == image_size:
            return base, k
    sizes = sorted(base << k for base in BASES for k in range(least, 10))
    near = min(sizes, key=lambda size: abs(size - image_size))
    raise ConfigError(
        f"images must have {', '.join(map(str, sizes[:9]))}, ... pixels a side (4, 5, 6 or 7 times 2^k), "
        f"not {image_size}: the nearest is --image-size {near}"
    )


def _initialise(module: nn.Module) -> None:
    """Section 4: weights are drawn from a normal distribution of standard deviation 0.02, whose mean is 1 for the scale
    of BatchNorm and 0 elsewhere."""
    if isinstance(module, Palette):
        module.reset_parameters()
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class ClassEmbedding(nn.Embedding):
    """Labels (N,) to vectors (N, embedding_dim), looked up by a product with the one-hot labels: nn.Embedding has no
    deterministic backward on CUDA."""

    def forward(self, labels: Tensor) -> Tensor:
        return one_hot(labels, self.num_embeddings).to(self.weight.dtype) @ self.weight


class _Project(nn.ConvTranspose2d):
    """A transposed convolution of 1x1 inputs, computed as a matrix product: several times faster on a CPU.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        size: height and width of the output.
        offset: whether each number of the output has a bias of its own.
    """

    def __init__(self, inputs: int, outputs: int, size: int, offset: bool = False) -> None:
        super().__init__(inputs, outputs, size, bias=False)
        self.offset = nn.Parameter(torch.zeros(outputs, size, size)) if offset else None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        k = self.kernel_size[0]
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.in_channels, -1)  # no copy in channels_last
        x = (x.flatten(1) @ weight).view(-1, k, k, self.out_channels).permute(0, 3, 1, 2)
        return x if self.offset is None else x + self.offset


class Gather(nn.Conv2d):
    """A convolution to 1x1 outputs, computed as the matrix product that it is."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return (x.permute(0, 2, 3, 1).flatten(1) @ weight.t())[:, :, None, None]


class _Score(Gather):
    """`Gather` with one output channel: (N, C, H, W) to (N,)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flatten()


class Palette(nn.Linear):
    """Images whose pixels are mixtures of a few colours, which each image has of its own. A pixel that takes one colour
    alone needs no more than a weight near 1, so that areas of any one colour are as easy to draw as black and white
    ones are for a tanh. Mixtures reach all colours between those of the palette.

    Args:
        units: numbers in which the colours are linear, before a tanh.
        colours: of the palette.
        channels: of the images.
    """

    sharpness = 24.0
    """What the scores are multiplied by: docs/recipes.md compares others. ONNX files may differ in proportion."""

    def __init__(self, units: int, colours: int, channels: int) -> None:
        super().__init__(units, colours * channels)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, 0.0, 0.02)
        nn.init.uniform_(self.bias, -1.5, 1.5)  # colours that are alike would leave the weights without a gradient

    def forward(self, scores: Tensor, units: Tensor) -> Tensor:  # type: ignore[override]
        """Images (N, channels, H, W) in [-1, 1] from the scores (N, colours, H, W) of the colours at each pixel, whose
        softmax are the weights, and units (N, units). Scores that start with a standard deviation below 1 and learn at
        the rate of a convolution's weights suit the factor of this softmax."""
        with torch.autocast(scores.device.type, enabled=False):  # flat areas stay flat
            scores, units = scores.to(self.weight.dtype), units.to(self.weight.dtype)
            weights = (self.sharpness * scores).permute(0, 2, 3, 1).softmax(3)  # in order of memory in channels_last
            colours = super().forward(units).tanh().view(len(units), scores.shape[1], -1)
            return torch.einsum("nhwk,nkc->nchw", weights, colours).clamp(-1, 1)  # the sum of weights is rounded


class Generator(nn.Module):
    """Latents (N, z_dim) to images (N, channels, image_size, image_size) in [-1, 1].

    Args:
        z_dim: size of the latent.
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the last hidden layer; each layer before it has twice as many, up to 16 * width.
        hidden: units of a fully connected layer between the latent and the first feature map, as in the authors'
            network for MNIST; 0: none.
        skip: whether an image is drawn at each resolution, by a convolution of one pixel, and enlarged and added to the
            next one, as in Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 4.1.
        modulated: whether the latent scales and shifts what each BatchNorm of a feature map gives, as in Chen et al.
            2018, On Self Modulation for Generative Adversarial Networks, https://arxiv.org/abs/1810.01365, section 2.
            The scales and shifts are linear in the last fully connected layer's units, or in the latent if there is
            none.
        fine: channels of a feature map of the full size, from which a convolution of 3x3 draws the image; 0: the last
            transposed convolution draws it, as in the paper.
        palette: number of colours, linear in the same units as the scales and shifts, of which each pixel is a mixture
            (`Palette`); 0: the last layer gives the colours themselves, as in the paper.
        affine: whether the first feature map is affine in the latent, without BatchNorm and ReLU, and the last layer
            has a bias, as in StudioGAN's `deep_conv`.
        num_classes: number of classes of a class-conditional generator, which is also called with labels (N,): an
            embedding of the class is appended to the latent.

    Raises:
        ConfigError: a size that is not of that form.
    """

    def __init__(
        self,
        z_dim: int = 100,
        image_size: int = 64,
        channels: int = 3,
        width: int = 64,
        hidden: int = 0,
        skip: bool = False,
        modulated: bool = False,
        fine: int = 0,
        palette: int = 0,
        affine: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        base, k = stages(image_size)
        widths = [width * min(2**i, WIDEST) for i in reversed(range(k))]
        layers: list[nn.Module] = []
        self.embed = None if num_classes is None else ClassEmbedding(num_classes, z_dim)
        if self.embed is not None:
            z_dim *= 2
        if hidden:
            layers += [_Project(z_dim, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True)]
        units = hidden or z_dim
        end = Palette(units, palette, channels) if palette else nn.Tanh()
        channels = palette or channels
        layers += [_Project(units, widths[0], base, offset=affine)]
        for i, (before, after) in enumerate(zip(widths, [*widths[1:], fine or channels], strict=True)):
            layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True)] if i or not affine else []
            bias = affine and not fine and i == k - 1
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=bias)]
        if fine:
            layers += [nn.BatchNorm2d(fine), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(fine, channels, 3, padding=1, bias=affine)]
        self.layers = nn.Sequential(*layers, end)
        maps = [*widths[affine:], *([fine] if fine else [])]
        self.pictures = nn.ModuleList(nn.Conv2d(w, channels, 1) for w in widths) if skip else None
        self.styles = nn.ModuleList(nn.Linear(units, 2 * w) for w in maps) if modulated else None
        self.apply(_initialise)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(labels)], 1)
        x: Tensor = z[:, :, None, None]
        *body, end = self.layers
        picture: Tensor | float = 0.0
        pictures, styles = iter(self.pictures or ()), iter(self.styles or ())
        for layer in body:
            if isinstance(layer, _Project):
                w = x.flatten(1)  # after the last of them: the units that the first feature map is made of
            elif self.styles is not None and isinstance(layer, nn.ReLU) and x.shape[2] > 1:
                scale, shift = next(styles)(w)[:, :, None, None].chunk(2, 1)
                x = torch.addcmul(x + shift, x, scale)
            elif self.pictures is not None and isinstance(layer, nn.ConvTranspose2d):
                picture = interpolate(next(pictures)(x) + picture, scale_factor=2.0)
            x = layer(x)
        x = x if self.pictures is None else x + picture
        images: Tensor = end(x, w) if isinstance(end, Palette) else end(x)
        return images

    from_foreign = staticmethod(generator_from_foreign)


class Discriminator(nn.Module):
    """Images (N, channels, image_size, image_size) to logits (N,).

    Args:
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the first layer; each later one has twice as many, up to 16 * width.
        norm: "batch"; "spectral" (Miyato et al. 2018), spectral normalisation of every layer instead of BatchNorm; or
            None.
        hidden: units of a fully connected layer before the logit; 0: none.
        num_classes: number of classes of a class-conditional discriminator, which is also called with labels (N,): the
            inner product of the features with an embedding of the class is added to the logit (Miyato & Koyama 2018,
            cGANs with Projection Discriminator, https://arxiv.org/abs/1802.05637).

    Raises:
        ConfigError: a size that is not of that form, or an unknown norm.
    """

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        width: int = 64,
        norm: str | None = "batch",
        hidden: int = 0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        if norm not in (*NORMS, None):
            raise ConfigError(f"norm must be one of {', '.join(NORMS)} or none, not {norm!r}")
        self.independent = norm != "batch"
        base, k = stages(image_size)
        widths = [width * min(2**i, WIDEST) for i in range(k)]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False)]
        for before, after in pairwise(widths):
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(after)] if norm == "batch" else []
        before = widths[-1]
        if hidden:
            layers += [nn.LeakyReLU(0.2, inplace=True), Gather(before, hidden, base, bias=False)]
            layers += [nn.BatchNorm2d(hidden)] if norm == "batch" else []
            before, base = hidden, 1
        layers += [nn.LeakyReLU(0.2, inplace=True), _Score(before, 1, base, bias=False)]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)
        self.num_features = before * base**2
        self.embed = None
        if num_classes is not None:
            self.embed = ClassEmbedding(num_classes, self.num_features)
            nn.init.normal_(self.embed.weight, 0.0, 0.02)
        self.spectral = None
        if norm == "spectral":
            self.spectral = SpectralNorms(m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Embedding))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.spectral is not None:
            self.spectral.update()
        *body, score = self.layers
        for layer in body:
            images = layer(images)
        logits: Tensor = score(images)
        if self.embed is not None:
            logits = logits + (images.flatten(1) * self.embed(labels)).sum(1)
        return logits
