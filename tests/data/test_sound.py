"""Sounds: .wav files of every usual kind, what is refused, and the tones that are made by code."""

import io
import logging
import struct
import sys
import wave
import zipfile

import numpy as np
import pytest
import torch

import ganzoo
from ganzoo import ConfigError, Data, DataError
from ganzoo.data.loading import has_test_split, load
from ganzoo.data.sound import resample
from ganzoo.data.wav import parse

RATE = 8000


@pytest.fixture(autouse=True)
def talk(caplog):
    caplog.set_level(logging.INFO, "ganzoo")


def sine(n, hz=440.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(n) / rate)


def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def encode(samples, form=1, bits=16, channels=1, rate=RATE, extensible=False, before=b""):
    """The bytes of a .wav file of samples (T,) or (T, channels), put together here by the format's description."""
    samples = np.asarray(samples).reshape(-1, channels)
    if form == 3:
        body = samples.astype(f"<f{bits // 8}").tobytes()
    else:
        whole = np.clip(np.round(samples * 2.0 ** (bits - 1)), -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
        if bits == 8:
            whole += 128
        body = b"".join(int(v).to_bytes(bits // 8, "little", signed=bits > 8) for v in whole.flatten())
    block = channels * bits // 8
    header = struct.pack("<HHIIHH", 0xFFFE if extensible else form, channels, rate, rate * block, block, bits)
    if extensible:
        guid = struct.pack("<H", form) + bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")
        header += struct.pack("<HHI", 22, bits, 4) + guid
    chunks = before + chunk(b"fmt ", header) + chunk(b"data", body)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def fill(folder, n=4, length=1200, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{i:03d}.wav").write_bytes(encode(sine(length, 200 + 50 * i), **options))
    return folder


KINDS = {
    "8 bits": ({"bits": 8}, 2**-8),
    "16 bits": ({"bits": 16}, 2**-16),
    "24 bits": ({"bits": 24}, 2**-24),
    "32 bits": ({"bits": 32}, 2**-24),
    "32-bit floats": ({"form": 3, "bits": 32}, 2**-24),
    "64-bit floats": ({"form": 3, "bits": 64}, 2**-24),
    "24 bits, extensible": ({"bits": 24, "extensible": True}, 2**-24),
    "floats, extensible": ({"form": 3, "bits": 32, "extensible": True}, 2**-24),
    "a list of odd length before": ({"before": chunk(b"LIST", b"INFO1")}, 2**-16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_usual_kind_of_file(kind, tmp_path):
    options, step = KINDS[kind]
    samples = np.array([-1.0, -0.75, -0.5, 0.0, 0.25, 0.5, 0.999, 1.0])
    (tmp_path / "x.wav").write_bytes(encode(samples, **options))
    data = load(str(tmp_path), options={"length": 8})
    assert (data.items.dtype, data.items.shape, data.rate) == (torch.float32, (1, 1, 8), RATE)
    assert np.abs(data.items[0, 0].numpy() - samples).max() <= 2 * step
    assert data.items[0, 0, 0] == -1
    assert data.items.abs().max() <= 1


def test_a_file_of_pythons_own_library(tmp_path):
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setparams((2, 2, 22050, 0, "NONE", ""))
        file.writeframes(np.array([[16384, 0], [-32768, -32768]], "<i2").tobytes())
    data = load(str(tmp_path), options={"length": 3})
    assert data.items[0, 0].tolist() == [0.25, -1, 0]  # mixed, and then silence
    assert data.rate == 22050


def test_values_beyond_the_range_are_cut_off(tmp_path):
    (tmp_path / "x.wav").write_bytes(encode([3e38, -7.0, 0.5, 3e38], form=3, bits=32, channels=2))
    assert load(str(tmp_path), options={"length": 2}).items[0, 0].tolist() == [0, 0.75]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([20000] * 4, 16384),
        ([16384] * 3 + [16383] * 2, 16384),
        ([16384] * 2 + [4096] * 2, 4096),
        ([70000, 1024, 1500], 1024),
        ([100, 200], 1024),
    ],
)
def test_the_length_is_the_largest_that_most_files_reach(lengths, expected, tmp_path, caplog):
    for i, length in enumerate(lengths):
        (tmp_path / f"{i}.wav").write_bytes(encode(np.full(length, 0.5), bits=8))
    items = load(str(tmp_path)).items
    assert items.shape == (len(lengths), 1, expected)
    assert [int(item.count_nonzero()) for item in items] == [min(n, expected) for n in lengths]
    longer, shorter = sum(n > expected for n in lengths), sum(n < expected for n in lengths)
    assert f"{longer} are longer, {shorter} shorter" in caplog.text


def test_mixed_kinds_in_classes_and_splits(tmp_path, caplog):
    kinds = [{"bits": 8}, {"bits": 16}, {"bits": 24}, {"form": 3, "bits": 32}]
    for split in ("train", "test"):
        for name in ("dog", "cat"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for k, kind in enumerate(kinds):
                both = np.stack([sine(1100), np.zeros(1100)], 1) if k == 1 else sine(1100)
                (folder / f"{k}.WAV").write_bytes(encode(both, channels=1 + (k == 1), **kind))
    data = load(str(tmp_path / "set"))
    assert data.classes == ["cat", "dog"]
    assert data.labels.tolist() == [0] * 4 + [1] * 4
    assert (data.items[0] - 2 * data.items[1]).abs().max() < 0.02  # mixed with silence, it is half as loud
    assert (data.items[0] - data.items[3]).abs().max() < 0.01
    assert "using the 8 sounds in train/" in caplog.text
    assert "2 of the 8 sounds in" in caplog.text
    assert "have several channels, which are mixed" in caplog.text
    assert has_test_split(str(tmp_path / "set"))
    assert len(load(str(tmp_path / "set"), options={"split": "test", "length": 64}).items) == 8
    with pytest.raises(DataError, match="has no split 'valid': choose from test, train"):
        load(str(tmp_path / "set"), options={"split": "valid"})


def test_a_zip_gives_the_same_as_a_folder(tmp_path):
    fill(tmp_path / "set", 3)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (tmp_path / "set").iterdir():
            archive.write(path, path.name)
    folder, zipped = load(str(tmp_path / "set")), load(str(tmp_path / "set.zip"))
    assert torch.equal(folder.items, zipped.items)
    assert folder.rate == zipped.rate
    assert folder.labels is None


GOOD = encode(sine(1100))
DAMAGED = {
    "empty": (b"", "it is empty"),
    "no wav": (b"ID3" + bytes(100), "it is not a .wav file"),
    "cut short": (GOOD[:-10], "it ends after 2190 of 2200 bytes of samples"),
    "no samples": (encode([]), "it holds no samples"),
    "only a header": (GOOD[:36], "it ends before its samples"),
    "no header": (GOOD.replace(b"fmt ", b"tmf "), "it does not say what its samples are"),
    "compressed": (encode(sine(1100), form=2), "its samples have format 2 and 16 bits, and are neither PCM nor floats"),
    "no channels": (GOOD[:22] + b"\0\0" + GOOD[24:], "it has 0 channels at 8000 Hz"),
    "no rate": (GOOD[:24] + bytes(4) + GOOD[28:], "it has 1 channels at 0 Hz"),
    "not finite": (encode([0.0, np.nan], form=3, bits=32), "some of its samples are NaN or infinite"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_skipped_with_a_warning(kind, tmp_path, caplog):
    content, message = DAMAGED[kind]
    fill(tmp_path, 120, length=10)
    (tmp_path / "003.wav").write_bytes(content)
    assert len(load(str(tmp_path), options={"length": 10}).items) == 119
    assert f"skipped 1 of 120 sounds that cannot be read: 003.wav: {message}" in " ".join(caplog.text.split())


def test_labels_of_skipped_files_are_left_out(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, 60, length=10)
    (tmp_path / "a" / "000.wav").write_bytes(b"")
    assert load(str(tmp_path), options={"length": 10}).labels.tolist() == [0] * 59 + [1] * 60


def test_too_many_damaged_files_are_an_error(tmp_path):
    fill(tmp_path, 3)
    (tmp_path / "001.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 3 sounds in .* cannot be read: 001\.wav: it is empty$"):
        load(str(tmp_path))


def test_a_stream_of_unknown_length(tmp_path):
    """What programs write into a pipe."""
    at = GOOD.index(b"data") + 4
    (tmp_path / "x.wav").write_bytes(GOOD[:at] + b"\xff" * 4 + GOOD[at + 4 :])
    assert load(str(tmp_path)).items.count_nonzero() > 1000


def test_random_bytes_are_an_error_or_a_sound():
    rng = np.random.default_rng(0)
    opened, small = 0, encode(sine(50))
    for _ in range(3000):
        content = bytearray(small)
        for at in rng.integers(0, 60, 3):
            content[at] = rng.integers(256)
        try:
            samples = parse(bytes(content)).read(1000)
        except ValueError:
            continue
        opened += 1
        assert np.abs(samples).max() <= 1
    assert 300 < opened < 2700


def test_what_cannot_be_loaded_is_one_line(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "read.txt").write_text("")
    both = fill(tmp_path / "both", 2)
    (both / "cover.png").write_bytes(b"")
    (tmp_path / "fine" / ".hidden").mkdir(parents=True)
    fill(tmp_path / "fine", 2)
    (tmp_path / "fine" / ".hidden" / "cover.png").write_bytes(b"")
    assert len(load(str(tmp_path / "fine")).items) == 2
    for name, options, message in (
        ("none", {}, "there are no images in .*, those of sounds in .wav"),
        ("both", {}, r"both holds 1 images and 2 sounds \(\.wav\): give them folders of their own"),
        ("fine", {"length": 0}, "data.length must be at least 1 sample, not 0"),
        ("fine", {"rate": 0}, "data.rate must be a whole number of Hz from 1 to 1,000,000, not 0"),
        ("fine", {"split": "test"}, "its sounds are not sorted into train, test"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            load(str(tmp_path / name), options=options)
        assert "\n" not in str(caught.value)
    for options, message in (
        ({"lenght": 3}, "no setting 'lenght': did you mean 'length'"),
        ({"length": "1s"}, "^length of the data '.*fine' must be a whole number or none, not '1s'$"),
        ({"rate": "cd"}, "^rate of the data '.*fine' must be a whole number or none, not 'cd'$"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(str(tmp_path / "fine"), options=options)


# Sampling rates


def test_files_of_several_rates_need_a_choice(tmp_path):
    fill(tmp_path, 3, rate=16000)
    (tmp_path / "x.wav").write_bytes(encode(sine(1200)))
    with pytest.raises(
        DataError, match=r"several sampling rates \(1 of 8,000 Hz, 3 of 16,000 Hz\): .*--set data.rate=8000$"
    ):
        load(str(tmp_path))
    pytest.importorskip("av")
    assert load(str(tmp_path), options={"rate": 8000}).rate == 8000


def test_resampled_sounds_keep_their_pitch_and_lose_what_does_not_fit(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "fits.wav").write_bytes(encode(sine(44100, 1000, 44100), rate=44100))
    (tmp_path / "high.wav").write_bytes(encode(sine(44100, 10_000, 44100), rate=44100))
    (tmp_path / "short.wav").write_bytes(encode(sine(4410, 1000, 44100), rate=44100))
    data = load(str(tmp_path), options={"rate": 16000})
    assert (data.rate, data.items.shape) == (16000, (3, 1, 4096))  # two of them have 16,000 samples, and not 44,100
    fits, high, short = data.items[:, 0].numpy()
    inner = slice(100, -100)
    assert np.abs(fits[inner] - sine(4096, 1000, 16000)[inner]).max() < 1e-3
    assert np.abs(high[inner]).max() < 2e-3
    assert np.abs(short[100:1500] - sine(1600, 1000, 16000)[100:1500]).max() < 1e-3
    assert not short[1600:].any()


def test_resampling_the_beginning_gives_the_beginning_of_the_whole(tmp_path):
    pytest.importorskip("av")
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.9, 0.9, 9000)
    (tmp_path / "x.wav").write_bytes(encode(samples, form=3, bits=32))
    part = load(str(tmp_path), options={"rate": 3000, "length": 512}).items[0, 0].numpy()
    assert np.abs(part - resample(samples.astype(np.float32), RATE, 3000)[:512]).max() < 1e-6


def test_resampling_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    fill(tmp_path, 2)
    assert load(str(tmp_path), options={"rate": RATE}).rate == RATE
    with pytest.raises(DataError, match=r"8,000 Hz are resampled to 4,000 Hz by PyAV: pip install 'ganzoo\[sound\]'"):
        load(str(tmp_path), options={"rate": 4000})


# Data in Python


def test_a_rate_belongs_to_sounds():
    sounds = Data(torch.zeros(2, 1, 16), rate=8000)
    assert sounds.is_sound
    assert not sounds.is_image
    assert not Data(torch.zeros(2, 1, 16)).is_sound
    for items in (torch.zeros(2, 16), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)):
        with pytest.raises(DataError, match="a rate belongs to sounds"):
            Data(items, rate=8000)
    for rate in (0, -1, 44100.0, True, 10**7):
        with pytest.raises(DataError, match="the rate of the sounds must be a whole number of Hz"):
            Data(torch.zeros(2, 1, 16), rate=rate)


def test_tones_are_of_the_pitch_of_their_class():
    data = load("tones", options={"n": 300})
    assert (data.items.shape, data.rate, data.classes) == ((300, 1, 1024), 4096, ["low", "middle", "high"])
    assert torch.equal(data.items, load("tones", options={"n": 300}).items)
    assert torch.equal(data.items * 32768, (data.items * 32768).round())  # as a file of 16 bits holds them
    assert data.labels.bincount().min() > 70
    loudest = torch.fft.rfft(data.items[:, 0]).abs().argmax(1) * 4096 / 1024
    assert (loudest - torch.tensor([131.0, 311.0, 740.0])[data.labels]).abs().max() <= 8
    assert 0.35 < data.items.abs().amax(2).min() < data.items.abs().amax(2).max() < 0.96
    assert load("tones", options={"n": 2, "length": 256}).items.shape == (2, 1, 256)
    with pytest.raises(DataError, match="at least 1"):
        load("tones", options={"length": 0})


def test_written_files_are_read_again_bit_for_bit(tmp_path):
    from ganzoo.sampling.sound import write_wav

    data = load("tones", options={"n": 3})
    for i, sound in enumerate(data.items):
        write_wav(tmp_path / f"{i}.wav", [sound], data.rate)
    again = load(str(tmp_path))
    assert torch.equal(again.items, data.items)
    assert again.rate == data.rate


def test_a_generator_trains_on_a_folder(tmp_path):
    fill(tmp_path / "set", 8)
    small = {"generator": {"width": 2}, "discriminator": {"width": 2}, "steps": 1, "batch_size": 4}
    run = ganzoo.train(ganzoo.TrainConfig("wavegan", data=str(tmp_path / "set"), **small))
    assert run.generator.sampling_rate == RATE
    assert ganzoo.sample(run.generator, 2).shape == (2, 1, 1024)
    assert io.BytesIO((run.folder / "samples" / "step-0000001.png").read_bytes()).read(4) == b"\x89PNG"
    with pytest.raises(ConfigError, match="holds sounds, which have no image_size, and 1 as channels: leave both out"):
        ganzoo.train(ganzoo.TrainConfig("wavegan", data=str(tmp_path / "set"), image_size=32, **small))
