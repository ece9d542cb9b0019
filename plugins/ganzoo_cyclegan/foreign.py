"""The tensors of the generators of the authors' PyTorch code, pytorch-CycleGAN-and-pix2pix, under ganzoo's names.

A file of that program holds the generator of one direction: `latest_net_G_A.pth` that of A to B, `latest_net_G_B.pth`
that of B to A, and `latest_net_G.pth`, which its test mode reads, either.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ganzoo import ConfigError

START, BLOCKS = (1, 4, 7), 10
"""The numbers of the first convolutions and of the first residual block."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def generator_from_foreign(
    tensors: dict[str, Tensor], options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The settings and the tensors of a ResnetGenerator with InstanceNorm; those that are used are taken out.

    Biases of the convolutions before InstanceNorm are left out, as it takes them away, and so are the running
    statistics that files of PyTorch before 0.4 hold for it, which the program does not use.

    Raises:
        ConfigError: other layers.
    """
    blocks = len({match[1] for name in tensors if (match := re.match(r"(\d{1,3})\.conv_block\.", name))})
    end = BLOCKS + blocks + 7
    for name in ("1.weight", "1.bias", f"{BLOCKS}.conv_block.1.weight", f"{end}.weight"):
        if name not in tensors:
            raise ConfigError(
                f"there is no {name}, as residual generators of pytorch-CycleGAN-and-pix2pix with InstanceNorm have it"
            )
    settings = {
        "channels": tensors[f"{end}.weight"].shape[0],
        "input_channels": tensors["1.weight"].shape[1],
        "width": tensors["1.weight"].shape[0],
        "blocks": blocks,
        "directions": "AB",
    }
    normed = [("", number) for number in (*START, end - 7, end - 4)]
    normed += [(f"{BLOCKS + i}.conv_block.", number) for i in range(blocks) for number in (1, 5)]
    renamed = {}
    for name in (f"{end}.weight", f"{end}.bias", *(f"{place}{number}.weight" for place, number in normed)):
        if name in tensors:
            renamed[f"translators.AB.{name.replace('conv_block', 'layers')}"] = tensors.pop(name)
    for place, number in normed:
        for name in (f"{number}.bias", *(f"{number + 1}.{part}" for part in STATISTICS)):
            tensors.pop(place + name, None)
    return settings, renamed
