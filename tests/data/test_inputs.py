"""Inputs of a translation: what a spec gives, how images are paired, and the batches of both."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo import ConfigError, Data, DataError, UnknownNameError
from ganzoo.data import make_inputs
from ganzoo.data.dataset import Batches
from ganzoo.data.inputs import Made, rectangles
from ganzoo.data.loading import has_test_split, load

CPU = torch.device("cpu")


def images(n=12, channels=3, size=16):
    return torch.randint(0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(n)).byte()


def save(path, value, size=(8, 8)):
    """A picture of one grey value, by which it can be recognised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def values(pictures):
    return [int(row.float().mean().round()) for row in pictures]


# Inputs made from images


def test_grey_is_the_luminance():
    x = images()
    expected = [np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L")) for p in x]
    assert (make_inputs(x, "grey")[:, 0].int() - torch.from_numpy(np.stack(expected)).int()).abs().max() <= 1
    assert torch.equal(make_inputs(x[:, :1], "grey"), x[:, :1])


def test_edges_are_dark_where_the_luminance_changes():
    x = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    x[..., 4:] = 100
    edges = make_inputs(x, "edges")
    assert edges.shape == (1, 1, 8, 8)
    assert edges[0, 0, 3].tolist() == [255, 255, 255, 155, 155, 255, 255, 255]
    assert make_inputs(torch.full((1, 1, 5, 5), 7).byte(), "edges").unique().tolist() == [255]


def test_a_masked_image_lacks_one_rectangle_of_its_own():
    x = images(200, 3, 32)
    masked = make_inputs(x, "masked")
    for number, (top, left, height, width) in enumerate(rectangles(torch.arange(200), 32, 32).tolist()):
        assert 8 <= height <= 16
        assert 8 <= width <= 16
        inside = torch.zeros(32, 32, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        assert masked[number][:, inside].unique().tolist() == [128]
        assert torch.equal(masked[number][:, ~inside], x[number][:, ~inside])
    starts = rectangles(torch.arange(200), 32, 32)[:, :2].float()
    assert starts.std(0).min() > 4  # not the same for all


def test_smaller_ones_agree_with_pillow():
    x = images(4, 3, 32)
    small = make_inputs(x, "smaller=4")
    expected = [np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).resize((8, 8), Image.BICUBIC)) for p in x]
    assert (small.permute(0, 2, 3, 1).int() - torch.from_numpy(np.stack(expected)).int()).abs().max() <= 1


@pytest.mark.parametrize("spec", ["edges", "grey", "masked", "smaller=2"])
def test_made_inputs_are_indexed_like_a_tensor(spec):
    x = images()
    made, whole = Made(x, spec), make_inputs(x, spec)
    assert made.shape == whole.shape
    assert len(made) == 12
    rows = torch.tensor([5, 0, 11])
    assert torch.equal(made[rows], whole[rows])
    assert torch.equal(made[4], whole[4])
    assert torch.equal(made[3:7], whole[3:7])


@pytest.mark.parametrize("spec", ["smaller=3", "smaller=0", "edges=2", "masked="])
def test_no_such_made_inputs(spec):
    with pytest.raises(ConfigError, match="choose edges, grey, masked or smaller=K"):
        Made(images(), spec)


def test_images_that_cannot_be_reduced():
    with pytest.raises(ConfigError, match="28x28 pixels cannot be reduced 8 times"):
        load("digits", inputs="smaller=8")
    with pytest.raises(DataError, match="'grey' are made from images, and this data has none"):
        Made(torch.zeros(4, 2), "grey")
    with pytest.raises(ConfigError, match=r"made from the images \(edges\) have their size"):
        load("digits", inputs="edges", options={"input_size": 14})


def test_edges_of_digits():
    data = load("digits", inputs="edges", image_size=20)
    assert data.inputs.shape == (10_000, 1, 20, 20)
    assert data.paired
    assert torch.equal(data.inputs[:5], make_inputs(data.items[:5], "edges"))


# Pairs of files


def test_pairs_have_the_same_names(tmp_path, caplog):
    for i in range(6):
        save(tmp_path / "out" / f"{i}.png", 100 + i)
    for i in range(1, 8):
        save(tmp_path / "in" / f"{i}.jpg", 10 * i)
    data = load("./out", inputs="./in")
    assert values(data.items) == [101, 102, 103, 104, 105]
    assert values(data.inputs) == [10, 20, 30, 40, 50]
    assert "left out 1 of 6 images of out without a partner: 0.png" in caplog.text
    assert "left out 2 of 7 images of in without a partner: 6.jpg, 7.jpg" in caplog.text


def test_pairs_in_class_folders_and_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for i, name in enumerate(("x/1", "x/2", "y/1")):
            save(tmp_path / "out" / f"{name}.png", 50 + i)
            buffer = io.BytesIO()
            Image.new("L", (8, 8), 150 + i).save(buffer, "png")
            archive.writestr(f"{name}.png", buffer.getvalue())
    data = load("./out", inputs="in.zip")
    assert values(data.items) == [50, 51, 52]
    assert values(data.inputs) == [150, 151, 152]
    assert data.labels.tolist() == [0, 0, 1]
    assert data.classes == ["x", "y"]


def test_a_pair_of_which_one_cannot_be_read(tmp_path):
    for i in range(250):
        save(tmp_path / "out" / f"{i:03d}.png", i)
        save(tmp_path / "in" / f"{i:03d}.png", 255 - i)
    (tmp_path / "out" / "010.png").write_bytes(b"no picture")
    (tmp_path / "in" / "020.png").write_bytes(b"no picture")
    data = load("./out", inputs="./in")
    kept = [i for i in range(250) if i not in (10, 20)]
    assert values(data.items) == kept
    assert values(data.inputs) == [255 - i for i in kept]


def test_no_partners_and_ambiguous_ones(tmp_path):
    save(tmp_path / "out" / "a.png", 1)
    save(tmp_path / "in" / "b.png", 1)
    with pytest.raises(DataError, match=r"no image of out has the name of one in in, as a.png and b.png"):
        load("./out", inputs="./in")
    save(tmp_path / "in" / "a.png", 1)
    save(tmp_path / "in" / "a.jpg", 1)
    with pytest.raises(DataError, match="in has several images called 'a'"):
        load("./out", inputs="./in")


def test_unpaired_ones_may_differ_in_number_and_size(tmp_path):
    for i in range(3):
        save(tmp_path / "out" / f"{i}.png", i)
    for i in range(5):
        save(tmp_path / "in" / f"photo{i}.png", 100 + i, (20, 10))
    data = load("./out", inputs="./in", options={"paired": False, "input_size": 4})
    assert values(data.items) == [0, 1, 2]
    assert values(data.inputs) == [100, 101, 102, 103, 104]
    assert data.inputs.shape[2:] == (4, 4)
    assert not data.paired


def test_halves_of_each_picture(tmp_path):
    for i in range(3):
        wide = Image.new("L", (20, 10), 10 + i)
        wide.paste(200 + i, (10, 0, 20, 10))
        (tmp_path / "both" / "train").mkdir(parents=True, exist_ok=True)
        wide.save(tmp_path / "both" / "train" / f"{i}.png")
    data = load("./both", inputs="left")
    assert values(data.inputs) == [10, 11, 12]
    assert values(data.items) == [200, 201, 202]
    assert data.items.shape == data.inputs.shape == (3, 1, 10, 10)
    assert values(load("./both", inputs="right").items) == [10, 11, 12]


def test_sides_in_folders_of_their_own(tmp_path):
    for folder, first in (("trainA", 10), ("trainB", 20), ("testA", 30), ("testB", 40)):
        for i in range(2 if folder != "trainA" else 3):
            save(tmp_path / "set" / folder / f"{i}.png", first + i)
    data = load("./set", inputs="A", options={"paired": False})
    assert values(data.inputs) == [10, 11, 12]
    assert values(data.items) == [20, 21]
    test = load("./set", inputs="B", options={"split": "test"})
    assert values(test.inputs) == [40, 41]
    assert values(test.items) == [30, 31]
    assert test.paired
    assert has_test_split("./set", "A")
    for i in range(2):
        save(tmp_path / "plain" / "A" / f"{i}.png", i)
        save(tmp_path / "plain" / "B" / f"{i}.png", 100 + i)
    assert values(load("./plain", inputs="A").items) == [100, 101]
    assert not has_test_split("./plain", "A")
    with pytest.raises(DataError, match="has no images in a folder A or trainA"):
        load("./plain/B", inputs="B")
    with pytest.raises(DataError, match="no split 'test'"):
        load("./plain", inputs="A", options={"split": "test"})


def test_columns_of_a_hub_data_set(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    columns = {
        name: [Image.new("L", (8, 8), first + i) for i in range(4)] for name, first in (("photo", 10), ("sketch", 100))
    }
    features = datasets.Features({name: datasets.Image() for name in columns})
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    data = load("hf:./set", inputs="column=sketch", options={"column": "photo"})
    assert values(data.items) == [10, 11, 12, 13]
    assert values(data.inputs) == [100, 101, 102, 103]
    with pytest.raises(DataError, match="no column 'paint'"):
        load("hf:./set", inputs="column=paint", options={"column": "photo"})
    with pytest.raises(ConfigError, match="take --inputs column=NAME"):
        load("hf:./set", inputs="left")


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        ("edgs", {}, UnknownNameError, "no inputs are called 'edgs' .*did you mean 'edges'"),
        ("", {}, ConfigError, "--inputs is empty"),
        ("./none", {}, DataError, "no folder or zip ./none"),
        ("gaussian", {}, ConfigError, "have no names to be paired by"),
        ("column=x", {}, ConfigError, "is a column of a Hub data set, hf:ORG/NAME, which digits is not"),
        ("left", {}, ConfigError, "--inputs left is for folders and zips, which digits is not"),
        (None, {"paired": False}, ConfigError, "data.paired is about inputs, and there are none: add --inputs edges"),
        ("edges", {"padding": 1}, ConfigError, "'digits' has no setting 'padding'"),
    ],
)
def test_inputs_that_are_refused(inputs, options, error, message):
    with pytest.raises(error, match=message):
        load("digits", inputs=inputs, options=options)


def test_named_data_as_unpaired_inputs():
    data = load("digits", inputs="digits", options={"paired": False, "input_size": 14})
    assert data.inputs.shape == (10_000, 1, 14, 14)
    assert not data.paired


# Batches


def test_inputs_of_a_pair_stay_with_their_items():
    items, inputs = images(40), 255 - images(40)
    for flip in (False, True):
        batches = Batches(Data(items, inputs=inputs), 16, 3, CPU, flip=flip)
        for k in range(6):
            real, _, given = batches.get(k)
            assert torch.allclose(given, -real, atol=1e-6)
        parts = [batches.get(4, part, 4) for part in range(4)]
        if not flip:  # each part mirrors by a stream of its own
            assert torch.equal(torch.cat([part[2] for part in parts]), batches.get(4)[2])


def test_unpaired_inputs_have_an_order_of_their_own():
    inputs = torch.arange(20.0)[:, None]
    data = Data(torch.arange(32.0)[:, None], inputs=inputs, paired=False)
    batches = Batches(data, 16, 0, CPU)
    drawn = torch.cat([batches.get(k)[2] for k in range(5)]).flatten().long()
    assert drawn.bincount().tolist() == [4] * 20  # 80 are four epochs of 20
    assert not torch.equal(batches.get(0)[0], batches.get(0)[2])
    again = Batches(data, 16, 0, CPU)
    assert torch.equal(again.get(3)[2], batches.get(3)[2])  # a function of the batch's number alone
    assert torch.equal(torch.cat([again.get(3, part, 2)[2] for part in (0, 1)]), batches.get(3)[2])


def test_inputs_are_part_of_the_digest():
    x = images()
    plain, grey, edges = (Data(x, inputs=inputs) for inputs in (None, Made(x, "grey"), Made(x, "edges")))
    others = Data(x, inputs=x), Data(x, inputs=x.flip(0)), Data(x, inputs=x.float())
    assert len({data.digest() for data in (plain, grey, edges, *others)}) == 6


def test_inputs_that_do_not_fit():
    with pytest.raises(DataError, match="5 inputs for 12 items"):
        Data(images(), inputs=images(5))
    with pytest.raises(DataError, match="inputs must be uint8 images or floats"):
        Data(images(), inputs=torch.zeros(12, 3, dtype=torch.long))
    with pytest.raises(DataError, match="there are no inputs"):
        Data(images(), inputs=images(0), paired=False)
