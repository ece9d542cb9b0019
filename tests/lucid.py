"""The networks of lucidrains' stylegan2-pytorch as its program computes them, and its checkpoints. Kernels are scaled
for each image, noise is one picture, and images lie in [0, 1]."""

import torch
from torch import nn
from torch.nn.functional import conv2d, gelu, interpolate, leaky_relu, normalize, pad


class Blur(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("f", torch.tensor([1.0, 2.0, 1.0]))

    def forward(self, x):
        kernel = (self.f[:, None] * self.f / 16).to(x.dtype)[None, None]
        n, c, h, w = x.shape
        return conv2d(pad(x.reshape(n * c, 1, h, w), (1, 1, 1, 1), mode="reflect"), kernel).reshape(n, c, h, w)


class Dense(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size))
        self.bias = nn.Parameter(torch.randn(size))


class Vectorizer(nn.Module):
    def __init__(self, size, depth, rate):
        super().__init__()
        self.net = nn.Sequential(*(layer for _ in range(depth) for layer in (Dense(size), nn.LeakyReLU(0.2))))
        self.rate = rate

    def forward(self, z):
        w = normalize(z, dim=1)
        for layer in self.net[::2]:
            w = leaky_relu(w @ (self.rate * layer.weight).T + self.rate * layer.bias, 0.2)
        return w


class ModulatedConv(nn.Module):
    def __init__(self, inputs, outputs, size, demodulated=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size) / (inputs * size**2) ** 0.5)
        self.demodulated = demodulated

    def forward(self, x, style):
        images = []
        for image, row in zip(x, style, strict=True):
            kernel = self.weight * (1 + row)[None, :, None, None]
            if self.demodulated:
                kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            images.append(conv2d(image[None], kernel, padding=self.weight.shape[-1] // 2))
        return torch.cat(images)


class Wrapped(nn.Module):
    """A module under the name `fn`."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn


class ChannelNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.g, self.b = (nn.Parameter(torch.randn(1, channels, 1, 1)) for _ in range(2))

    def forward(self, x):
        centred = x - x.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * self.g + self.b


class LinearAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.to_q = nn.Conv2d(channels, 512, 1, bias=False)
        self.to_kv = nn.Module()
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.to_kv.net = nn.Sequential(depthwise, nn.Conv2d(channels, 1024, 1, bias=False))
        self.to_out = nn.Conv2d(512, channels, 1)

    def forward(self, x):
        n, _, h, w = x.shape
        query, (key, value) = self.to_q(x), self.to_kv.net(x).split(512, 1)
        heads = []
        for head in range(8):
            q, k, v = (part[:, 64 * head : 64 * head + 64].flatten(2) for part in (query, key, value))
            context = torch.einsum("ndp,nep->nde", k.softmax(2), v)
            heads.append(torch.einsum("ndp,nde->nep", q.softmax(1) / 8, context))
        return self.to_out(gelu(torch.cat(heads, 1).reshape(n, 512, h, w)))


def attention(channels):
    """Two residual parts, each of a norm and what follows it."""
    dense = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), nn.LeakyReLU(0.2), nn.Conv2d(2 * channels, channels, 1))
    parts = []
    for inner in (LinearAttention(channels), dense):
        parts.append(Wrapped(Wrapped(inner)))
        parts[-1].fn.norm = ChannelNorm(channels)
    return nn.Sequential(*parts)


def attended(parts, x):
    for part in parts or ():
        x = x + part.fn.fn(part.fn.norm(x))
    return x


class Drawing(nn.Module):
    def __init__(self, size, channels, colours, last):
        super().__init__()
        self.to_style, self.conv = nn.Linear(size, channels), ModulatedConv(channels, colours, 1, demodulated=False)
        self.upsample = None if last else nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), Blur())


class GeneratorBlock(nn.Module):
    def __init__(self, size, inputs, outputs, colours, last):
        super().__init__()
        for i, before in enumerate((inputs, outputs), 1):
            self.add_module(f"to_style{i}", nn.Linear(size, before))
            self.add_module(f"to_noise{i}", nn.Linear(1, outputs))
            self.add_module(f"conv{i}", ModulatedConv(before, outputs, 3))
        self.to_rgb = Drawing(size, outputs, colours, last)

    def forward(self, x, image, w, noise):
        for i in (1, 2):
            added = getattr(self, f"to_noise{i}")(noise[:, : x.shape[2], : x.shape[3]]).permute(0, 3, 2, 1)
            x = leaky_relu(getattr(self, f"conv{i}")(x, getattr(self, f"to_style{i}")(w)) + added, 0.2)
        drawn = self.to_rgb.conv(x, self.to_rgb.to_style(w))
        image = drawn if image is None else image + drawn
        return x, image if self.to_rgb.upsample is None else self.to_rgb.upsample(image)


class Generator(nn.Module):
    def __init__(self, size, widths, attns, constant, colours=3):
        super().__init__()
        if constant:
            self.initial_block = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        else:
            self.to_initial_block = nn.ConvTranspose2d(size, widths[0], 4, bias=False)
        self.initial_conv = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        befores = [widths[0], *widths[:-1]]
        self.attns = nn.ModuleList(attention(c) if i in attns else None for i, c in enumerate(befores))
        self.blocks = nn.ModuleList(
            GeneratorBlock(size, before, after, colours, i == len(widths) - 1)
            for i, (before, after) in enumerate(zip(befores, widths, strict=True))
        )

    def forward(self, styles, noise):
        if hasattr(self, "initial_block"):
            x = self.initial_block.expand(len(styles), -1, -1, -1)
        else:
            x = self.to_initial_block(styles.mean(1)[:, :, None, None])
        x, image = self.initial_conv(x), None
        for i, (block, attn) in enumerate(zip(self.blocks, self.attns, strict=True)):
            x = attended(attn, x)
            x = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False) if i else x
            x, image = block(x, image, styles[:, i], noise)
        return image


class DiscriminatorBlock(nn.Module):
    def __init__(self, inputs, outputs, half):
        super().__init__()
        self.conv_res = nn.Conv2d(inputs, outputs, 1, stride=2 if half else 1)
        first, second = (nn.Conv2d(channels, outputs, 3, padding=1) for channels in (inputs, outputs))
        self.net = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2))
        last = nn.Conv2d(outputs, outputs, 3, padding=1, stride=2)
        self.downsample = nn.Sequential(Blur(), last) if half else None

    def forward(self, x):
        y = self.net(x)
        return ((y if self.downsample is None else self.downsample(y)) + self.conv_res(x)) / 2**0.5


class Discriminator(nn.Module):
    def __init__(self, widths, attns):
        super().__init__()
        count = len(widths)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(a, b, i < count - 1) for i, (a, b) in enumerate(zip([3, *widths], widths, strict=False))
        )
        self.attn_blocks = nn.ModuleList(attention(c) if i in attns else None for i, c in enumerate(widths))
        self.quantize_blocks = nn.ModuleList(None for _ in widths)
        self.final_conv = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.to_logit = nn.Linear(4 * widths[-1], 1)

    def forward(self, x):
        for block, attn in zip(self.blocks, self.attn_blocks, strict=True):
            x = attended(attn, block(x))
        return self.to_logit(self.final_conv(x).flatten(1))[:, 0]


class StyleGAN2(nn.Module):
    """The whole, as the program saves it: a discriminator occurs a second time in the module that augments its input.

    Args:
        widths: channels of G's resolutions, from the smallest.
        d_widths: channels of D's blocks, from the first.
        size: of z and w.
        rate: of the mapping network.
        attns, d_attns: the numbers of G's and D's blocks with an attention.
        constant: whether G begins with a constant.
        colours: of an image.
    """

    def __init__(
        self, widths=(8, 8, 4), d_widths=(4, 8, 8, 8), size=10, rate=0.1, attns=(), d_attns=(), constant=True, colours=3
    ):
        super().__init__()
        for mapping, generator in (("S", "G"), ("SE", "GE")):
            self.add_module(mapping, Vectorizer(size, 3, rate))
            self.add_module(generator, Generator(size, widths, attns, constant, colours))
        self.D = Discriminator(d_widths, d_attns)
        self.D_aug = nn.Module()
        self.D_aug.D = self.D
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def save(self, path, **changes):
        state = {name: tensor for name, tensor in {**self.state_dict(), **changes}.items() if tensor is not None}
        torch.save({"GAN": state, "version": "1.9.0"}, path)
        return path
