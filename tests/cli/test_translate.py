"""`ganzoo sample --inputs`: pictures of a file, a folder or a zip through a generator that translates."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ganzoo
from ganzoo import hookimpl
from ganzoo.data import make_inputs
from ganzoo.store.save import write_model


class Negative(nn.Module):
    """The negative of grey inputs in colour, tinted by the latent, and enlarged `scale` times."""

    multiple = 2

    def __init__(self, z_dim=3, image_size=8, channels=3, input_channels=1, scale=1):
        super().__init__()
        self.scale = scale
        self.tint = nn.Parameter(torch.tensor([0.0, 0.1, 0.0])[:, None, None])

    def forward(self, z, *, inputs, tinted=0.0):
        x = inputs.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return -x.expand(-1, 3, -1, -1) + tinted * self.tint * z[:, :, None, None]


class Judge(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.layer = nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        return self.layer(x).mean((1, 2, 3))


class Plugin:
    @hookimpl
    def register_architectures(self, register):
        register("negative", generator=Negative, discriminator=Judge)


@pytest.fixture
def source(workplace):
    ganzoo.register(Plugin())

    def make(**settings):
        g, d = ganzoo.create("negative", **settings)
        write_model(workplace / "model", "negative", "test", g, discriminator_config=d.config)
        return "./model"

    yield make
    ganzoo.unregister("Plugin")


@pytest.fixture
def photos(workplace):
    """Three grey pictures of different sizes, one of them in a folder below; by name, uint8 (H, W)."""
    pixels = {}
    for i, (name, size) in enumerate((("a", (5, 8)), ("b", (7, 4)), ("deep/c", (5, 8)))):
        pixels[name] = np.random.default_rng(i).integers(0, 256, size, dtype=np.uint8)
        path = workplace / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[name]).save(path)
    return pixels


def read(path):
    return np.asarray(Image.open(path))


def test_a_folder_keeps_names_and_sizes(ganzoo_cli, source, photos, workplace):
    code, out, err = ganzoo_cli("sample", source(), "--inputs", "photos", "-o", "out/")
    assert (code, out) == (0, "out\n"), err
    assert sorted(p.relative_to(workplace / "out").as_posix() for p in (workplace / "out").rglob("*.png")) == [
        "a.png", "b.png", "deep/c.png",
    ]  # fmt: skip
    for name, pixels in photos.items():
        assert np.array_equal(read(f"out/{name}.png"), np.repeat(255 - pixels[:, :, None], 3, 2))


def test_a_zip_and_a_single_picture(ganzoo_cli, source, photos):
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write("photos/a.png", "x/a.png")
    model = source()
    assert ganzoo_cli("sample", model, "--inputs", "photos.zip", "-o", "zip/")[0] == 0
    assert ganzoo_cli("sample", model, "--inputs", "photos/a.png", "-o", "one/")[0] == 0
    assert np.array_equal(read("zip/x/a.png"), read("one/a.png"))


def test_several_outputs_of_each(ganzoo_cli, source, photos):
    common = ["--inputs", "photos", "-n", "2", "--set", "tinted=5"]
    assert ganzoo_cli("sample", source(), *common, "-o", "out/")[0] == 0
    first, second = read("out/b-0.png"), read("out/b-1.png")
    assert np.array_equal(first[:, :, 0], second[:, :, 0])  # only the green one is tinted
    assert not np.array_equal(first[:, :, 1], second[:, :, 1])
    assert ganzoo_cli("sample", "./model", *common, "-o", "again/")[0] == 0
    assert np.array_equal(read("again/b-1.png"), second)


def test_a_larger_output(ganzoo_cli, source, photos):
    assert ganzoo_cli("sample", source(scale=2), "--inputs", "photos", "-o", "out/")[0] == 0
    assert read("out/b.png").shape == (14, 8, 3)


def test_a_grid_shows_input_output_and_what_the_input_was_made_from(ganzoo_cli, source, photos):
    model = source()
    assert ganzoo_cli("sample", model, "--inputs", "photos", "-o", "grid.png")[0] == 0
    assert ganzoo_cli("sample", model, "--inputs", "photos", "--make", "edges", "-o", "edges.png")[0] == 0
    plain, made = read("grid.png"), read("edges.png")
    cells = [made[2:10, 2 + 10 * i : 10 + 10 * i] for i in range(3)]
    original = torch.from_numpy(cells[2].copy()).permute(2, 0, 1)[None]
    edges = make_inputs(original, "edges")[0, 0].numpy()
    assert np.array_equal(cells[0][:, :, 0], edges)
    assert np.array_equal(cells[1][:, :, 0], 255 - edges)
    assert np.array_equal(plain[2:10, 12:20], 255 - plain[2:10, 2:10])


def test_pictures_are_resized_by_their_shorter_side(ganzoo_cli, source, photos):
    assert ganzoo_cli("sample", source(), "--inputs", "photos", "--resize", "12", "-o", "out/")[0] == 0
    assert read("out/a.png").shape == (12, 19, 3)
    assert ganzoo_cli("sample", "./model", "--inputs", "photos", "--resize", "12", "-o", "out.npy")[0] == 0
    assert np.load("out.npy").shape == (3, 12, 12, 3)


def test_pictures_of_one_name_and_an_unreadable_one(ganzoo_cli, source, photos, workplace):
    Image.fromarray(photos["a"]).save("photos/a.bmp")
    (workplace / "photos" / "bad.jpg").write_bytes(b"no picture")
    code, _, err = ganzoo_cli("sample", source(), "--inputs", "photos", "-o", "out/")
    assert code == 0
    assert "bad.jpg of photos cannot be read and is skipped" in err
    assert {path.name for path in (workplace / "out").glob("*.png")} == {"a.bmp.png", "a.png.png", "b.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--inputs", "none"], "there is no picture, folder or zip none"),
        (["--inputs", "photos", "--walk", "-o", "w.gif"], "--inputs go with -n, --seed, --class and --set"),
        (["--make", "edges"], "--make and --resize are about pictures to translate: add --inputs PATH"),
        (["--inputs", "photos", "--make", "edgs"], "no inputs are called 'edgs'"),
        (["--inputs", "photos", "--class", "1"], "this generator is unconditional"),
        ([], "this generator translates: give it inputs"),
        (["--inputs", "empty"], "there are no images in empty"),
    ],
)
def test_what_cannot_be_translated(ganzoo_cli, source, photos, workplace, arguments, message):
    (workplace / "empty").mkdir()
    out = [] if "-o" in arguments else ["-o", "out.png"]
    code, _, err = ganzoo_cli("sample", source(), *arguments, *out)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1
    assert not (workplace / "out.png").exists()
