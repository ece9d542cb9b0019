"""The generators in the layout of pytorch-CycleGAN-and-pix2pix, as its checkpoints hold them."""

import torch
from torch import nn


class ResnetBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        half = [nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3), nn.InstanceNorm2d(dim)]
        again = [nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3), nn.InstanceNorm2d(dim)]
        self.conv_block = nn.Sequential(*half, nn.ReLU(True), *again)

    def forward(self, x):
        return x + self.conv_block(x)


class ResnetGenerator(nn.Module):
    def __init__(self, input_nc=3, output_nc=3, ngf=4, n_blocks=2):
        super().__init__()
        model = [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7), nn.InstanceNorm2d(ngf), nn.ReLU(True)]
        for dim in (ngf, 2 * ngf):
            model += [nn.Conv2d(dim, 2 * dim, 3, 2, 1), nn.InstanceNorm2d(2 * dim), nn.ReLU(True)]
        model += [ResnetBlock(4 * ngf) for _ in range(n_blocks)]
        for dim in (4 * ngf, 2 * ngf):
            up = nn.ConvTranspose2d(dim, dim // 2, 3, 2, 1, output_padding=1)
            model += [up, nn.InstanceNorm2d(dim // 2), nn.ReLU(True)]
        model += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*model)

    def forward(self, x):
        return self.model(x)


def before_pytorch_04(generator):
    """The tensors of a generator with the running statistics that InstanceNorm had at that time."""
    tensors = dict(generator.state_dict())
    for name, module in generator.named_modules():
        if isinstance(module, nn.InstanceNorm2d):
            tensors[f"{name}.running_mean"] = torch.full((module.num_features,), 3.0)
            tensors[f"{name}.running_var"] = torch.full((module.num_features,), 7.0)
    return tensors


HALVING = {"kernel_size": 4, "stride": 2, "padding": 1}


class UnetBlock(nn.Module):
    """One level of the U-Net, with all smaller ones inside it. `maps` are the channels of its map and of theirs."""

    def __init__(self, inputs, outputs, maps, norm, dropout, first=False):
        super().__init__()
        inner, *rest = maps
        bias = norm is not nn.BatchNorm2d
        down = nn.Conv2d(inputs, inner, bias=bias, **HALVING)
        up = nn.ConvTranspose2d(2 * inner if rest else inner, outputs, bias=bias or first, **HALVING)
        inside = UnetBlock(inner, inner, rest, norm, dropout) if rest else None
        if first:
            layers = [down, inside, nn.ReLU(), up, nn.Tanh()]
        elif inside is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm(outputs)]
        else:
            layers = [nn.LeakyReLU(0.2), down, norm(inner), inside, nn.ReLU(), up, norm(outputs)]
            layers += [dropout()] if inputs == inner else []
        self.first, self.model = first, nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.first else torch.cat([x, self.model(x)], 1)


class UnetGenerator(nn.Module):
    def __init__(self, depth=6, norm=nn.BatchNorm2d, dropout=nn.Identity, inputs=1, outputs=3):
        super().__init__()
        maps = [2 * min(2**i, 8) for i in range(depth)]
        self.model = UnetBlock(inputs, outputs, maps, norm, dropout, first=True)

    def forward(self, x):
        return self.model(x)
