"""Latents as values: walks, inversion, directions and style mixing, in w where there are styles and in z otherwise."""

import json

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import ganzoo
from ganzoo import EvaluationError, SampleError
from ganzoo.latent.directions import Directions, class_direction, directions, sheet
from ganzoo.latent.invert import invert
from ganzoo.latent.latents import Latents, latents, render, sampled
from ganzoo.latent.mixing import mix
from ganzoo.latent.walk import walk, write_animation
from ganzoo.sampling.statistics import estimate_statistics
from ganzoo.store.save import write_model


def small(name, **settings):
    torch.manual_seed(0)
    sizes = {
        "stylegan2": {"channel_base": 128, "channel_max": 16, "generator": {"z_dim": 8, "w_dim": 8, "mapping": 2}},
        "dcgan": {"generator": {"width": 4, "z_dim": 8, "hidden": 16}},
        "vanilla": {"generator": {"hidden": 16, "z_dim": 8}},
        "r3gan": {"generator": {"width": 16, "widest": 16, "z_dim": 8}},
    }
    g, _ = ganzoo.create(name, image_size=16, channels=3, **sizes[name], **settings)
    estimate_statistics(g)
    return g.eval()


@pytest.fixture(params=["stylegan2", "dcgan"])
def g(request):
    return small(request.param)


@pytest.fixture
def styled():
    return small("stylegan2")


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("name", ["stylegan2", "dcgan"])
def test_latents_of_seeds_give_the_samples(name, classes):
    g = small(name, num_classes=classes)
    points = latents(g, [0, 5], labels=None if classes is None else [2, 1])
    images = render(g, points)
    for image, seed, label in zip(images, [0, 5], [2, 1], strict=True):
        labels = None if classes is None else [label]
        assert torch.allclose(image, ganzoo.sample(g, 1, seed=seed, labels=labels)[0], atol=1e-5)
    many = sampled(g, 70, seed=3)
    assert torch.allclose(render(g, many), ganzoo.sample(g, 70, seed=3), atol=1e-5)
    assert points.kind == ("w" if name == "stylegan2" else "z")


def test_options_act_before_or_after_the_styles(styled):
    points = latents(styled, [1, 2], truncation=0.0)
    assert torch.allclose(points.values[0], points.values[1], atol=1e-6)
    assert torch.allclose(
        render(styled, latents(styled, [1], truncation=0.5), noise="none"),
        ganzoo.sample(styled, 1, seed=1, truncation=0.5, noise="none"),
        atol=1e-5,
    )
    with pytest.raises(SampleError, match="truncation acts on z"):
        render(styled, points, truncation=0.5)


def test_files_of_latents(g, workplace):
    points = latents(g, [1, 2, 3])
    points.save("l.safetensors")
    loaded = Latents.load("l.safetensors")
    assert loaded.kind == points.kind
    assert torch.equal(loaded.values, points.values)
    assert len(loaded[:2]) == 2
    conditional = small("dcgan", num_classes=3)
    latents(conditional, [1, 2], labels=[2, 0]).save("c.safetensors")
    assert Latents.load("c.safetensors").labels.tolist() == [2, 0]


BROKEN = {
    "both": ({"z": torch.ones(2, 8), "w": torch.ones(2, 8)}, "holds .* z or w alone"),
    "neither": ({"x": torch.ones(2, 8)}, "holds x"),
    "one dimension": ({"z": torch.ones(8)}, "which are no latents"),
    "none": ({"z": torch.ones(0, 8)}, "which are no latents"),
    "labels": ({"z": torch.ones(2, 8), "labels": torch.ones(3).long()}, "which are no latents"),
    "NaN": ({"z": torch.full((1, 8), torch.nan)}, "NaN"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_are_no_latents(workplace, case):
    tensors, message = BROKEN[case]
    save_file(tensors, "l.safetensors")
    with pytest.raises(SampleError, match=message):
        Latents.load("l.safetensors")


def test_files_that_cannot_be_read_or_written(g, workplace):
    (workplace / "l.safetensors").write_bytes(b"no")
    for path in ("l.safetensors", "missing.safetensors"):
        with pytest.raises(SampleError, match="cannot be read"):
            Latents.load(path)
        with pytest.raises(SampleError, match="cannot be read"):
            Directions.load(path)
    with pytest.raises(SampleError, match="cannot be written"):
        latents(g, [1]).save("none/l.safetensors")


def test_latents_of_another_generator(styled):
    dcgan = small("dcgan")
    with pytest.raises(SampleError, match="this generator has none"):
        render(dcgan, latents(styled, [1]))
    with pytest.raises(SampleError, match=r"have the shape \(5,\) each, this generator's z \(8,\)"):
        render(dcgan, Latents(torch.ones(1, 5), "z"))
    conditional = small("dcgan", num_classes=3)
    with pytest.raises(SampleError, match="these latents have no classes"):
        render(conditional, Latents(torch.ones(1, 8), "z"))
    with pytest.raises(SampleError, match="there is no class 7"):
        render(conditional, Latents(torch.ones(1, 8), "z", torch.tensor([7])))
    for seeds in ([], [-1]):
        with pytest.raises(SampleError, match="seeds are whole numbers from 0"):
            latents(dcgan, seeds)


def test_walks(g):
    points = latents(g, [1, 5, 9])
    frames = list(walk(g, points, 4))
    assert len(frames) == 12
    assert frames[0].shape == (1, 3, 16, 16)
    for i in range(3):
        assert torch.allclose(frames[4 * i], render(g, points)[i : i + 1], atol=1e-5)
    ways = [(a - b).abs().mean().item() for a, b in zip(frames, [*frames[1:], frames[0]], strict=True)]
    assert max(ways) < 4 * min(ways) + 1e-3  # nowhere a jump
    opened = list(walk(g, points, 4, closed=False))
    assert len(opened) == 9
    assert torch.allclose(opened[-1], render(g, points)[2:], atol=1e-5)


def test_walks_in_z_keep_to_the_sphere():
    seen = []

    class Spy(nn.Module):
        config = {"z_dim": 4}  # noqa: RUF012

        def forward(self, z):
            seen.append(z)
            return z[:, :, None, None].expand(-1, -1, 2, 2)[:, :3]

    points = Latents(torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0]]), "z")
    list(walk(Spy(), points, 8))
    z = torch.cat(seen)[:16]
    assert torch.allclose(z.norm(dim=1), torch.tensor(2.0), atol=1e-5)
    assert torch.allclose(z[4, :2], torch.tensor([2**0.5, 2**0.5]), atol=1e-5)


def test_walks_that_lead_nowhere(g):
    with pytest.raises(SampleError, match="at least two latents"):
        list(walk(g, latents(g, [1])))
    conditional = small("dcgan", num_classes=3)
    with pytest.raises(SampleError, match="stays in one class"):
        list(walk(conditional, latents(conditional, [1, 2])))
    assert len(list(walk(conditional, latents(conditional, [1, 2], labels=1), 2))) == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_animations_are_files_that_play(workplace, channels):
    frames = [torch.full((1, channels, 15, 15), value) for value in (-1.0, 0.0, 1.0)]
    write_animation(frames, workplace / "w.gif", fps=20)
    with Image.open("w.gif") as picture:
        assert (picture.n_frames, picture.size, picture.info["duration"]) == (3, (255, 255), 50)
        assert picture.info["loop"] == 0
    write_animation(iter(frames), workplace / "w.mp4", fps=20)
    with av.open("w.mp4") as container:
        decoded = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert np.allclose(decoded, [0, 128, 255], atol=6)
    with pytest.raises(SampleError, match=r"an animation is a \.gif or \.mp4"):
        write_animation(frames, workplace / "w.avi")


class Linear(nn.Module):
    """A generator whose first layer amplifies known directions."""

    def __init__(self):
        super().__init__()
        self.config = {"z_dim": 4}
        self.layer = nn.Linear(4, 12)
        with torch.no_grad():
            self.layer.weight.zero_()
            for i, size in enumerate((1.0, 5.0, 0.1, 3.0)):
                self.layer.weight[i, i] = size

    def forward(self, z):
        return self.layer(z).unflatten(1, (3, 2, 2)).tanh()


def test_the_first_layer_is_factorised():
    found = directions(Linear(), 3)
    assert torch.allclose(found.values.abs(), torch.eye(4)[[1, 3, 0]], atol=1e-6)
    assert found.kind == "z"
    assert found.deviations.tolist() == [1, 1, 1]
    moved = found.move(Latents(torch.zeros(2, 4), "z"), 1, -2.0)
    assert torch.allclose(moved.values, torch.tensor([0.0, 0, 0, -2]).expand(2, 4), atol=1e-6)


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("name", ["dcgan", "r3gan", "vanilla"])
def test_directions_without_styles(name, classes):
    if name == "vanilla" and classes:
        return
    g = small(name, **({"num_classes": classes} if classes else {}))
    found = directions(g, 8)
    assert torch.allclose(found.values @ found.values.T, torch.eye(8), atol=1e-5)
    points = latents(g, [0], labels=1 if classes else None)
    change = [(render(g, found.move(points, i, 3)) - render(g, points)).abs().mean() for i in (0, 7)]
    assert change[0] > change[1]
    assert sheet(g, found, points).width > 7 * 16


def test_directions_of_styles(styled, workplace):
    for method in ("factorise", "components"):
        found = directions(styled, 4, method=method)
        assert found.kind == "w"
        assert torch.allclose(found.values @ found.values.T, torch.eye(4), atol=1e-5)
        w = latents(styled, list(range(200))).values[:, 0]
        assert torch.allclose((w @ found.values.T).std(0), found.deviations, rtol=0.4)
    assert (found.deviations[:-1] >= found.deviations[1:]).all()
    weights = torch.cat(styled.style_weights()).detach()
    first = directions(styled, 1).values[0]
    assert (weights @ first).square().sum().item() == pytest.approx(torch.linalg.matrix_norm(weights, 2).item() ** 2)

    points = latents(styled, [1])
    only = directions(styled, 2, layers=[0, 2])
    assert torch.equal(only.values, directions(styled, 2, layers=(2, 0)).values)
    moved = only.move(points, 0, 2.0).values - points.values
    assert moved[0, [0, 2]].abs().sum() > 0
    assert moved[0, 1].abs().sum() == moved[0, 3:].abs().sum() == 0
    only.save("d.safetensors")
    loaded = Directions.load("d.safetensors")
    assert (loaded.kind, loaded.layers) == ("w", (0, 2))
    assert torch.equal(loaded.values, only.values)
    assert torch.equal(loaded.deviations, only.deviations)


def test_the_direction_between_two_classes():
    g = small("stylegan2", num_classes=3)
    found = class_direction(g, 0, 2)
    points = latents(g, list(range(300)), labels=0)
    target = latents(g, list(range(300)), labels=2).values[:, 0].mean(0)
    before, after = points.values[:, 0].mean(0), found.move(points, 0, 1.0).values[:, 0].mean(0)
    assert (after - target).norm() < 0.2 * (before - target).norm()
    with pytest.raises(SampleError, match="choose two different ones"):
        class_direction(g, 1, 1)
    with pytest.raises(SampleError, match="no direction between classes"):
        class_direction(small("dcgan", num_classes=3), 0, 1)


def test_directions_that_do_not_exist(styled):
    dcgan = small("dcgan")
    for n in (0, 9):
        with pytest.raises(SampleError, match="1 to 8 directions here"):
            directions(dcgan, n)
    with pytest.raises(SampleError, match="components are those of styles"):
        directions(dcgan, method="components")
    with pytest.raises(SampleError, match="layers are those of styles"):
        directions(dcgan, layers=[0])
    with pytest.raises(SampleError, match="there is no such layer"):
        directions(styled, 2, layers=[99])
    with pytest.raises(SampleError, match="the method is factorise or components"):
        directions(styled, 2, method="sum")
    found = directions(dcgan, 2)
    with pytest.raises(SampleError, match="there is no direction 2: this file has 0 to 1"):
        found.move(latents(dcgan, [1]), 2, 1.0)
    with pytest.raises(SampleError, match="these directions are of z with 8 numbers, the latents are of w"):
        found.move(latents(styled, [1]), 0, 1.0)


FOREIGN = {
    "no deviations": {"directions.z": torch.ones(2, 8)},
    "more": {"directions.z": torch.ones(2, 8), "deviations": torch.ones(2), "x": torch.ones(1)},
    "shape": {"directions.z": torch.ones(2, 8), "deviations": torch.ones(3)},
    "NaN": {"directions.z": torch.full((2, 8), torch.nan), "deviations": torch.ones(2)},
    "layers": {"directions.w": torch.ones(2, 8), "deviations": torch.ones(2), "layers": torch.tensor([-1])},
}


@pytest.mark.parametrize("case", FOREIGN)
def test_files_that_are_no_directions(workplace, case):
    save_file(FOREIGN[case], "d.safetensors")
    with pytest.raises(SampleError):
        Directions.load("d.safetensors")


def test_inversion_finds_images_of_the_generator(g):
    targets = ganzoo.sample(g, 3, seed=7)
    result = invert(g, targets, steps=150, features="none", seed=1)
    assert result.images.shape == targets.shape
    assert torch.allclose(render(g, result.latents), result.images, atol=1e-5)
    best = (targets[:, None] - ganzoo.sample(g, 200, seed=8)[None]).square().mean((2, 3, 4)).amin(1)
    assert (result.distances < 0.5 * best).all()
    again = invert(g, targets, steps=150, features="none", seed=1)
    assert torch.equal(result.latents.values, again.latents.values)
    assert all(p.grad is None for p in g.parameters())


def test_inversion_by_class():
    g = small("dcgan", num_classes=3)
    targets = ganzoo.sample(g, 2, seed=7, labels=[2, 1])
    result = invert(g, targets, steps=60, starts=1, features="none", labels=[2, 1])
    assert result.latents.labels.tolist() == [2, 1]
    with pytest.raises(SampleError, match="say of which class the pictures are"):
        invert(g, targets, steps=1, features="none")
    styled = small("stylegan2", num_classes=3)
    assert invert(styled, targets, steps=1, features="none").latents.labels is None
    assert result.distances.max() < 0.05


def test_inversions_that_are_refused(g):
    with pytest.raises(SampleError, match=r"images of shape \(2, 3, 8, 8\): this generator's are \(3, 16, 16\)"):
        invert(g, torch.zeros(2, 3, 8, 8), steps=1, features="none")
    with pytest.raises(SampleError, match="steps and starts are at least 1"):
        invert(g, torch.zeros(1, 3, 16, 16), steps=0, features="none")
    with pytest.raises(EvaluationError, match="a perceptual distance takes"):
        invert(g, torch.zeros(1, 3, 16, 16), steps=1, features="inception")


def test_styles_are_mixed_on_a_sheet(styled):
    picture = mix(styled, [1, 2], [3, 4, 5])
    assert picture.size == (4 * 18 + 2, 3 * 18 + 2)
    cells = np.asarray(picture)[2:, 2:].reshape(3, 18, 4, 18, 3)[:, :16, :, :16].transpose(0, 2, 1, 3, 4)
    assert not cells[0, 0].any()
    half = styled.layers // 2
    rows, columns = latents(styled, [1, 2]).values, latents(styled, [3, 4, 5]).values
    w = torch.cat([rows[1, :half], columns[2, half:]])[None]
    expected = render(styled, Latents(w, "w"))[0].clamp(-1, 1)
    assert np.abs(cells[2, 3].transpose(2, 0, 1) / 127.5 - 1 - expected.numpy()).max() < 0.02
    with pytest.raises(SampleError, match="this generator has none"):
        mix(small("dcgan"), [1], [2])


@pytest.fixture
def model(styled, workplace):
    write_model(workplace / "model", "stylegan2", "x", styled, discriminator_config={})
    return "./model"


def test_the_commands(model, ganzoo_cli, workplace, styled):
    def run(*arguments):
        code, out, err = ganzoo_cli(*arguments)
        assert code == 0, err
        return out.split()

    assert run("walk", model, "--seeds", "1,5", "--frames", "2", "-o", "w.mp4") == ["w.mp4"]
    assert run("walk", model, "--seeds", "1,5", "--frames", "2", "--open", "--set", "truncation=0.5") == [
        "model-walk.gif"
    ]
    assert run("directions", model, "-n", "2", "-o", "d.safetensors") == ["d.safetensors", "d.png"]
    assert run("directions", model, "-n", "2", "--layers", "0-1,3", "--method", "components", "-o", "e.safetensors")
    assert Directions.load("e.safetensors").layers == (0, 1, 3)
    run("sample", model, "--seeds", "1,5", "-o", "seeds.npy")
    run("sample", model, "--seeds", "1,5", "--direction", "d.safetensors:1", "--strength", "-2", "-o", "moved.npy")
    run("sample", model, "-n", "2", "--direction", "d.safetensors:1", "--strength", "0", "-o", "still.npy")
    run("sample", model, "-n", "2", "-o", "plain.npy")
    seeds, moved, still, plain = (np.load(f"{n}.npy").astype(int) for n in ("seeds", "moved", "still", "plain"))
    assert abs(seeds - moved).max() > 3
    assert abs(still - plain).max() <= 1
    run("sample", model, "--mix", "1x2", "-o", "mix.png")
    Image.fromarray(seeds[0].astype(np.uint8)).save("photo.png")
    out = run("invert", model, "photo.png", "photo.png", "-o", "inverted", "--steps", "3", "--features", "none")
    assert out == ["inverted"]
    rows = json.loads((workplace / "inverted/distances.json").read_text())
    assert [row["image"] for row in rows] == ["photo.png", "photo.png"]
    run("sample", model, "--latents", "inverted/latents.safetensors", "-o", "l.npy")
    assert np.load("l.npy").shape == (2, 16, 16, 3)
    run("walk", model, "--latents", "inverted/latents.safetensors", "--frames", "2", "-o", "l.gif")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["walk", "--seeds", "1"], "at least two latents"),
        (["walk"], "choose images by --seeds 1,5,9 or by --latents FILE"),
        (["walk", "--seeds", "a,b"], "--seeds takes whole numbers"),
        (["walk", "--seeds", "1,2", "-o", "w.avi"], "an animation is a .gif or .mp4"),
        (["walk", "--latents", "l.safetensors", "--set", "truncation=0.5"], "a file's latents have them already"),
        (["sample", "--walk", "--seeds", "1", "-o", "w.gif"], "`ganzoo walk` leads from one to the next"),
        (["sample", "--direction", "d.safetensors"], "--direction takes FILE:K"),
        (["sample", "--mix", "3"], "--mix takes rows and columns"),
        (["sample", "--mix", "1x2", "-o", "sheets/"], "a sheet of --mix is one picture"),
        (["sample", "--mix", "1x2", "-o", "mix.npy"], "a sheet of --mix is one picture"),
        (["sample", "--mix", "1x2", "--walk", "-o", "w.gif"], "--walk and --mix"),
        (["sample", "--mix", "1x2", "--seeds", "1"], "--mix 1x2 takes 3 seeds"),
        (["sample", "--seeds", "1", "--class", "2"], "this generator is unconditional"),
        (["directions", "-o", "d.pt"], "directions are written to a .safetensors file"),
        (["directions", "--layers", "x"], "--layers takes numbers and ranges"),
        (["directions", "--classes", "1,2"], "this generator is unconditional"),
        (["invert", "none.png", "-o", "x"], "none.png is no file"),
        (["invert", "text.png", "-o", "x"], "text.png cannot be read as an image"),
    ],
)
def test_commands_that_are_refused(model, ganzoo_cli, workplace, styled, arguments, message):
    (workplace / "text.png").write_text("no picture")
    latents(styled, [1, 2]).save("l.safetensors")
    command, *rest = arguments
    code, out, err = ganzoo_cli(command, model, *rest)
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
