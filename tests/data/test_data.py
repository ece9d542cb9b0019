"""Data: what a spec gives, what is refused, and batches by counter."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo import ConfigError, Data, DataError, UnknownNameError
from ganzoo.data.dataset import Batches
from ganzoo.data.loading import load


def picture(size=(40, 30), colour=(200, 50, 10), mode="RGB"):
    return Image.new("RGB", size, colour).convert(mode)


def fill(folder, n, suffix=".jpg", **options):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        picture(**options).save(folder / f"{i:03d}{suffix}")


def test_digits_are_mnist():
    data = load("digits")
    assert data.items.shape == (10_000, 1, 28, 28)
    assert data.items.dtype == torch.uint8
    assert data.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert torch.bincount(data.labels).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (64, 3), (14, 1)])
def test_digits_at_another_size(size, channels):
    data = load("digits", image_size=size, channels=channels)
    assert data.items.shape == (10_000, channels, size, size)
    # The same ink: resizing keeps the mean.
    assert data.items[:100].float().mean().item() == pytest.approx(
        load("digits").items[:100].float().mean().item(), abs=2
    )


def test_torchvision_names_read_torchvisions_files(tmp_path):
    """MNIST's IDX files, a few images long, where torchvision looks for them."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8)
    for part, n in (("train", 3), ("t10k", 2)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 2051, n, 28, 28) + pixels[: n * 784].tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + bytes(range(n)))
    data = load("mnist", str(tmp_path))
    assert data.items.shape == (3, 1, 28, 28)
    assert torch.equal(data.items.flatten(), torch.from_numpy(pixels))
    assert data.labels.tolist() == [0, 1, 2]
    assert data.classes == load("digits", image_size=8).classes == list("0123456789")
    assert len(load("mnist", str(tmp_path), options={"split": "test"}).items) == 2
    with pytest.raises(DataError, match="train or test"):
        load("mnist", str(tmp_path), options={"split": "valid"})


def test_sprites_are_symmetric_creatures_in_the_colour_of_their_class():
    data = load("sprites", options={"n": 200})
    assert data.items.shape == (200, 3, 32, 32)
    assert data.digest() == load("sprites", options={"n": 200}).digest()
    assert torch.equal(data.items, data.items.flip(3))
    assert len({image.numpy().tobytes() for image in data.items}) == 200
    of = {name: data.labels == i for i, name in enumerate(data.classes)}
    assert all(own.any() for own in of.values())
    colours = data.items[:, :, 8:24, 8:24].float().mean((2, 3))
    assert colours[of["red"]].argmax(1).bincount(minlength=3).argmax() == 0
    assert colours[of["green"]].argmax(1).bincount(minlength=3).argmax() == 1
    assert colours[of["blue"]].argmax(1).bincount(minlength=3).argmax() == 2
    with pytest.raises(DataError, match="at least 1"):
        load("sprites", options={"n": 0})


def test_stacked_mnist_is_three_digits_drawn_by_counter(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    n = 10
    pixels = np.arange(n, dtype=np.uint8).repeat(784)
    (raw / "train-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, n, 28, 28) + pixels.tobytes())
    (raw / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + bytes(range(n)))
    for part in ("images-idx3", "labels-idx1"):
        (raw / f"t10k-{part}-ubyte").write_bytes((raw / f"train-{part}-ubyte").read_bytes())
    data = load("stacked_mnist", str(tmp_path))
    assert tuple(data.items.shape) == (128_000, 3, 28, 28)
    assert data.items.nbytes < 4e6  # what they would take is 301 MB
    some = data.items[torch.tensor([5, 70_000, 5])]
    assert (some.shape, some.dtype) == ((3, 3, 28, 28), torch.uint8)
    assert torch.equal(some[0], some[2])
    assert data.classes is None
    digits = data.items[:2000][:, :, 0, 0].long()
    assert torch.equal((digits * torch.tensor([100, 10, 1])).sum(1), data.labels[:2000])
    assert len(data.labels.unique()) == 1000
    assert data.digest() == load("stacked_mnist", str(tmp_path)).digest()
    assert data.digest() != load("stacked_mnist", str(tmp_path), options={"split": "test"}).digest()
    items, labels, _ = Batches(data, 64, 0, torch.device("cpu")).get(0)
    assert items.shape == (64, 3, 28, 28)
    assert torch.equal(
        (items[:, :, 3, 3] + 1).mul(127.5).round().long(), labels[:, None] // torch.tensor([100, 10, 1]) % 10
    )
    assert tuple(load("stacked_mnist", str(tmp_path), image_size=32).items[:4].shape) == (4, 3, 32, 32)
    with pytest.raises(ConfigError, match="3 channels cannot have 1"):
        load("stacked_mnist", str(tmp_path), channels=1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".gif", ".tiff", ".ppm"])
def test_folder_in_any_usual_format(tmp_path, suffix):
    fill(tmp_path / "images", 3, suffix)
    data = load(str(tmp_path / "images"), image_size=16)
    assert data.items.shape == (3, 3, 16, 16)
    assert data.labels is None
    assert np.abs(data.items[0, :, 8, 8].numpy().astype(int) - (200, 50, 10)).max() < 12


def test_nested_folder_and_zip_have_labels(tmp_path):
    fill(tmp_path / "images" / "cat", 2)
    fill(tmp_path / "images" / "ant" / "red", 3)
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    fill(tmp_path / "images" / ".hidden", 1)
    flat = load(str(tmp_path / "images"))
    assert flat.labels.tolist() == [0, 0, 0, 1, 1]
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted((tmp_path / "images").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "images"))
    zipped = load(str(tmp_path / "images.zip"))
    assert torch.equal(zipped.items, flat.items)
    assert torch.equal(zipped.labels, flat.labels)
    assert zipped.classes == flat.classes == ["red", "cat"]


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["train/teal", "train/a b", "test/teal", "test/a b"], ["a b", "teal"]),
        (["10", "9", "1"], ["1", "10", "9"]),
        (["x/cats/small", "x/cats/large", "x/dogs/small"], ["cats/large", "cats/small", "dogs/small"]),
        (["x/a", "x/b/a", "x"], [".", "a", "b/a"]),
        (["", "one"], [".", "one"]),
        (["one"], None),
    ],
)
def test_classes_have_the_names_of_their_folders(tmp_path, folders, names):
    for folder in folders:
        fill(tmp_path / "images" / folder, 1, ".png", size=(8, 8))
    data = load(str(tmp_path / "images"))
    assert data.classes == names
    assert (data.labels is None) == (names is None)
    assert load(str(tmp_path / "images"), image_size=4).classes == names


def test_a_folder_whose_name_cannot_be_printed_leaves_all_classes_without_names(tmp_path, caplog):
    for name in ("a", "b\x1b[2J"):
        fill(tmp_path / "images" / name, 1, ".png", size=(8, 8))
    data = load(str(tmp_path / "images"))
    assert data.classes is None
    assert data.labels.tolist() == [0, 1]
    assert "numbers only, no names: the name of class 1 is not a string of 1 to 256 printable characters" in caplog.text


def test_size_and_channels_come_from_the_data(tmp_path):
    fill(tmp_path / "small", 2, ".png", size=(20, 20))
    fill(tmp_path / "grey", 2, ".png", size=(90, 70), mode="L")
    assert load(str(tmp_path / "small")).items.shape == (2, 3, 20, 20)
    assert load(str(tmp_path / "grey")).items.shape == (2, 1, 64, 64)


def test_centre_crop_upright_and_on_white(tmp_path):
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste("white", (30, 0, 60, 30))  # the middle third, all that a centre crop keeps
    wide.save(tmp_path / "wide.png")
    assert load(str(tmp_path), image_size=8).items.min() == 255
    (tmp_path / "wide.png").unlink()

    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert load(str(tmp_path), image_size=8).items.min() == 255
    (tmp_path / "clear.png").unlink()

    turned = Image.new("RGB", (8, 8), "black")
    turned.paste("white", (0, 0, 8, 4))
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    items = load(str(tmp_path), image_size=8).items
    assert (items[0, 0, 0, 0], items[0, 0, 7, 0]) == (0, 255)
    (tmp_path / "turned.png").unlink()

    deep = Image.fromarray(np.full((8, 8), 128 << 8, np.uint16))
    deep.save(tmp_path / "deep.png")
    assert load(str(tmp_path), image_size=8).items.unique().tolist() == [128]


def test_resizing_is_antialiased(tmp_path):
    """A checkerboard of single pixels shrinks to grey, not to moire."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    items = load(str(tmp_path), image_size=16).items.float()
    assert items[:, :, 1:-1, 1:-1].sub(127.5).abs().max() < 12


def test_a_few_unreadable_images_are_told_and_skipped(tmp_path, caplog):
    fill(tmp_path / "images" / "a", 100, ".png", size=(8, 8))
    fill(tmp_path / "images" / "b", 100, ".png", size=(8, 8))
    (tmp_path / "images" / "a" / "bad.png").write_bytes(b"not a png")
    data = load(str(tmp_path / "images"))
    assert len(data.items) == 200
    assert torch.bincount(data.labels).tolist() == [100, 100]
    assert "bad.png" in caplog.text


def test_many_unreadable_images_are_an_error(tmp_path):
    fill(tmp_path / "images", 10, ".png", size=(8, 8))
    whole = (tmp_path / "images" / "000.png").read_bytes()
    (tmp_path / "images" / "000.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"1 of 10 images.*000.png"):
        load(str(tmp_path / "images"))


def test_none_readable(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 1"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("digit", UnknownNameError, "did you mean 'digits'"),
        ("./nowhere", DataError, "no folder or zip"),
        ("nowhere.zip", DataError, "no folder or zip"),
        ("empty", DataError, "no images"),
        ("text.zip", DataError, "neither a folder nor a zip"),
    ],
)
def test_bad_spec(tmp_path, spec, error, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(error, match=message):
        load(spec)


def test_encrypted_or_truncated_zip(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", gzip.compress(b"x" * 1000))
    (tmp_path / "bad.zip").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"a\.png"):
        load("bad.zip")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Data(torch.zeros(3, 8, 8, dtype=torch.uint8)), "N, C, H, W"),
        (lambda: Data(torch.zeros(3, dtype=torch.int64)), "uint8 images or floats"),
        (lambda: Data(torch.zeros(3, 2), labels=torch.zeros(2)), "2 labels for 3 items"),
        (lambda: Data(torch.zeros(3, 2), classes=["a"]), "no labels"),
        (lambda: named(["a", "b"]), "2 names for 3 classes"),
        (lambda: named(["a", "b", "a"]), "two classes are called 'a'"),
        (lambda: named(["a", " ", "c"]), "the name of class 1"),
        (lambda: named(["a", "b", 3]), "the name of class 2"),
        (lambda: named(["a", "b", "c" * 257]), "the name of class 2"),
        (lambda: named([f"{i:0256}" for i in range(2100)]), "longer than 524,288 bytes"),
    ],
)
def test_data_refuses(make, message):
    with pytest.raises(DataError, match=message):
        make()


def named(classes):
    return Data(torch.zeros(3, 2), labels=torch.arange(3), classes=classes)


def test_a_part_of_the_data_keeps_the_names_of_classes_that_are_not_in_it():
    assert named(["a", "b", "c", "d"]).classes == ["a", "b", "c", "d"]
    assert Data(torch.zeros(0, 2), labels=torch.zeros(0), classes=["a"]).classes == ["a"]


# Batches


def batches(n=10, size=4, **options):
    items = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2).contiguous()
    return Batches(Data(items, labels=torch.arange(n)), size, seed=0, device=torch.device("cpu"), **options)


def test_pairs_that_named_data_brings_are_drawn_apart_on_demand():
    class Pairs:
        @ganzoo.hookimpl
        def register_data(self, register):
            numbers = torch.arange(20.0)[:, None]
            register("pairs", lambda: Data(numbers, inputs=numbers))

    ganzoo.register(Pairs(), "pairs")
    try:
        for options, same in (({}, True), ({"paired": False}, False)):
            items, _, inputs = Batches(load("pairs", options=options), 20, 0, torch.device("cpu")).get(0)
            assert torch.equal(items, inputs) == same
            assert torch.equal(items.sort(0).values, inputs.sort(0).values)
    finally:
        ganzoo.unregister("pairs")


def test_batches_are_a_function_of_the_counter():
    forward, backward = batches(), batches()
    drawn = [forward.get(k)[0] for k in range(20)]
    for k in reversed(range(20)):
        assert torch.equal(backward.get(k)[0], drawn[k])


def test_every_item_comes_once_an_epoch():
    b = batches(n=10, size=4)
    order = torch.cat([b.indices(k) for k in range(10)])  # four epochs
    for epoch in order.split(10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert order[:10].tolist() != order[10:20].tolist()


def test_items_are_scaled_and_labels_go_along():
    b = batches(n=256, size=256)
    items, labels, inputs = b.get(0)
    assert inputs is None
    assert torch.allclose(items[:, 0, 0, 0], labels / 127.5 - 1)
    assert (items.min(), items.max()) == (-1, 1)


def test_flip_mirrors_about_half():
    items = torch.tensor([0, 255], dtype=torch.uint8).expand(400, 1, 1, 2)
    b = Batches(Data(items), 400, seed=0, device=torch.device("cpu"), flip=True)
    mirrored = b.get(0)[0][:, 0, 0, 0] == 1
    assert 150 < mirrored.sum() < 250
    assert torch.equal(b.get(0)[0], b.get(0)[0])
    assert not torch.equal(b.get(0)[0], b.get(1)[0])


def test_fewer_items_than_a_batch():
    with pytest.raises(DataError, match="3 items are fewer than a batch of 4"):
        batches(n=3)


def test_flip_wants_images():
    with pytest.raises(ConfigError, match="flip"):
        Batches(Data(torch.zeros(8, 2)), 4, seed=0, device=torch.device("cpu"), flip=True)
