"""Images from folders, zips and data sets: decoded once, in processes, into a cache that is found again or told."""

import io
import json
import logging
import mmap
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo import ConfigError, DataError
from ganzoo.data.cache import load_images
from ganzoo.data.decode import SMALL, Process, decode_one
from ganzoo.data.folders import open_path
from ganzoo.data.loading import has_test_split, load

LOAD = """
import logging, sys, zlib
from pathlib import Path
from ganzoo.data.cache import load_images
from ganzoo.data.folders import open_path

logging.basicConfig(level=sys.argv[2], format="%(message)s")
items, labels = load_images(open_path(Path(sys.argv[1])), 16, 3)
print(items.shape[0], zlib.crc32(items.tobytes()))
"""


@pytest.fixture(autouse=True)
def talk(caplog):
    caplog.set_level(logging.INFO, "ganzoo")


@pytest.fixture
def folder(tmp_path):
    """12 pictures of noise in two classes, all of one length: enough for a cache, too little for a second process."""
    return fill(tmp_path / "pictures", 12)


@pytest.fixture
def large(tmp_path):
    """24 of them: two processes decode."""
    return fill(tmp_path / "pictures", 24)


def fill(folder, n):
    rng = np.random.default_rng(0)
    for i in range(n):
        path = folder / "ab"[i % 2] / f"{i:02d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(rng, 256).save(path)
    assert sum(path.stat().st_size for path in folder.rglob("*.bmp")) // SMALL == n // 12
    return folder


def noise(rng, size):
    return Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))


def caches():
    return sorted(Path(os.environ["GANZOO_CACHE"], "images").glob("*"))


def decodings(caplog):
    return sum(record.message.startswith("decoding ") for record in caplog.records)


def by_itself(path):
    """What the cache must hold: each file through Pillow, here and now."""
    rows = [decode_one(name.read_bytes(), 16, 3) for name in sorted(Path(path).rglob("*.*"))]
    return np.ascontiguousarray(np.stack(rows))


def test_the_second_start_decodes_nothing(large, caplog):
    first = load(str(large), image_size=16)
    assert np.array_equal(first.items, by_itself(large))
    assert first.labels.tolist() == [0] * 12 + [1] * 12
    (cache,) = caches()
    assert sorted(path.name for path in cache.iterdir()) == ["index.json", "items.npy"]
    assert np.array_equal(np.load(cache / "items.npy", allow_pickle=False), first.items)

    # Pixels that no picture has: they can only come back from the cache.
    index = json.loads((cache / "index.json").read_text())
    assert index["source"] == str(large)
    other = np.zeros((24, 3, 16, 16), np.uint8)
    np.save(cache / "items.npy", other)
    (cache / "index.json").write_text(json.dumps({**index, "crc32": zlib.crc32(other)}))
    second = load(str(large), image_size=16)
    assert second.items.sum() == 0
    assert torch.equal(second.labels, first.labels)
    assert decodings(caplog) == 1


def test_the_cache_is_mapped_and_what_is_written_to_items_stays_in_this_process(folder):
    items = load(str(folder), image_size=16).items
    before = items.clone()
    items.zero_()
    again, _ = load_images(open_path(folder), 16, 3)
    assert isinstance(again.base, mmap.mmap)
    assert torch.equal(torch.from_numpy(again), before)


def test_a_zip_and_a_folder_give_the_same(folder, tmp_path, caplog):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in folder.rglob("*.bmp"):
            archive.write(path, path.relative_to(folder))
    flat, zipped = load(str(folder), image_size=16), load(str(tmp_path / "pictures.zip"), image_size=16)
    assert torch.equal(zipped.items, flat.items)
    assert torch.equal(zipped.labels, flat.labels)
    (tmp_path / "pictures.zip").rename(tmp_path / "moved.zip")
    load(str(tmp_path / "moved.zip"), image_size=16)
    assert decodings(caplog) == len(caches()) == 2


def test_other_images_sizes_and_channels_are_other_caches(folder):
    load(str(folder), image_size=16)
    assert load(str(folder), image_size=8).items.shape == (12, 3, 8, 8)
    assert load(str(folder), image_size=16, channels=1).items.shape == (12, 1, 16, 16)
    assert len(caches()) == 3

    # Another picture of the same name, length and time, as unzipping another set would put there.
    path = folder / "a" / "00.bmp"
    before = path.stat()
    path.write_bytes((folder / "b" / "01.bmp").read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert np.array_equal(load(str(folder), image_size=16).items, by_itself(folder))
    path.rename(folder / "a" / "99.bmp")
    assert np.array_equal(load(str(folder), image_size=16).items, by_itself(folder))
    path.with_name("99.bmp").unlink()
    assert load(str(folder), image_size=16).items.shape == (11, 3, 16, 16)
    assert len(caches()) == 6


def test_a_few_pictures_leave_nothing_behind(tmp_path, caplog):
    noise(np.random.default_rng(0), 64).save(tmp_path / "a.png")
    load(str(tmp_path), image_size=16)
    assert not caches()
    assert not caplog.records


def truncate(cache):
    os.truncate(cache / "items.npy", 5000)


def empty(cache):
    os.truncate(cache / "items.npy", 0)


def flip(cache):
    with open(cache / "items.npy", "r+b") as file:
        file.seek(4321)
        byte = file.read(1)[0]
        file.seek(4321)
        file.write(bytes([byte ^ 1]))


def other_json(cache):
    (cache / "index.json").write_text("[]")


def no_json(cache):
    (cache / "index.json").write_text('{"skipped": {')


def half_written(cache):
    (cache / "index.json").unlink()
    (cache / "items.npy").rename(cache / "items.npy.1.tmp")


@pytest.mark.parametrize("damage", [truncate, empty, flip, other_json, no_json, half_written])
def test_a_damaged_cache_is_told_and_made_again(folder, caplog, damage):
    load(str(folder), image_size=16)
    (cache,) = caches()
    damage(cache)
    caplog.clear()
    assert np.array_equal(load(str(folder), image_size=16).items, by_itself(folder))
    assert "incomplete or damaged" in caplog.text
    assert sorted(path.name for path in cache.iterdir()) == ["index.json", "items.npy"]
    caplog.clear()
    load(str(folder), image_size=16)
    assert not caplog.records


def test_a_cache_that_cannot_be_written(folder, tmp_path, caplog, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file"))
    assert np.array_equal(load(str(folder), image_size=16).items, by_itself(folder))
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "GANZOO_CACHE" in warning
    assert "Not a directory" in warning


def test_a_full_disk(large):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
    done = subprocess.run([sys.executable, "-c", limit + LOAD, large, "INFO"], capture_output=True, text=True)
    assert done.stdout.split() == ["24", str(zlib.crc32(by_itself(large)))], done.stderr
    assert "cannot be cached" in done.stderr
    assert [list(cache.iterdir()) for cache in caches()] == [[]]


def test_two_processes_at_once(large, tmp_path):
    """A script as a person writes it, with no `if __name__ == "__main__"`, in two processes: one of them decodes."""
    (tmp_path / "script.py").write_text(LOAD)
    command = [sys.executable, tmp_path / "script.py", large, "INFO"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in both]
    assert {out for out, _ in told} == {f"24 {zlib.crc32(by_itself(large))}\n"}, told
    assert sum(err.count("decoding 24 images") for _, err in told) == 1
    assert len(caches()) == 1


def test_killed_while_decoding(large, caplog):
    process = subprocess.Popen([sys.executable, "-c", LOAD, large, "INFO"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(list(cache.glob("*.tmp")) for cache in caches()) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert any(list(cache.glob("*.tmp")) for cache in caches())
    assert np.array_equal(load(str(large), image_size=16).items, by_itself(large))
    assert "incomplete or damaged" in caplog.text
    assert not list(caches()[0].glob("*.tmp"))


def test_skipped_images_are_told_again_from_the_cache(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for i in range(202):
        path = tmp_path / "pictures" / "ab"[i // 101] / f"{i:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(rng, 90).save(path)
    (tmp_path / "pictures" / "a" / "007.bmp").write_bytes(b"no picture")
    expected = np.delete(np.arange(202), 7)
    for _ in range(2):
        caplog.clear()
        data = load(str(tmp_path / "pictures"), image_size=16)
        assert data.labels.tolist() == (expected // 101).tolist()
        assert "skipped 1 of 202 images that cannot be read: a/007.bmp: it is no image of a known format" in caplog.text
    assert decodings(caplog) == 0
    last = decode_one((tmp_path / "pictures" / "b" / "201.bmp").read_bytes(), 16, 3)
    assert np.array_equal(data.items[-1], last)

    for i in range(10, 13):
        (tmp_path / "pictures" / "a" / f"{i:03d}.bmp").write_bytes(b"")
    with pytest.raises(DataError, match=r"4 of 202 images.*a/007.bmp"):
        load(str(tmp_path / "pictures"), image_size=16)
    assert sorted(len(list(cache.iterdir())) for cache in caches()) == [0, 2]


def test_a_process_that_ends_early():
    with Process() as process:
        process.child.kill()
        process.child.wait()
        with pytest.raises(DataError, match=r"ended early \(code -9\)"):
            process([b"x" * 10_000_000], 8, 3)


def test_large_photos_are_decoded_smaller(tmp_path):
    """libjpeg's own halving, down to twice the size, stays within a grey level or two of resizing the whole."""
    small = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    photo = Image.fromarray(small).resize((800, 600), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=95)
    whole = np.asarray(photo.crop((100, 0, 700, 600)).resize((48, 48), Image.Resampling.BICUBIC), np.int16)
    difference = decode_one(buffer.getvalue(), 48, 3).transpose(1, 2, 0) - whole
    assert np.abs(difference).mean() < 1
    assert abs(difference.mean()) < 0.3


@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_the_bar_on_a_terminal(large, level):
    ours, theirs = pty.openpty()
    done = subprocess.Popen([sys.executable, "-c", LOAD, large, level], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux says that nobody writes any more
        pass
    os.close(ours)
    assert done.communicate()[0].startswith(b"24 ")
    assert done.returncode == 0
    if level == "INFO":
        assert b"24/24" in shown
    else:
        assert shown == b""


# Data sets of the Hub, read from local parquet files


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """Writes columns of a data set as ./set/SPLIT.parquet, and gives the pictures there."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")

    def write(split="train", n=6, size=16, names=("image",), **columns):
        rng = np.random.default_rng(n)
        pixels = [np.asarray(noise(rng, size)) for _ in range(n)]
        features = {name: datasets.Image() for name in names}
        values = {name: [Image.fromarray(picture) for picture in pixels] for name in names}
        for name, (feature, value) in columns.items():
            features[name], values[name] = feature, value
        table = datasets.Dataset.from_dict(values, features=datasets.Features(features))
        (tmp_path / "set").mkdir(exist_ok=True)
        table.to_parquet(tmp_path / "set" / f"{split}.parquet")
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)

    write.ClassLabel = lambda values: (datasets.ClassLabel(names=["x", "y", "z"]), values)
    write.Image = lambda values: (datasets.Image(), values)
    write.Value = lambda kind, values: (datasets.Value(kind), values)
    return write


def test_a_data_set(parquet):
    pictures = parquet(kind=parquet.ClassLabel([2, 0, 1, 2, 0, 1]), caption=parquet.Value("string", list("abcdef")))
    others = parquet("test", 3, kind=parquet.ClassLabel([-1, -1, -1]), caption=parquet.Value("string", list("abc")))
    data = load("hf:./set")
    assert torch.equal(data.items, pictures)
    assert data.labels.tolist() == [2, 0, 1, 2, 0, 1]
    assert data.classes == ["x", "y", "z"]
    part = load("hf:./set", options={"split": "train[1:3]"})
    assert (part.labels.tolist(), part.classes) == ([0, 1], ["x", "y", "z"])
    assert torch.equal(load("hf:./set", options={"split": "train[2:5]"}).items, pictures[2:5])
    assert load("hf:./set", options={"label": None}).labels is None
    assert load("hf:./set", image_size=8, channels=1).items.shape == (6, 1, 8, 8)
    hidden = load("hf:./set", options={"split": "test"})
    assert torch.equal(hidden.items, others)
    assert hidden.labels is hidden.classes is None
    captions = load("hf:./set", options={"label": "caption", "config": "default"})
    assert captions.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert captions.classes == list("abcdef")


def test_whole_numbers_are_no_names(parquet):
    parquet(year=parquet.Value("int64", [1999, 2001, 1999, 2001, 2004, 2004]))
    data = load("hf:./set", options={"label": "year"})
    assert data.labels.tolist() == [0, 1, 0, 1, 2, 2]
    assert data.classes is None


def test_a_large_data_set_is_cached(parquet, caplog):
    pictures = parquet(n=24, size=256)
    for _ in range(2):
        items = load("hf:./set", image_size=256).items
        assert torch.equal(items, pictures)
    assert decodings(caplog) == 1
    assert torch.equal(load("hf:./set", image_size=256, options={"split": "train[:20]"}).items, pictures[:20])
    assert decodings(caplog) == 2


def test_a_row_without_an_image(parquet):
    parquet(n=2, names=(), image=parquet.Image([None, Image.new("RGB", (8, 8))]))
    with pytest.raises(DataError, match=r"1 of 2 images in hf:./set cannot be read: row 0: "):
        load("hf:./set")


def test_a_folder_of_images_as_a_data_set(folder, parquet, caplog):
    for _ in range(2):
        data = load(f"hf:{folder}", image_size=16)
        assert np.array_equal(data.items, by_itself(folder))
        assert data.labels.tolist() == [0] * 6 + [1] * 6
    assert decodings(caplog) == 1


def test_columns_to_choose_from(parquet):
    labels = parquet.ClassLabel([0, 1, 2, 0, 1, 2])
    pictures = parquet(names=("left", "right"), fine=labels, coarse=labels)
    with pytest.raises(DataError, match=r"2 columns of images.*data\.column=NAME from left, right"):
        load("hf:./set")
    with pytest.raises(DataError, match=r"2 columns of classes \(fine, coarse\).*data\.label=none"):
        load("hf:./set", options={"column": "left"})
    data = load("hf:./set", options={"column": "right", "label": "fine"})
    assert torch.equal(data.items, pictures)
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(DataError, match="no column 'fine' of images"):
        load("hf:./set", options={"column": "fine"})
    with pytest.raises(DataError, match="no column 'middle': choose from left, right, fine, coarse"):
        load("hf:./set", options={"column": "left", "label": "middle"})
    with pytest.raises(DataError, match="has other values than"):
        load("hf:./set", options={"column": "left", "label": "right"})


def test_a_data_set_without_images(parquet):
    parquet(names=(), caption=parquet.Value("string", ["a"]))
    with pytest.raises(DataError, match="no column of images, only caption"):
        load("hf:./set")


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        ("hf:./set", {"split": "valid"}, DataError, r"valid.*data\.split=NAME"),
        ("hf:./set", {"config": "other"}, DataError, r"other.*data\.config=NAME"),
        ("hf:./set", {"colum": "image"}, ConfigError, "did you mean 'column'"),
        ("hf:./nowhere", {}, DataError, r"no folder nowhere"),
        ("hf:./empty", {}, DataError, "any data files"),
        ("hf:./code", {}, DataError, "scripts are no longer supported"),
        ("hf:set", {}, DataError, "write hf:./set"),
        ("hf:", {}, DataError, "not of the form"),
        ("hf:a/b/c", {}, DataError, "not of the form"),
        ("hf:a/b@", {}, DataError, "not of the form"),
        ("hf:org/name", {}, DataError, "connection"),
        ("hf:org/name@0123abc", {}, DataError, "connection"),
    ],
)
def test_data_sets_that_cannot_be_had(parquet, workplace, monkeypatch, spec, options, error, message):
    parquet()
    (workplace / "empty").mkdir()
    (workplace / "code").mkdir()
    (workplace / "code" / "code.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=message):
        load(spec, options=options)


def test_without_the_datasets_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'ganzoo\[datasets\]'"):
        load("hf:org/name")


def test_training_on_a_data_set(parquet, ganzoo_cli):
    parquet(n=8)
    code, out, err = ganzoo_cli(
        "train", "vanilla", "--data", "hf:./set", "--set", "data.split=train[:6]", "--batch-size", 4, "--steps", 1
    )
    assert code == 0, err
    assert out == "runs/vanilla-set-001\n"
    code, out, err = ganzoo_cli("train", "vanilla", "--data", "hf:./set", "--set", "data.split=valid", "--steps", 1)
    assert code == 1
    assert len(err.splitlines()) == 1


# Train and test in one place


def sorted_into(tmp_path, *folders):
    for i, folder in enumerate(folders):
        (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "set" / folder / f"{i}.png")
    return tmp_path / "set"


@pytest.mark.parametrize("zipped", [False, True])
def test_train_is_taken_of_train_and_test(tmp_path, zipped, caplog):
    path = sorted_into(tmp_path, "x/train/a", "x/train/b", "x/test/a", "x/test/b", "x/train/a")
    if zipped:
        path = Path(shutil.make_archive(str(tmp_path / "set"), "zip", path))
    data = load(str(path))
    assert data.items[:, 0, 0, 0].tolist() == [0, 4, 1]
    assert data.labels.tolist() == [0, 0, 1]
    assert "using the 3 images in train/" in caplog.text
    assert has_test_split(str(path))
    assert load(str(path), options={"split": "test"}).items[:, 0, 0, 0].tolist() == [2, 3]
    with pytest.raises(DataError, match="no split 'val': choose from test, train"):
        load(str(path), options={"split": "val"})


@pytest.mark.parametrize(
    "folders", [("train", "car"), ("train/a", "train/b"), ("train", "train/b"), ("a/train", "b/test"), ("a", "b")]
)
def test_other_folders_are_classes(tmp_path, folders):
    path = str(sorted_into(tmp_path, *folders))
    assert load(path).labels.tolist() == [0, 1]
    assert not has_test_split(path)
    with pytest.raises(DataError, match="not sorted into train, test"):
        load(path, options={"split": "test"})


def test_images_in_no_folder_beside_train_are_no_split(tmp_path):
    path = sorted_into(tmp_path, "train", "test")
    Image.new("RGB", (8, 8)).save(path / "cover.png")
    assert len(load(str(path)).items) == 3


# Files that are none


def test_pipes_devices_and_damaged_members(tmp_path, monkeypatch, caplog):
    """A pipe and a device could be read for ever, and are not opened at all."""
    fill = [Image.new("L", (4, 4), i) for i in range(200)]
    (tmp_path / "set").mkdir()
    for i, image in enumerate(fill):
        image.save(tmp_path / "set" / f"{i:03d}.png")
    os.mkfifo(tmp_path / "set" / "pipe.png")
    (tmp_path / "set" / "zero.png").symlink_to("/dev/zero")
    data = load("./set")
    assert len(data.items) == 200
    assert caplog.text.count("it is no regular file") == 2
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(DataError, match="it is no regular file"):
        load("./pipe.zip")


def test_a_member_that_claims_too_much_and_one_of_damaged_lzma(tmp_path, monkeypatch, caplog):
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_LZMA) as archive:
        for i in range(200):
            archive.writestr(f"{i:03d}.png", buffer.getvalue())
        archive.writestr("large.png", bytes(10**6))
        archive.writestr("zz.png", buffer.getvalue())
    content = bytearray((tmp_path / "set.zip").read_bytes())
    start = content.index(b"zz.png") + len("zz.png")
    content[start + 4 : start + 30] = bytes(26)
    (tmp_path / "set.zip").write_bytes(content)
    monkeypatch.setattr("ganzoo.data.source.LARGEST", 10**5)
    data = load("./set.zip")
    assert len(data.items) == 200
    assert "it has 1,000,000 bytes, more than any image needs" in caplog.text
    assert "zz.png" in caplog.text
