"""Projected GAN: the frozen backbone and where its weights come from, the projections, the heads."""

import os
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import interpolate

import ganzoo
import offline
from ganzoo import ConfigError, WeightsError
from ganzoo.store import runs
from ganzoo.store.manifest import read_config, read_json
from ganzoo.store.models import load_network
from ganzoo_projected import backbone
from ganzoo_projected.resize import Resize, average, bilinear

SMALL = offline.SETTINGS["projected"]["discriminator"]
NAME = SMALL["backbone"]


def write(path, name=NAME, seed=1):
    """Weights of a timm model as people have them in a file; random ones do here."""
    torch.manual_seed(seed)
    save_file(timm.create_model(name).state_dict(), path)
    return str(path)


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "backbone.safetensors")


def networks(image_size=28, **settings):
    torch.manual_seed(0)
    settings = {"generator": {"width": 8}, "discriminator": SMALL | settings}
    return ganzoo.create("projected", image_size=image_size, channels=1, **settings)


def config(**settings):
    defaults = {
        "image_size": 14, "steps": 4, "batch_size": 8, "checkpoint_every": 2, "log_every": 2, "out": "run",
        "lr_schedule": "constant", "generator": {"width": 8}, "discriminator": SMALL,
    }  # fmt: skip
    return ganzoo.TrainConfig("projected", **{**defaults, **settings})


def test_the_features_are_those_of_the_file(file):
    _, d = networks(64, weights=file)
    images = torch.rand(2, 1, 64, 64) * 2 - 1
    seen = []
    d.prepare()
    d.frozen[0].register_forward_hook(lambda net, inputs, features: seen.append((inputs[0], features)))
    d(images)
    ((pixels, features),) = seen
    whole = timm.create_model(NAME)
    whole.load_state_dict(load_file(file))
    mean, std = (torch.tensor(whole.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    assert torch.allclose(pixels, ((images + 1) / 2).expand(-1, 3, -1, -1).sub(mean) / std, atol=1e-5)
    intermediates = whole.eval().forward_intermediates(pixels, intermediates_only=True)
    for mine, theirs in zip(features, intermediates, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    random = networks(64)[1](images)
    assert not torch.allclose(d(images), random)


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet"])
def test_other_backbones(name, tmp_path):
    _, d = networks(backbone=name, weights=write(tmp_path / "other.safetensors", name))
    images = torch.rand(2, 1, 28, 28) * 2 - 1
    assert d(images).shape == (2, 64)


def lively(name):
    """An extractor whose BatchNorms have statistics as of a trained network."""
    net = backbone.load(name, "random")
    torch.manual_seed(0)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.running_mean, std=0.1)
        for tensor, low in ((norm.running_var, 0.5), (norm.weight, 0.5), (norm.bias, -0.5)):
            nn.init.uniform_(tensor, low, low + 1)
    return net, len(norms)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "tf_efficientnet_lite0", "densenet121"])
def test_norms_are_folded_into_the_convolutions_before_them(name):
    net, count = lively(name)
    images = torch.randn(2, 3, 64, 64)
    folded = backbone.folded(net, images)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert left == (62 if name == "densenet121" else 0) < count  # where they come before the convolutions
    with torch.no_grad():
        for mine, theirs in zip(folded(images), net(images), strict=True):
            assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    images = images.double().requires_grad_()  # since rounding to fp32 may take a value to the other side of a ReLU
    for mine, theirs in zip(folded.double()(images), net.double()(images), strict=True):
        gradients = [torch.autograd.grad(features.sum(), images, retain_graph=True)[0] for features in (mine, theirs)]
        assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5 * float(gradients[1].abs().max()))


class Branching(nn.Module):
    """A network that also uses what its convolution gives before the norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.norm.running_var.fill_(4.0)

    def forward(self, x):
        y = self.conv(x)
        return [self.norm(y), y]


def test_a_network_that_cannot_be_folded_stays_as_it_is():
    net = Branching().eval()
    assert backbone.folded(net, torch.randn(2, 3, 8, 8)) is net
    assert isinstance(net.norm, nn.BatchNorm2d)


@pytest.mark.parametrize("size", [8, 28, 64, 112])
def test_images_are_resized(size):
    _, d = networks(size)
    images = torch.rand(2, 1, size, size) * 2 - 1
    pixels = []
    d.prepare()
    d.frozen[0].register_forward_pre_hook(lambda net, inputs: pixels.append(inputs[0]))
    assert d(images).shape == (2, 64)
    expected = interpolate(images, (64, 64), mode="bilinear", align_corners=False, antialias=size > 64)
    assert torch.allclose(pixels[0] * d.std + d.mean, (expected.expand(-1, 3, -1, -1) + 1) / 2, atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(28, 64), (7, 16), (2, 4), (14, 14), (100, 64), (256, 7)])
def test_matrices_resize_as_torch_does(before, after):
    torch.manual_seed(0)
    images = torch.rand(2, 3, before, before) * 2 - 1
    expected = interpolate(images, (after, after), mode="bilinear", align_corners=False, antialias=after < before)
    assert torch.allclose(Resize(bilinear(before, after))(images), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("before", [4, 7, 14, 16, 28, 56, 112])
def test_matrices_pool_as_torch_does(before):
    torch.manual_seed(0)
    images = torch.rand(2, 3, before, before) * 2 - 1
    expected = torch.nn.functional.adaptive_avg_pool2d(images, 4)
    assert torch.allclose(Resize(average(before, 4))(images), expected, rtol=0, atol=1e-6)


def test_what_cannot_serve_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        networks(backbone="resnet_18")
    with pytest.raises(
        ConfigError, match=r"test_vit at 64 pixels gives features of shapes .* must be channels first and at 4 sizes"
    ):
        networks(backbone="test_vit")
    with pytest.raises(ConfigError, match=r"doesn't match model \(224\).*choose another discriminator.resolution"):
        networks(backbone="swin_tiny_patch4_window7_224")
    with pytest.raises(ConfigError, match="timm has no model 'hf-hub:"):  # a stranger's code or file
        networks(backbone="hf-hub:someone/model")
    with pytest.raises(ConfigError, match="1 or 3 channels, not 2"):
        ganzoo.create("projected", channels=2)
    other = write(tmp_path / "other.safetensors", "test_resnet")
    with pytest.raises(
        WeightsError, match=f"other.safetensors does not hold the weights of timm's {NAME}: .*Missing key"
    ):
        networks(weights=other)[1].prepare()
    with pytest.raises(WeightsError, match=r"gone.safetensors of .* cannot be read"):
        networks(weights="gone.safetensors")[1].prepare()
    (tmp_path / "text.safetensors").write_text("not tensors at all")
    with pytest.raises(WeightsError, match=r"text.safetensors of .* cannot be read"):
        networks(weights="text.safetensors")[1].prepare()


def test_a_file_of_a_deeper_model_of_the_same_shapes_is_refused(tmp_path):
    """lite1 has every tensor of lite0 in the same shape, and more of them."""
    file = write(tmp_path / "lite1.safetensors", "tf_efficientnet_lite1")
    _, d = networks(backbone="tf_efficientnet_lite0", weights=file)
    with pytest.raises(WeightsError, match="Unexpected key"):
        d.prepare()


def test_each_scale_counts_the_same():
    _, d = networks()
    images = torch.rand(3, 1, 28, 28)
    maps = []
    for score in d.scores:
        score.register_forward_hook(lambda layer, inputs, logits: maps.append(logits))
    scales = d(images).unflatten(1, (4, 16))
    assert [logits.shape[-1] for logits in maps] == [4, 4, 4, 2]
    for i, logits in enumerate(maps):
        assert torch.allclose(scales[:, i].mean(1), logits.mean((1, 2, 3)), atol=1e-6)
        assert scales[:, i].unique(dim=1).shape[1] == logits[0].numel()


def test_every_scale_is_mixed_into_the_larger_ones_and_reaches_the_images():
    _, d = networks(64)
    d.eval()
    images = torch.rand(2, 1, 64, 64, requires_grad=True)
    for logits in d(images).unflatten(1, (4, 16)).unbind(1):
        (slope,) = torch.autograd.grad(logits.sum(), images, retain_graph=True)
        assert slope.abs().sum() > 0
    before = d(images).unflatten(1, (4, 16))
    with torch.no_grad():
        d.across_channels[3].weight.neg_()  # of the smallest map
    assert (d(images).unflatten(1, (4, 16)) - before).abs().amax((0, 2)).min() > 1e-4


def test_the_published_heads():
    """At 256 pixels, all heads end in 4x4 logits, the larger maps by more halvings (section 4)."""
    _, d = networks(resolution=256, width=4)
    halvings = [sum(getattr(layer, "stride", None) == (2, 2) for layer in head) for head in d.heads]
    assert halvings == [4, 3, 2, 1]
    assert d(torch.rand(1, 1, 28, 28)).shape == (1, 64)


def test_the_generator_is_excited_from_16_times_smaller_maps():
    g, _ = ganzoo.create("projected", image_size=256, generator={"width": 2}, discriminator=SMALL)
    assert g.gap == 4
    assert len(g.excitations) == 3  # 4 to 64, 8 to 128, 16 to 256
    z = torch.randn(2, 256)
    before = g(z)
    with torch.no_grad():
        g.excitations[2].layers[3].weight.mul_(50)
    assert before.shape == (2, 3, 256, 256)
    assert not torch.allclose(g(z), before)


def test_training_leaves_the_backbone_and_the_projections_alone(file):
    run = ganzoo.train(config(discriminator={**SMALL, "weights": file}))
    torch.manual_seed(0)
    d = run.discriminator
    whole = load_file(file)
    net = d.frozen[0]
    fresh = networks(14, weights=file)[1]
    fresh.prepare()
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    untouched = fresh.frozen[0].state_dict()
    assert net.state_dict().keys() == untouched.keys()
    for key, value in net.state_dict().items():
        assert torch.equal(value, untouched[key]), key
    first = runs._load(run.folder / "checkpoints" / "step-0000002").part("discriminator")
    last = runs._load(run.folder / "checkpoints" / "step-0000004").part("discriminator")
    frozen = {key for key in first if key.startswith("across_")} | {"weights_digest"}
    assert len(frozen) == 8
    for key in frozen:
        assert torch.equal(first[key], last[key]), key
    trained = {key for key, p in d.named_parameters() if p.requires_grad}
    assert trained
    assert not trained & frozen
    for key in trained:
        assert not torch.equal(first[key], last[key]), key
    # Nothing of the backbone is saved, and both phases have trained what they should.
    assert not set(first) & set(net.state_dict())
    assert set(first) == set(d.state_dict())
    saved = sum(value.numel() for key, value in first.items() if key not in frozen)
    assert saved < sum(value.numel() for value in whole.values())


def test_a_run_resumes_to_the_same_bits(file):
    settings = {"discriminator": {**SMALL, "weights": file}}
    whole = ganzoo.train(config(**settings))
    ganzoo.train(config(**settings, steps=2, out="parts"))
    resumed = ganzoo.train(config(**settings, out="parts"), resume=True)
    for role in ("raw_generator", "discriminator"):
        twin = getattr(resumed, role).state_dict()
        for key, value in getattr(whole, role).state_dict().items():
            assert torch.equal(value, twin[key]), key


def test_a_run_does_not_resume_on_other_weights(file):
    settings = {"discriminator": {**SMALL, "weights": file}}
    ganzoo.train(config(**settings, steps=2))
    write(file, seed=2)
    with pytest.raises(WeightsError, match=f"trained on other weights of {NAME} than .*backbone.safetensors"):
        ganzoo.train(config(**settings), resume=True)


def test_what_is_published_needs_no_path(file, tmp_path):
    settings = {"discriminator": {**SMALL, "weights": file}}
    run = ganzoo.train(config(**settings, steps=2))
    folder = ganzoo.save_pretrained(run, tmp_path / "model", discriminator=True)
    for path in folder.glob("*.*"):
        assert b"backbone.safetensors" not in path.read_bytes(), path
    assert read_config(folder).discriminator["weights"] is None
    assert "weights" not in read_json(folder / "training.json")["config"]["discriminator"]
    # It is loaded without the backbone, and judges with it as before, but not with another.
    d = load_network(folder, "discriminator")
    images = torch.rand(2, 1, 14, 14)
    assert not d.frozen
    d.weights = file
    assert torch.allclose(d(images), run.discriminator.eval()(images), atol=1e-4)
    d = load_network(folder, "discriminator")
    d.weights = "random"
    with pytest.raises(WeightsError, match=r"trained on other weights .* than random weights"):
        d(images)
    # Whoever trains on names their own file, wherever it lies.
    moved = str(tmp_path / "moved.safetensors")
    os.rename(file, moved)
    tuned = ganzoo.train(config(discriminator={"weights": moved}, start=str(folder), steps=1, out="tuned"))
    assert torch.equal(tuned.discriminator.weights_digest, run.discriminator.weights_digest)
    with pytest.raises(WeightsError, match=r"lacks|has a tensor|the network has"):
        ganzoo.train(config(discriminator={"weights": moved, "width": 4}, start=str(folder), steps=1, out="wide"))


def test_random_weights_need_nothing_else(tmp_path):
    run = ganzoo.train(config(steps=1))
    folder = ganzoo.save_pretrained(run, tmp_path / "model", discriminator=True)
    images = torch.rand(2, 1, 14, 14)
    assert torch.allclose(load_network(folder, "discriminator")(images), run.discriminator.eval()(images), atol=1e-4)
    _, d = networks()
    state = torch.get_rng_state()
    d.prepare()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("cause", ["HF_HUB_OFFLINE", "HF_ENDPOINT"])
def test_without_the_hub_it_says_so_at_once(cause, tmp_path):
    """Before there is a run folder, and without the client's many tries."""
    values = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "home"), cause: values[cause]}
    words = [sys.executable, "-m", "ganzoo", "train", "projected", "--set", f"discriminator.backbone={NAME}"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"backbone {NAME} needs its weights" in done.stderr
    assert "--set discriminator.weights=FILE" in done.stderr
    assert {"HF_HUB_OFFLINE": "HF_HUB_OFFLINE is set", "HF_ENDPOINT": "does not answer"}[cause] in done.stderr
    assert not (tmp_path / "runs").exists()


def test_building_imports_timm_and_listing_does_not():
    script = (
        "import sys, ganzoo; ganzoo.list_architectures(); sys.exit('timm' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
