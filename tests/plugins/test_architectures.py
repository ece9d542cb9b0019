"""The built-in architectures are the published ones. That each keeps the contract: test_conformance.py."""

import importlib

import pytest
import torch
from torch import nn

import ganzoo
import offline
from ganzoo.data import load
from ganzoo.sampling import draw_latent
from ganzoo.training.build import build_players
from ganzoo_dcgan.model import ClassEmbedding, Generator, Palette


def test_dcgan_is_the_published_network():
    """Radford et al. 2015, figure 1: 1024... halved, as the widely used 64-wide form has it."""
    g, d = ganzoo.create("dcgan")
    shapes = [tuple(p.shape) for p in g.parameters() if p.dim() == 4]
    assert shapes == [(100, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4), (128, 64, 4, 4), (64, 3, 4, 4)]
    shapes = [tuple(p.shape) for p in d.parameters() if p.dim() == 4]
    assert shapes == [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4)]
    assert sum(p.numel() for p in g.parameters()) == 3_576_704
    assert sum(p.numel() for p in d.parameters()) == 2_765_568
    kinds = (nn.ConvTranspose2d, nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU, nn.ReLU, nn.Tanh)
    names = [next(kind.__name__ for kind in kinds if isinstance(m, kind)) for m in g.layers]
    assert names == ["ConvTranspose2d", *["BatchNorm2d", "ReLU", "ConvTranspose2d"] * 4, "Tanh"]
    names = [next(kind.__name__ for kind in kinds if isinstance(m, kind)) for m in d.layers]
    assert names == ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3, "Conv2d"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dcgan_matrix_products_are_convolutions(layout):
    """The first layer of G and the last of D, against torch's own convolutions."""
    torch.manual_seed(0)
    g, d = (network.to(memory_format=layout) for network in ganzoo.create("dcgan", image_size=28))
    z, x = torch.randn(3, 100, 1, 1), torch.randn(3, 128, 7, 7).contiguous(memory_format=layout)
    first, last = g.layers[0], d.layers[-1]
    assert torch.allclose(first(z), nn.functional.conv_transpose2d(z, first.weight), atol=1e-5)
    assert torch.allclose(last(x), nn.functional.conv2d(x, last.weight).flatten(), atol=1e-5)


def test_dcgan_initialisation():
    torch.manual_seed(0)
    g, d = ganzoo.create("dcgan")
    for network in (g, d):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 10_000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            if isinstance(module, nn.BatchNorm2d):
                assert module.eps == 1e-5  # 0.8 here was a positional momentum, copied many times
                assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
                assert module.bias.abs().max() == 0


@torch.no_grad()
def test_dcgan_adds_up_the_images_of_all_resolutions():
    torch.manual_seed(0)
    plain = Generator(image_size=28, channels=3, width=4).eval()
    skip = Generator(image_size=28, channels=3, width=4, skip=True).eval()
    skip.load_state_dict(plain.state_dict(), strict=False)
    z = torch.randn(2, 100)
    for convolution in skip.pictures:
        convolution.weight.zero_()
    assert torch.equal(skip(z), plain(z))  # of black images nothing is added
    skip.layers[-2].weight.zero_()  # the last one, at 28 pixels
    skip.pictures[0].bias.fill_(0.25)
    assert torch.equal(skip(z), torch.full((2, 3, 28, 28), 0.25).tanh())
    coarse = Generator(image_size=28, channels=3, width=4, skip=True).eval()
    coarse.layers[-2].weight.zero_()
    cells = coarse(z).unfold(2, 2, 2).unfold(3, 2, 2)  # at most 14 pixels are drawn, each enlarged to 2x2
    assert torch.equal(cells, cells[..., :1, :1].expand_as(cells))
    assert cells.std() > 0


@torch.no_grad()
def test_dcgan_draws_from_a_feature_map_of_full_size():
    g = Generator(image_size=28, channels=3, width=4, fine=5, modulated=True).eval()
    *_, norm, relu, last, _ = g.layers
    assert isinstance(norm, nn.BatchNorm2d)
    assert tuple(last.weight.shape) == (3, 5, 3, 3)
    maps = []
    relu.register_forward_hook(lambda module, inputs, output: maps.append(output))
    images = g(torch.randn(2, 100))
    assert maps[0].shape == (2, 5, 28, 28)
    assert torch.equal(images, last(maps[0]).tanh())
    assert [style.out_features for style in g.styles] == [16, 8, 10]  # a scale and a shift for each channel


@torch.no_grad()
def test_a_palette_gives_each_image_its_own_colours_and_mixes_them():
    torch.manual_seed(0)
    palette, units = Palette(4, 5, 3), torch.randn(2, 4)
    colours = nn.Linear.forward(palette, units).tanh().view(2, 5, 3).mT
    assert not torch.equal(colours[0], colours[1])
    scores = torch.zeros(2, 5, 1, 2)
    scores[:, 2, 0, 1] = 100.0
    images = palette(scores, units)
    torch.testing.assert_close(images[..., 0, 0], colours.mean(2))
    assert torch.equal(images[..., 0, 1], colours[..., 2])  # one colour alone, exactly


@torch.no_grad()
@pytest.mark.parametrize(("hidden", "skip"), [(0, False), (8, False), (8, True)])
def test_dcgan_draws_by_a_palette(hidden, skip):
    g = Generator(image_size=28, channels=3, width=4, hidden=hidden, skip=skip, palette=5).eval()
    z = torch.randn(2, 100)
    assert g(z).shape == (2, 3, 28, 28)
    *_, last, palette = g.layers
    assert last.weight.shape[1] == 5
    units = g.layers[:3](z[:, :, None, None]).flatten(1) if hidden else z
    inputs = []
    palette.register_forward_pre_hook(lambda module, arguments: inputs.extend(arguments))
    images = g(z)
    assert torch.equal(inputs[1], units)
    assert torch.equal(images, palette(*inputs[:2]))
    drawn = palette.bias.view(5, 3)
    assert torch.cdist(drawn, drawn).fill_diagonal_(9.0).min() > 0.01  # no two colours are alike


def test_mixtures_of_colours_are_computed_in_full_precision():
    torch.manual_seed(0)
    palette = Palette(4, 5, 3)
    scores, units = torch.randn(2, 5, 8, 8), torch.randn(2, 4)
    expected = palette(scores.bfloat16(), units.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        images = palette(scores.bfloat16(), units.bfloat16())
    assert images.dtype == torch.float32
    assert torch.equal(images, expected)


@torch.no_grad()
@pytest.mark.parametrize("hidden", [0, 8])
def test_dcgan_scales_and_shifts_its_feature_maps_by_the_latent(hidden):
    torch.manual_seed(0)
    plain = Generator(image_size=28, channels=3, width=4, hidden=hidden).eval()
    g = Generator(image_size=28, channels=3, width=4, hidden=hidden, modulated=True).eval()
    g.load_state_dict(plain.state_dict(), strict=False)
    z = torch.randn(2, 100)
    assert not torch.equal(g(z), plain(z))
    for style in g.styles:
        style.weight.zero_()
    assert torch.equal(g(z), plain(z))  # the scales are what is added to 1
    g.styles[-1].bias[4:] = -100.0  # shifts that switch off the last feature map's ReLU: nothing is drawn
    assert torch.equal(g(z), torch.zeros(2, 3, 28, 28))
    # Shifts that are low for the first latent and high for the second one: each decides on its own image.
    units = g.layers[:3](z[:, :, None, None]).flatten(1) if hidden else z
    direction = 1e9 * (units[1] - units[0])
    g.styles[-1].weight[4:] = direction
    g.styles[-1].bias[4:] = -direction @ units.mean(0)
    drawn = g(z).flatten(1).abs().amax(1) > 0
    assert drawn.tolist() == [False, True]


@torch.no_grad()
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", ["sngan", "r3gan", "projected"])
def test_others_draw_by_a_palette_too(name, conditional):
    small = {"sngan": {}, "r3gan": {"blocks": 1, "widest": 32, "patch": 2}, "projected": {}}[name]
    options = {"z_dim": 64, "image_size": 32, "channels": 3, "width": 16, "palette": 5, **small}
    model = importlib.import_module(f"ganzoo_{name}.model")
    g = model.Generator(**options, num_classes=3 if conditional else None)
    z, labels = torch.randn(2, 64), (torch.tensor([0, 2]),) if conditional else ()
    scores = []
    g.palette.register_forward_pre_hook(lambda module, arguments: scores.append(arguments[0]))
    assert g(z, *labels).shape == (2, 3, 32, 32)
    assert scores[0].shape == (2, 5, 32, 32)
    assert 0.001 < scores[0].std(1).mean() < 1  # the softmax neither is flat nor takes one colour alone
    g.palette.weight.zero_()
    g.palette.bias.fill_(0.5)
    torch.testing.assert_close(g(z, *labels), torch.full((2, 3, 32, 32), 0.5).tanh())
    if conditional:  # a class has colours of its own
        g.palette.weight.normal_()
        assert not torch.equal(*g(z[:1].expand(2, -1), *labels).mean((2, 3)))


@pytest.mark.parametrize("size", [8, 10, 12, 14, 16, 28, 32, 56, 64, 96, 112, 128])
def test_dcgan_sizes(size):
    g, d = ganzoo.create("dcgan", image_size=size, width=4)
    assert d(g(torch.randn(2, 100))).shape == (2,)


@pytest.mark.parametrize(
    ("size", "nearest"), [(1, 8), (4, 8), (7, 8), (27, 28), (44, 40), (100, 96), (150, 160), (0, 8), (-4, 8)]
)
def test_dcgan_refuses_other_sizes(size, nearest):
    with pytest.raises(ganzoo.ConfigError, match=f"times 2.k.*nearest is --image-size {nearest}$"):
        ganzoo.create("dcgan", image_size=size)


SMALL = {
    "dcgan": {"width": 4},
    "infogan": {"width": 4},
    "projected": {},
    "r3gan": {"width": 16, "widest": 32, "blocks": 1},
    "sngan": {"width": 4},
    "stylegan2": {"channel_base": 128, "channel_max": 8},
    "stylegan2_lucid": {"width": 2, "widest": 8},
    "vaegan": {"width": 4},
    "wgan": {"width": 4},
    "wgan_gp": {"width": 4},
}


@pytest.mark.parametrize("size", [20, 24, 28, 32])
@pytest.mark.parametrize("name", SMALL)
def test_sizes_from_all_bases(name, size):
    settings = offline.SETTINGS.get(name, dict.fromkeys(("generator", "discriminator"), SMALL[name]))
    g, d = ganzoo.create(name, image_size=size, channels=1, **settings)
    images = ganzoo.sample(g, 2, seed=0)
    assert images.shape == (2, 1, size, size)
    assert len(d(images)) == 2


CONDITIONAL = ("dcgan", "r3gan", "sngan", "projected", "stylegan2")


def backward_nodes(value):
    """The names of all nodes in a tensor's graph."""
    seen, stack = set(), [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack += [parent for parent, _ in node.next_functions]
    return {node.name() for node in seen}


# From the docstring of torch.use_deterministic_algorithms: nodes whose backward is not deterministic on CUDA.
NOT_DETERMINISTIC = (
    "UpsampleBilinear", "UpsampleBicubic", "UpsampleLinear", "AdaptiveAvgPool", "AdaptiveMaxPool", "ReflectionPad",
    "ReplicationPad", "GridSampler", "Embedding", "NllLoss", "IndexSelect", "Gather", "Cumsum", "Median",
)  # fmt: skip


@pytest.mark.parametrize("name", CONDITIONAL)
def test_gradients_are_deterministic_on_cuda(name):
    settings = offline.SETTINGS.get(name, dict.fromkeys(("generator", "discriminator"), SMALL[name]))
    g, d = ganzoo.create(name, image_size=28, channels=1, num_classes=3, **settings)
    labels = torch.tensor([0, 2])
    nodes = backward_nodes(d(g(torch.randn(2, g.config["z_dim"]), labels), labels).sum())
    assert any(node.startswith("Mm") for node in nodes), "this looks at no graph"
    assert not [node for node in nodes if node.startswith(NOT_DETERMINISTIC)]


@pytest.mark.parametrize("generator", [{}, {"attention": [0, 2], "constant": False}])
def test_gradients_of_stylegan2_lucid_are_deterministic_on_cuda(generator):
    small = {"width": 4, "widest": 8}
    g, d = ganzoo.create("stylegan2_lucid", image_size=16, generator={"z_dim": 8, **generator}, **small)
    nodes = backward_nodes(d(g(torch.randn(2, 8))).sum())
    assert any(node.startswith("Convolution") for node in nodes), "this looks at no graph"
    assert not [node for node in nodes if node.startswith(NOT_DETERMINISTIC)]


@pytest.mark.parametrize("name", ["infogan", "vaegan"])
def test_objectives_are_deterministic_on_cuda(name):
    data = load("digits", image_size=14)
    small = {"generator": {"width": 4}, "discriminator": {"width": 4}}
    players = build_players(ganzoo.TrainConfig(name, image_size=14, **small), data)
    g, d, objective = players.g, players.d, players.objective
    real = data.items[:4].float() / 127.5 - 1
    batch = ganzoo.Batch(real, draw_latent(g, 4, ganzoo.Rng(0, 0, "z0")), 0, ganzoo.Rng(0, 0, "g"))
    for value in (objective.generator_loss(g, d, batch)[0], objective.discriminator_loss(g, d, batch)[0]):
        assert not [node for node in backward_nodes(value) if node.startswith(NOT_DETERMINISTIC)]


def test_class_embeddings_are_rows():
    table = ClassEmbedding(5, 3)
    labels = torch.tensor([4, 0, 4])
    assert torch.equal(table(labels), table.weight[labels])
    with pytest.raises(RuntimeError):
        table(torch.tensor([5]))


def test_wgan_is_the_dcgan_networks_under_the_papers_settings():
    config = ganzoo.TrainConfig("wgan", recipe="paper")
    assert (config.optimizer, config.lr, config.n_critic, config.batch_size) == ("rmsprop", 5e-5, 5, 64)
    assert config.loss == "wasserstein"
    assert config.penalties == []


def test_wgan_gp_is_the_dcgan_networks_under_the_papers_settings():
    config = ganzoo.TrainConfig("wgan_gp", recipe="paper")
    assert (config.optimizer, config.lr, config.betas, config.n_critic) == ("adam", 1e-4, [0.0, 0.9], 5)
    assert (config.loss, config.batch_size, config.penalties) == ("wasserstein", 64, ["gp=10"])
    _, critic = ganzoo.create("wgan_gp", image_size=16, channels=1, width=8, hidden=8)
    images = torch.randn(4, 1, 16, 16)
    assert torch.allclose(critic(images)[:1], critic(images[:1]), atol=1e-6), "an item's score depends on the others"


TEXTBOOKS = [
    ({"hidden": (256, 256), "activation": "relu"}, {"hidden": (256, 256)}),
    ({"hidden": (128, 128), "activation": "relu", "output": "sigmoid"}, {"hidden": (128, 128), "activation": "relu"}),
    ({"hidden": 256}, {"hidden": 256}),
    ({"hidden": (128, 256), "activation": "leaky_relu"}, {"hidden": (256, 128)}),
]


@pytest.mark.parametrize(("generator", "discriminator"), TEXTBOOKS)
def test_textbook_forms_train(generator, discriminator):
    settings = {
        "generator": generator,
        "discriminator": discriminator,
        "steps": 4,
        "batch_size": 16,
        "sample_every": 100,
    }
    run = ganzoo.train(ganzoo.TrainConfig("vanilla", **settings))
    assert run.step == 4
    widths = [m.out_features for m in run.generator.modules() if isinstance(m, nn.Linear)]
    hidden = generator["hidden"]
    assert widths == [*([hidden] if isinstance(hidden, int) else hidden), 784]
    assert ganzoo.sample(run.generator, 2).abs().max() <= 1


def test_vanilla_refuses_what_it_does_not_know():
    with pytest.raises(ganzoo.ConfigError, match="activation must be one of"):
        ganzoo.create("vanilla", activation="swash")
    with pytest.raises(ganzoo.ConfigError, match="tanh or sigmoid"):
        ganzoo.create("vanilla", output="relu")


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 1), (64, 3)])
def test_dcgan_trains_from_a_folder_of_jpegs(tmp_path, size, channels):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.effect_noise((70, 50), 20 + i).convert("RGB").save(tmp_path / "photos" / f"{i}.jpg")
    config = ganzoo.TrainConfig(
        "dcgan", data="photos", image_size=size, channels=channels, steps=2, batch_size=8, generator={"width": 8},
        discriminator={"width": 8},
    )  # fmt: skip
    run = ganzoo.train(config)
    assert ganzoo.sample(run.generator, 3).shape == (3, channels, size, size)
    assert (run.folder / "samples" / "step-0000002.png").exists()
