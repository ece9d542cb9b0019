"""Foreign checkpoints: PyTorch's DCGAN example and textbook perceptrons give the same images here; more is refused."""

import argparse
import os
import pickle
from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ganzoo
from ganzoo import WeightsError
from ganzoo.exchange.checkpoints import read_tensors
from ganzoo.exchange.foreign import convert


class Example(nn.Module):
    """The generator of PyTorch's DCGAN example and tutorial (ngf=4), as it is written there."""

    def __init__(self, nz=10, ngf=4, nc=3, bias=False):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=bias),
            nn.BatchNorm2d(ngf * 8),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=bias),
            nn.BatchNorm2d(ngf * 4),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=bias),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=bias),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=bias),
            nn.Tanh(),
        )

    def forward(self, x):
        return self.main(x)


def example28():
    return nn.Sequential(
        nn.Sequential(nn.ConvTranspose2d(10, 8, 7, 1, 0, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        nn.ConvTranspose2d(4, 1, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def perceptron(*sizes, activation=nn.ReLU, output=nn.Tanh, gap=False):
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation(), *([nn.Dropout(0.3)] if gap else [])]
    layers[-1 - gap :] = [output()]
    return nn.Sequential(*layers)


def trained(module):
    """Running statistics and scales that matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5)
    return module.eval()


@pytest.fixture
def example():
    return trained(Example())


def same_images(ours, foreign, z=None):
    z = torch.randn(5, ours.config["z_dim"]) if z is None else z
    with torch.no_grad():
        images = ours(z)
        wanted = foreign(z[:, :, None, None])
    assert images.std() > 0.01
    return torch.allclose(images, wanted, atol=1e-5)


def prefixed(prefix, state):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def training(g):
    """A training checkpoint: both networks with their optimizers, and more."""
    d = nn.Sequential(nn.Conv2d(3, 4, 4), nn.Conv2d(4, 1, 4))
    optimizers = [torch.optim.Adam(network.parameters()) for network in (g, d)]
    for network, optimizer in zip((g, d), optimizers, strict=True):
        sum(parameter.square().sum() for parameter in network.parameters()).backward()
        optimizer.param_groups[0]["lr"] = 0.0
        optimizer.step()
    return {
        "epoch": 7,
        "best": None,
        "name": "run",
        "losses": [0.5, (1.0, True)],
        "rng": {"cpu": torch.get_rng_state()},
        "netG_state_dict": g.state_dict(),
        "netD_state_dict": d.state_dict(),
        "optimizerG": optimizers[0].state_dict(),
        "optimizerD": optimizers[1].state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizers[0], [3]).state_dict(),
    }


VARIANTS = {
    "plain": lambda g: dict(g.state_dict()),
    "ordered": lambda g: g.state_dict(),
    "bare": lambda g: g.main.state_dict(),
    "another prefix": lambda g: prefixed("model.net.", g.main.state_dict()),
    "data parallel": lambda g: prefixed("module.", g.state_dict()),
    "compiled data parallel": lambda g: prefixed("module._orig_mod.", g.state_dict()),
    "parameters": lambda g: {
        name: nn.Parameter(t) if t.is_floating_point() else t for name, t in g.state_dict().items()
    },
    "training": training,
    "nested twice": lambda g: {"models": {"G": g.state_dict(), "D": {"weight": torch.zeros(1)}}, "epoch": 3},
    "state_dict": lambda g: {"state_dict": g.state_dict(), "step": 3},
    "twice the same": lambda g: [{"a": (state := g.state_dict()), "b": state}],
    "one for both networks": lambda g: {
        "state_dict": prefixed("generator.", g.state_dict()) | {"discriminator.0.weight": torch.zeros(1)}
    },
    "half": lambda g: g.half().float().state_dict(),
    "before 0.4.1": lambda g: {n: t for n, t in g.state_dict().items() if not n.endswith("num_batches_tracked")},
}


PLAIN = {"hidden": 0, "skip": False, "modulated": False, "fine": 0, "palette": 0, "affine": False, "num_classes": None}


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "legacy"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_pytorchs_dcgan_example(example, variant, zipped):
    torch.save(VARIANTS[variant](example), "g.pth", _use_new_zipfile_serialization=zipped)
    state = torch.get_rng_state()
    g = convert("dcgan", read_tensors("g.pth"))
    assert torch.equal(torch.get_rng_state(), state)
    assert g.config == {"z_dim": 10, "image_size": 64, "channels": 3, "width": 4, **PLAIN}
    assert not g.training
    assert same_images(g, example)
    assert ganzoo.sample(g, 2).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("architecture", ["dcgan", "wgan"])
def test_28_pixels_in_blocks_from_safetensors(architecture, tmp_path):
    foreign = trained(example28())
    save_file(prefixed("layers.", foreign.state_dict()), "g.safetensors")
    g = convert(architecture, read_tensors(tmp_path / "g.safetensors"))
    assert g.config == {"z_dim": 10, "image_size": 28, "channels": 1, "width": 4, **PLAIN}
    assert same_images(g, foreign)


@pytest.mark.parametrize("architecture", ["dcgan", "wgan", "vanilla"])
def test_our_own_weights(architecture):
    torch.manual_seed(0)
    settings = {"width": 2} if architecture != "vanilla" else {"hidden": [8, 4]}
    ours = ganzoo.create(architecture, image_size=256, channels=1, generator=settings)[0].eval()
    save_file(ours.state_dict(), "g.safetensors")  # sorted by name: layers.12 before layers.3
    g = convert(architecture, read_tensors("g.safetensors"))
    assert g.config == ours.config
    z = torch.randn(3, 100)
    assert torch.equal(g(z), ours(z))


def test_half_precision_becomes_fp32(example):
    torch.save(example.half().state_dict(), "g.pt")
    g = convert("dcgan", read_tensors("g.pt"))
    assert {t.dtype for t in g.state_dict().values()} == {torch.float32, torch.int64}
    assert same_images(g, example.float())


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("prefix", ["", "model.", "module.main."])
def test_perceptron_with_tanh(prefix, gap):
    foreign = perceptron(10, 16, 32, 3 * 64, gap=gap).eval()
    torch.save(prefixed(prefix, foreign.state_dict()), "g.pt")
    g = convert("vanilla", read_tensors("g.pt"), activation="relu")
    assert g.config == {
        "z_dim": 10, "image_size": 8, "channels": 3, "hidden": [16, 32], "activation": "relu", "output": "tanh",
        "norm": None,
    }  # fmt: skip
    assert same_images(g, lambda z: foreign(z.flatten(1)).view(-1, 3, 8, 8))


def test_perceptron_with_sigmoid_and_the_default_activation():
    foreign = perceptron(10, 16, 784, activation=lambda: nn.LeakyReLU(0.2), output=nn.Sigmoid)
    torch.save({"G": foreign.state_dict()}, "g.bin")
    g = convert("vanilla", read_tensors("g.bin"), output="sigmoid")
    assert (g.config["activation"], g.config["output"], g.config["image_size"]) == ("leaky_relu", "sigmoid", 28)
    assert same_images(g, lambda z: 2 * foreign(z.flatten(1)).view(-1, 1, 28, 28) - 1)


def test_perceptron_whose_image_is_given_by_options():
    two, four = (dict(perceptron(4, 8, outputs).state_dict()) for outputs in (2 * 36, 4 * 36))
    with pytest.raises(WeightsError, match="72 outputs do not make a square image of 1 or 3 channels: give"):
        convert("vanilla", two)
    with pytest.raises(WeightsError, match="do not make a square image with image_size=5"):
        convert("vanilla", two, image_size=5)
    for size in (0, -6):
        with pytest.raises(WeightsError, match=f"do not make a square image with image_size={size}"):
            convert("vanilla", two, image_size=size)
    assert convert("vanilla", two, channels=2)(torch.zeros(1, 4)).shape == (1, 2, 6, 6)
    assert convert("vanilla", two, image_size=6)(torch.zeros(1, 4)).shape == (1, 2, 6, 6)
    assert convert("vanilla", four)(torch.zeros(1, 4)).shape == (1, 1, 12, 12)
    assert convert("vanilla", four, channels=4)(torch.zeros(1, 4)).shape == (1, 4, 6, 6)


def test_a_strangers_architecture_takes_its_own_names():
    ours = ganzoo.create("tiny", width=8, norm=True)[0].eval()
    torch.save(prefixed("module.", ours.state_dict()), "g.pt")
    g = convert("tiny", read_tensors("g.pt"), width=8, norm=True)
    z = torch.randn(5, 4)
    assert torch.equal(g(z), ours(z))
    with pytest.raises(
        WeightsError, match=r"layers.0.weight of the generator of tiny has shape \(32, 4\), not \(8, 4\)"
    ):
        convert("tiny", read_tensors("g.pt"), norm=True)
    with pytest.raises(WeightsError, match=r"no place for 'layers.1.weight', 'layers.1.bias', .* and 2 more"):
        convert("tiny", read_tensors("g.pt"), width=8)


def test_options():
    tensors = perceptron(4, 8, 36).state_dict()
    with pytest.raises(ganzoo.ConfigError, match="no setting 'activations': did you mean 'activation'"):
        convert("vanilla", tensors, activations="relu")
    with pytest.raises(ganzoo.ConfigError, match="activation must be one of"):
        convert("vanilla", tensors, activation="swash")
    with pytest.raises(WeightsError, match="has z_dim=4 according to its weights, not 5: leave it out"):
        convert("vanilla", tensors, z_dim=5)
    with pytest.raises(WeightsError, match="cannot read these weights: TypeError"):
        convert("vanilla", tensors, channels="many")
    with pytest.raises(ganzoo.UnknownNameError, match="did you mean 'vanilla'"):
        convert("vanila", tensors)
    assert convert("vanilla", tensors, hidden=(8,)).config["hidden"] == (8,)


def changed(state, **changes):
    """The state with tensors by name replaced, or, where None, left out ("_" for a dot)."""
    state = dict(state) | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


BROKEN = {
    "a bias": ({"main__0__bias": torch.zeros(32)}, "no place for 'main.0.bias', and no tensor may be left over"),
    "another tensor": ({"main__1__scale": torch.ones(1)}, "no place for 'main.1.scale'"),
    "outside": ({"noise": torch.ones(1)}, "layer 'main.0' .* should be a transposed convolution in an nn.Sequential"),
    "no variance": ({"main__4__running_var": None}, "nothing fills 'layers.4.running_var'"),
    "no weight": ({"main__6__weight": None}, r"layer '7' .*should be a transposed convolution.*under 'main.'"),
    "narrow norm": ({"main__4__bias": torch.zeros(3)}, r"layers.4.bias .* shape \(16,\), not \(3,\)"),
    "wide layer": ({"main__3__weight": torch.zeros(32, 20, 4, 4)}, r"layer '3' with .* should have \(32, 16, 4, 4\)"),
    "3x3": ({"main__6__weight": torch.zeros(16, 8, 3, 3)}, r"layer '6' with .* should have \(16, 8, 4, 4\)"),
    "8x8": ({"main__0__weight": torch.zeros(10, 32, 8, 8)}, "layer '0' .* should have a kernel of 4x4 to 7x7"),
    "no end": ({"main__12__weight": None}, "8 layers do not alternate"),
    "NaN": ({"main__4__bias": torch.full((16,), torch.nan)}, "layers.4.bias .* NaN or infinite"),
    "too large for fp32": ({"main__4__bias": torch.full((16,), 1e300, dtype=torch.float64)}, "NaN or infinite"),
    "integers": ({"main__4__bias": torch.zeros(16, dtype=torch.int64)}, "is torch.float32, not torch.int64"),
    "complex": ({"main__4__bias": torch.zeros(16, dtype=torch.complex64)}, "is torch.float32, not torch.complex64"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_nothing_is_dropped_or_left_random(example, case):
    changes, message = BROKEN[case]
    torch.save(changed(example.state_dict(), **changes), "g.pt")
    with pytest.raises(WeightsError, match=message) as caught:
        convert("dcgan", read_tensors("g.pt"))
    assert "\n" not in str(caught.value)


def test_a_perceptron_with_batch_norm():
    layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU()]
    foreign = trained(nn.Sequential(*layers, nn.Linear(6, 16), nn.Tanh()))
    g = convert("vanilla", foreign.state_dict(), activation="relu")
    assert (g.config["norm"], g.config["hidden"]) == ("batch", [8, 6])
    z = torch.randn(5, 4)
    with torch.no_grad():
        assert torch.equal(g(z).flatten(1), foreign(z))


class Attributes(nn.Module):
    """A perceptron whose layers are attributes, as many textbooks have it: Linear, BatchNorm where there is one of that
    number, ReLU, ..., Linear, Tanh."""

    def __init__(self, layers, norms=()):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        norms = dict(norms)
        for name, width in norms.items():
            setattr(self, name, nn.BatchNorm1d(width))
        self.order, self.norms = list(layers), list(norms)

    def forward(self, x):
        *hidden, last = self.order
        for i, name in enumerate(hidden):
            x = getattr(self, name)(x)
            x = (getattr(self, self.norms[i])(x) if self.norms else x).relu()
        return getattr(self, last)(x).tanh()


def attributes(sizes, names, norms=()):
    torch.manual_seed(0)
    layers = {name: nn.Linear(*pair) for name, pair in zip(names, pairwise(sizes), strict=True)}
    return trained(Attributes(layers, zip(norms, sizes[1:-1], strict=False)))


ATTRIBUTES = {
    "numbers": ([4, 8, 16, 8, 16], ["fc1", "fc2", "fc3", "fc4"], []),
    "numbers of equal sizes": ([4, *[8] * 11, 16], [f"fc{i}" for i in range(1, 13)], []),
    "numbers that fall": ([4, 8, 6, 16], ["fc3", "fc2", "fc1"], []),
    "words": ([4, 8, 6, 16], ["layer_in", "hidden", "out"], []),
    "words and numbers": ([4, 8, 8, 8, 16], ["layer_in", "hidden1", "hidden2", "out"], []),
    "many words and numbers": ([4, *[8] * 10, 16], ["in_", *(f"hidden{i}" for i in range(1, 10)), "out"], []),
    "a single layer": ([4, 16], ["out"], []),
    "norms": ([4, 8, 6, 16], ["fc1", "fc2", "fc3"], ["bn1", "bn2"]),
    "many norms": ([4, *[8] * 11, 16], [f"fc{i}" for i in range(1, 13)], [f"bn{i}" for i in range(1, 12)]),
    "norms in words": ([4, 8, 6, 16], ["start", "middle", "end"], ["norm_of_start", "norm_of_middle"]),
}


@pytest.mark.parametrize("prefix", ["", "module.net."])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("case", ATTRIBUTES)
def test_a_perceptron_whose_layers_are_attributes(case, suffix, prefix):
    sizes, names, norms = ATTRIBUTES[case]
    foreign = attributes(sizes, names, norms)
    (torch.save if suffix == "pt" else save_file)(prefixed(prefix, foreign.state_dict()), f"g.{suffix}")
    g = convert("vanilla", read_tensors(f"g.{suffix}"), activation="relu")
    assert (g.config["z_dim"], g.config["hidden"], g.config["image_size"]) == (4, sizes[1:-1], 4)
    assert g.config["norm"] == ("batch" if norms else None)
    z = torch.randn(5, 4)
    with torch.no_grad():
        assert torch.equal(g(z).flatten(1), foreign(z))


def test_the_order_in_a_file_counts_unless_it_is_alphabetical():
    """torch.save keeps the order in which layers were defined; safetensors sorts, so there it says nothing."""
    foreign = attributes([8, 8, 8, 16], ["start", "middle", "end"])
    torch.save(foreign.state_dict(), "g.pt")
    z = torch.randn(5, 8)
    with torch.no_grad():
        assert torch.equal(convert("vanilla", read_tensors("g.pt"), activation="relu")(z).flatten(1), foreign(z))
    save_file(foreign.state_dict(), "g.safetensors")
    with pytest.raises(
        WeightsError, match=r"the layers 'end' 8x16, 'middle' 8x8, 'start' 8x8 .* chain in more than one order"
    ):
        convert("vanilla", read_tensors("g.safetensors"))
    foreign = attributes([4, 8, 8, 16], ["fc1", "fc2", "fc3"], ["first", "second"])
    with pytest.raises(WeightsError, match=r"the layers 'first' 8, 'second' 8 .* chain in more than one order"):
        convert("vanilla", foreign.state_dict())


@pytest.mark.parametrize("most", range(4, 8))
def test_an_order_that_may_not_be_the_only_one_is_refused(monkeypatch, most):
    """A search that is cut off after its first order has not seen the second."""
    monkeypatch.setattr("ganzoo_vanilla.foreign.MOST", most)
    save_file(attributes([8, 8, 8, 16], ["start", "middle", "end"]).state_dict(), "g.safetensors")
    with pytest.raises(WeightsError, match=r"chain in more than one order|do not chain in any order"):
        convert("vanilla", read_tensors("g.safetensors"))


def test_attributes_that_are_no_perceptron_are_refused():
    layers = {"fc1": nn.Linear(4, 8), "fc2": nn.Linear(9, 16)}
    with pytest.raises(
        WeightsError, match=r"the layers 'fc1' 4x8, 'fc2' 9x16 .* do not chain in any order that was tried"
    ):
        convert("vanilla", Attributes(layers).state_dict())
    many = {f"layer_{letter}": nn.Linear(8, 8) for letter in "abcdefghijklmnopqrst"}
    with pytest.raises(WeightsError, match="do not chain in any order"):  # soon, not after trying 20! of them
        convert("vanilla", Attributes({**many, "y": nn.Linear(9, 8), "z": nn.Linear(9, 8)}).state_dict())
    layers["fc2"] = nn.Linear(8, 16)
    with pytest.raises(WeightsError, match="the number of BatchNorms is 2 and that of hidden layers 1"):
        convert("vanilla", Attributes(layers, {"bn1": 8, "bn2": 16}).state_dict())
    with pytest.raises(WeightsError, match=r"the layers 'bn1' 6 .* do not chain"):
        convert("vanilla", Attributes(layers, {"bn1": 6}).state_dict())
    layers["slope"] = nn.PReLU()
    with pytest.raises(WeightsError, match=r"layer 'slope' with weights \(1,\) should be an nn.Linear or a BatchNorm"):
        convert("vanilla", Attributes(layers).state_dict())


def test_other_networks_are_refused(example):
    with pytest.raises(WeightsError, match=r"no place for 'main.0.bias', 'main.3.bias', 'main.6.bias' and 2 more"):
        convert("dcgan", Example(bias=True).state_dict())
    with pytest.raises(WeightsError, match=r"layer '0'.*should be an nn.Linear"):
        convert("vanilla", example.state_dict())
    norm = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 16))
    with pytest.raises(WeightsError, match=r"layer '1' .*should be a BatchNorm"):
        convert("vanilla", norm.state_dict())
    with pytest.raises(WeightsError, match=r"layer '1' is a BatchNorm after the last layer"):
        convert("vanilla", nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16)).state_dict())
    with pytest.raises(WeightsError, match="layer '2' has 9 inputs, but the layer before it has 8 outputs"):
        convert("vanilla", changed(perceptron(4, 8, 16).state_dict(), **{"2__weight": torch.zeros(16, 9)}))
    with pytest.raises(WeightsError, match=r"nothing fills 'layers.0.bias'"):
        convert("vanilla", changed(perceptron(4, 8, 16).state_dict(), **{"0__bias": None}))
    d = ganzoo.create("dcgan", image_size=32, generator={"width": 2}, discriminator={"width": 2})[1]
    with pytest.raises(WeightsError, match=r"layer '2' .*should be a BatchNorm"):
        convert("dcgan", d.state_dict())
    with pytest.raises(WeightsError, match=r"'0.weight', '0.bias' holds no numbers"):
        convert("vanilla", {"0.weight": torch.zeros(0, 4), "0.bias": torch.zeros(0)})
    for architecture in ("dcgan", "vanilla", "tiny"):
        with pytest.raises(WeightsError):
            convert(architecture, {})


def test_keys(example):
    other = trained(Example(nz=5))
    states = {"netG": example.state_dict(), "g_ema": other.state_dict(), "netD": {"0.weight": torch.ones(1)}, "step": 3}
    torch.save({"models": states, "a.b": [example.state_dict()]}, "g.pt")
    with pytest.raises(
        WeightsError, match=r"3 state dicts .* --key can be 'models.netG', 'models.g_ema', 'a.b.0'"
    ) as caught:
        read_tensors("g.pt")
    assert "netD" not in str(caught.value)
    assert convert("dcgan", read_tensors("g.pt", "models.g_ema")).config["z_dim"] == 5
    assert convert("dcgan", read_tensors("g.pt", key="models.netG.main")).config["z_dim"] == 10
    torch.save({"a.b": states}, "dots.pt")
    assert len(read_tensors("dots.pt", "a.b.netD")) == 1
    for key in ("models.netX", "models.step", "models", "models.netG.main.0.weight", "a", ""):
        with pytest.raises(WeightsError, match=f"no tensors under the key '{key}': --key can be 'models.netG', "):
            read_tensors("g.pt", key)
    torch.save({"a\n\x1b[31m": states["netG"], "b": states["netG"].copy()}, "control.pt")
    with pytest.raises(WeightsError, match=r"--key can be 'a\\n\\x1b\[31m', 'b'"):
        read_tensors("control.pt")
    torch.save({"netD": states["netD"], "epoch": 3}, "d.pt")
    with pytest.raises(WeightsError, match="holds no generator's state dict"):
        read_tensors("d.pt")


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


class Custom(nn.Module):
    pass


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "legacy"])
@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (Hostile(), "posix.mkdir"),
        (Custom(), "test_convert.Custom"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (argparse.Namespace(lr=1), "argparse.Namespace"),
    ],
    ids=["hostile", "custom", "module", "namespace"],
)
def test_nothing_is_executed(example, tmp_path, thing, named, zipped):
    for content in (thing, {"netG": example.state_dict(), "extra": [thing]}):
        torch.save(content, "g.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match=rf"holds more than tensors \({named}\); it was not executed") as caught:
            read_tensors("g.pt")
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value), "torch's advice to unpickle is not ours"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_not_executed(tmp_path, protocol):
    (tmp_path / "g.ckpt").write_bytes(pickle.dumps({"weight": Hostile()}, protocol=protocol))
    with pytest.raises(WeightsError, match="executed"):
        read_tensors("g.ckpt")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("thing", [torch.device("cpu"), {1}, b"bytes", 1j, torch.float32], ids=str)
def test_only_tensors_numbers_and_strings(example, thing):
    torch.save({"netG": example.state_dict(), "extra": {"thing": thing}}, "g.pt")
    with pytest.raises(WeightsError, match=r"holds a .* under 'extra.thing', which is more than tensors"):
        read_tensors("g.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "tensor",
    [torch.eye(2).to_sparse(), torch.empty(2, device="meta"), torch.zeros(1).expand(10**12)],
    ids=["sparse", "meta", "a terabyte"],
)
def test_only_plain_tensors(tensor):
    torch.save({"weight": tensor}, "g.pt")
    with pytest.raises(WeightsError, match="'weight' is not a plain dense tensor"):
        read_tensors("g.pt")


def test_containers_that_hold_themselves():
    tree = {"weight": torch.zeros(1)}
    tree["self"] = [tree]
    torch.save(tree, "g.pt")
    with pytest.raises(WeightsError, match="holds no generator's state dict"):
        read_tensors("g.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("damage", ["text", "html", "lfs pointer", "empty", "bytes", "truncated", "folder", "missing"])
def test_no_checkpoint_at_all(example, tmp_path, damage, suffix):
    path = tmp_path / f"g.{suffix}"
    save = torch.save if suffix == "pt" else save_file
    save(example.state_dict(), path)
    content = {
        "text": b"hello world\n",
        "html": b"<!DOCTYPE html><html></html>",
        "lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        "empty": b"",
        "bytes": bytes(range(256)),
        "truncated": path.read_bytes()[:1000],
    }.get(damage)
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"g\.{suffix}") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
