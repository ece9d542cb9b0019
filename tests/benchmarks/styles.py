"""The speed of StyleGAN2: of training small networks, as a share of the convolution peak, and of sampling from a large
one, against the formulation with weights of its own for each image. `make bench` runs the first; for the second:

    python tests/benchmarks/styles.py

The network is that of the recipe `paper256`, with random weights. The reference gives each image its own modulated
weights and convolves all images in one grouped convolution, and resamples by the same filters. Both are timed in turns.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import ganzoo
from ganzoo_stylegan2.layers import EPSILON, GAIN, Modulated

ROUNDS = 5
SIZES = (32, 64)
"""Pixels of the images that training is measured on."""
CYCLE = 16
"""Steps after which a lazy penalty is due again: R1 is counted, and timed, as often as it happens."""


def grouped(layer: Modulated, x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    """What `Modulated.forward` computes, by a grouped convolution of the images side by side."""
    n, channels, height, width = x.shape
    weight = layer.weight[None] * layer.affine(w)[:, None, :, None, None]
    if layer.demodulate:
        weight = weight * (GAIN * (weight.square().sum((2, 3, 4), keepdim=True) + EPSILON).rsqrt())
        bias = GAIN * bias
    else:
        weight = weight * layer.scale
    outputs, size = weight.shape[1], weight.shape[-1]
    x = x.reshape(1, n * channels, height, width)
    if layer.filter is None:
        x = conv2d(x, weight.flatten(0, 1), padding=size // 2, groups=n)
    else:
        x = conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
        x = layer.filter.blur(x, padding=1, gain=4.0)
    return x.reshape(n, outputs, *x.shape[2:]) + bias[:, None, None]


def rate(call: Callable[[], Any], images: int) -> float:
    """Images a second."""
    began = time.perf_counter()
    call()
    return images / (time.perf_counter() - began)


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of products and convolutions. torch's own counter also follows modules, by
    hooks that R1's second derivative does not get through."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if operations := flop_registry.get(func._overloadpacket):
            self.count += operations(*args, **(kwargs or {}), out_val=out)
        return out


def training(size: int, precision: str, device: str, cycles: int) -> dict[str, float]:
    """The default recipe on colour images of `size` pixels: images a second, and the floating-point operations of its
    products and convolutions for each image, as they are carried out.

    Args:
        size: height and width.
        precision: "fp32" or "bf16".
        device: "cpu" or "cuda".
        cycles: how many times the steps between two penalties are timed, after as many that are not.
    """
    times, batch = [], 0

    def run(steps: int) -> None:
        nonlocal batch
        settings: dict[str, Any] = {"image_size": size, "augment": [], "precision": precision, "device": device}
        settings |= {"steps": steps, "sample_every": 10**9, "checkpoint_every": 10**9}
        with tempfile.TemporaryDirectory() as folder:
            config = ganzoo.TrainConfig("stylegan2", data="sprites", out=f"{folder}/run", **settings)
            batch = config.batch_size
            ganzoo.train(config, on_step=lambda _: times.append(time.perf_counter()))

    counts = []
    for steps in (CYCLE, 2 * CYCLE):  # pictures and the model at the end are in both
        with Operations() as counted:
            run(steps)
        counts.append(counted.count)
    times.clear()
    run(2 * CYCLE * cycles)
    seconds = times[-1] - times[CYCLE * cycles - 1]
    images = CYCLE * cycles * batch
    return {"images_per_second": images / seconds, "flops_per_image": (counts[1] - counts[0]) / (CYCLE * batch)}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.manual_seed(0)
    recipe = ganzoo.TrainConfig("stylegan2", recipe="paper256")
    g, _ = ganzoo.create("stylegan2", image_size=256, channels=3, generator=recipe.generator)
    g = g.eval().to(memory_format=torch.channels_last)
    own = Modulated.forward
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; images a second, median of {options.rounds}")
    for n in (1, 8):
        z = torch.randn(n, 512)
        images = g(z)
        Modulated.forward = grouped  # type: ignore[assignment, method-assign]
        difference = (g(z) - images).abs().max() / images.std()
        assert difference < 1e-3, difference
        rates: dict[str, list[float]] = {"reference": [], "fp32": [], "bf16": []}
        for _ in range(options.rounds):
            Modulated.forward = grouped  # type: ignore[assignment, method-assign]
            rates["reference"].append(rate(partial(g, z), n))
            Modulated.forward = own  # type: ignore[method-assign]
            rates["fp32"].append(rate(partial(g, z), n))
            with torch.autocast("cpu", torch.bfloat16):
                rates["bf16"].append(rate(partial(g, z), n))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        ratios = {name: value / medians["reference"] for name, value in medians.items() if name != "reference"}
        print(f"batches of {n}:", *(f"{name} {value:.2f}" for name, value in medians.items()), end="; ")
        print("times the reference:", *(f"{name} {value:.2f}" for name, value in ratios.items()))


if __name__ == "__main__":
    main()
