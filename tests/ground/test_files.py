"""Files and folders appear whole or not at all, and are hashed by what is in them."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from ganzoo import files
from ganzoo.files import file_hash, remove, replacing, tensor_hash, weights_hash, write_tensors, write_text


class Interrupted(Exception):
    pass


def write_file(path, text):
    path.write_text(text)


def write_folder(path, text):
    path.mkdir()
    (path / "a.txt").write_text(text)
    (path / "inner").mkdir()
    (path / "inner" / "b.txt").write_text(text)


def half(write, path):
    write(path, "half")
    raise Interrupted


def contents(path):
    """The text of a file, or of each file in a folder."""
    if path.is_file():
        return path.read_text()
    return {file.relative_to(path).as_posix(): file.read_text() for file in sorted(path.rglob("*")) if file.is_file()}


def names(folder):
    """Everything in a folder, hidden files too."""
    return sorted(os.listdir(folder))


both = pytest.mark.parametrize("write", [write_file, write_folder])


@both
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_what_was_written_takes_its_place_at_the_end(tmp_path, write, durable, shared):
    target = tmp_path / "target"
    for text in ("old", "new"):
        with replacing(target, durable=durable, shared=shared) as temporary:
            write(temporary, text)
            assert temporary.parent == tmp_path
            assert not target.exists() or "new" not in str(contents(target))
        assert text in str(contents(target))
        assert names(tmp_path) == ["target"]


@both
@pytest.mark.parametrize("before", [None, write_file, write_folder])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, write, before):
    target = tmp_path / "target"
    if before:
        before(target, "old")
    old = contents(target) if before else None
    with pytest.raises(Interrupted), replacing(target, durable=True) as temporary:
        half(write, temporary)
    assert names(tmp_path) == (["target"] if before else [])
    assert old is None or contents(target) == old


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    (tmp_path / "target").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "target"):
        pass
    assert contents(tmp_path / "target") == "old"


def test_a_new_folder_replaces_all_of_the_old_one(tmp_path):
    target = tmp_path / "target"
    write_folder(target, "old")
    (target / "only in the old one").write_text("old")
    with replacing(target) as temporary:
        write_folder(temporary, "new")
    assert contents(target) == {"a.txt": "new", "inner/b.txt": "new"}
    assert names(tmp_path) == ["target"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "target"
    write_folder(target, "old")
    rename = os.rename

    def fail_for_the_new_one(source, destination):
        if Path(source).name == ".target.tmp":
            raise OSError("no space")
        rename(source, destination)

    monkeypatch.setattr(files.os, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="no space"), replacing(target) as temporary:
        write_folder(temporary, "new")
    assert contents(target) == {"a.txt": "old", "inner/b.txt": "old"}
    assert names(tmp_path) == ["target"]


def test_nothing_is_overwritten_where_that_is_not_wanted(tmp_path):
    full, empty = tmp_path / "full", tmp_path / "empty"
    write_folder(full, "old")
    empty.mkdir()
    with pytest.raises(OSError, match="not empty"), replacing(full, overwrite=False) as temporary:
        write_folder(temporary, "new")
    assert contents(full) == {"a.txt": "old", "inner/b.txt": "old"}
    with replacing(empty, overwrite=False) as temporary:
        write_folder(temporary, "new")
    assert contents(empty) == {"a.txt": "new", "inner/b.txt": "new"}
    assert names(tmp_path) == ["empty", "full"]


@both
@pytest.mark.parametrize("leftover", [write_file, write_folder])
def test_what_a_killed_process_left_is_removed(tmp_path, write, leftover):
    leftover(tmp_path / ".target.tmp", "half")
    write_folder(tmp_path / ".target.before", "older")
    write_folder(tmp_path / "target", "old")
    with replacing(tmp_path / "target") as temporary:
        assert not temporary.exists()
        write_folder(temporary, "new")
    assert contents(tmp_path / "target") == {"a.txt": "new", "inner/b.txt": "new"}
    assert names(tmp_path) == ["target"]


def test_processes_that_write_the_same_path_do_not_meet(tmp_path, monkeypatch):
    target = tmp_path / "target"
    with replacing(target, shared=True) as mine:
        mine.write_text("mine")
        monkeypatch.setattr(files.os, "getpid", lambda: 1)
        with replacing(target, shared=True) as theirs:
            theirs.write_text("theirs")
        assert contents(target) == "theirs"
        assert contents(mine) == "mine"
    assert contents(target) == "mine"


def test_a_link_is_removed_and_what_it_points_to_stays(tmp_path):
    write_folder(tmp_path / "folder", "old")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert names(tmp_path) == ["folder"]
    assert contents(tmp_path / "folder") == {"a.txt": "old", "inner/b.txt": "old"}


def test_text_is_replaced_whole(tmp_path):
    write_text(tmp_path / "x.json", "ä")
    write_text(tmp_path / "x.json", "ö")
    assert (tmp_path / "x.json").read_bytes() == "ö".encode()
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "nowhere" / "x.json", "")


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o700, 0o600), (0o775, 0o664)])
def test_tensors_have_the_permissions_of_their_folder(tmp_path, folder, file):
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(folder)
    write_tensors({"x": torch.ones(2)}, place / "x.safetensors")
    assert (place / "x.safetensors").stat().st_mode & 0o777 == file


def test_a_file_is_hashed_by_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(FileNotFoundError):
        file_hash(tmp_path / "y")


def test_tensors_are_hashed_by_header_and_values():
    x = torch.arange(6, dtype=torch.int16)
    assert tensor_hash([("x", x)]) == hashlib.sha256(b"x" + x.numpy().tobytes()).hexdigest()
    transposed = x.view(2, 3).t()
    assert tensor_hash([("x", transposed)]) == tensor_hash([("x", transposed.contiguous())])
    assert len({tensor_hash([(name, value)]) for name in "xy" for value in (x, x + 1, x.view(2, 3).t())}) == 6


class Weights(torch.nn.Module):
    def __init__(self, name, tensor):
        super().__init__()
        self.register_buffer(name, tensor)


def test_weights_are_hashed_with_their_names_types_and_shapes():
    zeros = torch.zeros(2, 3)
    alike = [("a", zeros), ("b", zeros), ("a", zeros.int()), ("a", zeros.view(3, 2)), ("a", zeros + 1)]
    assert len({weights_hash(Weights(name, tensor)) for name, tensor in alike}) == 5
    assert weights_hash(Weights("a", zeros)) == weights_hash(Weights("a", zeros.clone()))


def test_where_caches_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("GANZOO_CACHE", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("GANZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files.cache_folder() == tmp_path / "xdg" / "ganzoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_folder() == tmp_path / ".cache" / "ganzoo"


def test_a_folder_whose_replacement_was_killed_half_way_comes_back(tmp_path):
    """The old folder lies aside for the moment between two renames."""
    target = tmp_path / "target"
    write_folder(tmp_path / ".target.before", "old")
    with pytest.raises(Interrupted), replacing(target) as temporary:
        half(write_folder, temporary)
    assert "old" in str(contents(target))
    assert names(tmp_path) == ["target"]
