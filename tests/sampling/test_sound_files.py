"""Sounds as files and as pictures, and the commands that write them."""

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo import SampleError
from ganzoo.sampling import sound
from ganzoo.sampling.classes import name_classes
from ganzoo.sampling.sound import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, overview, rate_of, set_rate, sheet, write_wav

CELL = 2 * (LEFT + WIDTH + RIGHT), TOP + HEIGHT + BOTTOM
SMALL = {"generator": {"width": 2}, "discriminator": {"width": 2}, "steps": 1, "batch_size": 4}


def read(path):
    """(channels, rate, samples) as Python's own library reads them."""
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return file.getnchannels(), file.getframerate(), samples.T


def test_a_file_has_the_samples_in_16_bits(tmp_path):
    values = torch.tensor([[-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0]])
    write_wav(tmp_path / "x.wav", [values], 4096)
    channels, rate, samples = read(tmp_path / "x.wav")
    assert (channels, rate) == (1, 4096)
    assert samples[0].tolist() == [-32768, -32768, -16384, 0, 8192, 32767, 32767]


def test_several_sounds_have_silence_between_them(tmp_path):
    sounds = torch.full((3, 2, 10), 0.5)
    sounds[:, 1] = -0.5
    write_wav(tmp_path / "x.wav", iter(sounds), 100)
    channels, _, samples = read(tmp_path / "x.wav")
    assert (channels, samples.shape[1]) == (2, 3 * 10 + 2 * 25)
    loud = np.r_[0:10, 35:45, 70:80]
    assert (samples[0][loud] == 16384).all()
    assert (samples[1][loud] == -16384).all()
    assert not np.delete(samples, loud, 1).any()


@pytest.mark.parametrize("items", [torch.zeros(2, 3, 4, 4), torch.zeros(2, 5)])
def test_what_is_no_sound_is_refused(items, tmp_path):
    with pytest.raises(SampleError, match="are no sounds"):
        write_wav(tmp_path / "x.wav", items, 8000)
    with pytest.raises(SampleError, match="are no sounds"):
        sheet(items, 8000)


def panels(picture, i=0, columns=2):
    """The pixels of the waveform and of the spectrogram of sound i."""
    x, y = i % columns * CELL[0] + LEFT, i // columns * CELL[1] + TOP
    pixels = np.asarray(picture).astype(int)
    second = x + LEFT + WIDTH + RIGHT
    return pixels[y : y + HEIGHT, x : x + WIDTH], pixels[y : y + HEIGHT, second : second + WIDTH]


def heights(waveform):
    """The pixels of the line in each column."""
    return (waveform[:, :, 0] == Image.new("RGB", (1, 1), "steelblue").getpixel((0, 0))[0]).sum(0)


@pytest.mark.parametrize("length", [1024, 16384])
def test_a_picture_shows_amplitude_over_time_and_frequency(length):
    rate = 4 * length  # a quarter of a second
    time = torch.arange(length) / rate
    fading = torch.linspace(1, 0, length) * torch.sin(2 * torch.pi * rate / 8 * time)
    picture = sheet(fading[None, None], rate)
    assert picture.size == CELL
    waveform, spectrogram = panels(picture, columns=1)
    line = heights(waveform)
    assert line[5:10].mean() > 0.8 * HEIGHT
    assert abs(line[105:115].mean() - HEIGHT / 2) < 0.1 * HEIGHT
    assert line[-3:].mean() < 0.1 * HEIGHT
    loudness = spectrogram.sum(2)[:, 20:-20].mean(1)
    assert abs(loudness.argmax() - 0.75 * HEIGHT) < 3  # a quarter of half of the rate, from below


def test_silence_and_very_short_sounds_can_be_drawn():
    waveform, spectrogram = panels(sheet(torch.zeros(1, 1, 5000), 8000), columns=1)
    assert heights(waveform).max() == 1
    assert np.unique(spectrogram[1:-1, 1:-1].reshape(-1, 3), axis=0).tolist() == [[0, 0, 4]]
    broken = torch.tensor([float("nan"), float("inf"), 1e38, -3.0] * 64)
    assert heights(panels(sheet(broken[None, None], 8000), columns=1)[0]).max() == HEIGHT
    for length in (1, 16, 64):
        assert sheet(torch.ones(1, 1, length), 8000).size == CELL


def test_the_axes_say_seconds_and_hertz():
    """Other rates are other numbers at the axes, and the plots are the same."""
    noise = torch.rand(1, 1, 1024, generator=torch.Generator().manual_seed(0)) * 2 - 1
    slow, fast = (np.asarray(sheet(noise, rate)).astype(int) for rate in (4096, 16384))
    other = np.abs(slow - fast).sum(2)
    first, second = slice(LEFT, LEFT + WIDTH), slice(2 * LEFT + WIDTH + RIGHT, 2 * LEFT + 2 * WIDTH + RIGHT)
    for columns in (first, second):
        assert not other[TOP : TOP + HEIGHT, columns].any()
        assert other[TOP + HEIGHT :, columns].any()  # 0.25 s and 0.0625 s
    assert other[:, second.start - LEFT : second.start - 1].any()  # 2048 Hz and 8192 Hz
    assert not other[:, : first.start - 1].any()  # amplitudes are the same


def test_many_sounds_stand_in_rows_with_their_names():
    sounds = torch.zeros(5, 1, 64)
    sounds[3] = 1.0
    assert sheet(sounds, 8000).size == (2 * CELL[0], 3 * CELL[1])
    assert sheet(torch.zeros(17, 1, 64), 8000).size == (4 * CELL[0], 5 * CELL[1])
    named = sheet(sounds, 8000, ["a", "b", "c", "d", "e"])
    assert not np.array_equal(np.asarray(named), np.asarray(sheet(sounds, 8000)))
    assert (panels(named, 3)[0][0] < 255).any()  # at the top, where 1 is
    assert not (panels(named, 2)[0][0] < 255).any()


def test_the_overview_shows_each_class():
    g, _ = ganzoo.create("wavegan", length=64, width=1, num_classes=3)
    with pytest.raises(SampleError, match="no sampling rate"):
        overview(g)
    set_rate(g, 8000)
    assert rate_of(g) == 8000
    numbered = overview(g)
    name_classes(g, ["low", "mid", "high"])
    assert overview(g).size == numbered.size == (2 * CELL[0], 4 * CELL[1])
    assert overview(g) != numbered
    assert sound.titles(g, [2, 0]) == ["high", "low"]
    name_classes(g, ["été", "犬", "x" * 200])
    assert sound.titles(g, [0, 1]) == ["ete", "class 1"]
    assert overview(g).size == numbered.size
    many, _ = ganzoo.create("wavegan", length=64, width=1, num_classes=40)
    set_rate(many, 8000)
    assert overview(many).size == (4 * CELL[0], 8 * CELL[1])  # the first 32


# The commands


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("runs") / "run")
    return ganzoo.train(ganzoo.TrainConfig("wavegan", conditional=True, out=out, **SMALL))


def test_sounds_are_written_as_wav(run, ganzoo_cli):
    def sample(*arguments):
        code, out, err = ganzoo_cli("sample", str(run.folder), "--seed", "3", *arguments)
        assert code == 0, err
        return out.strip()

    assert sample("-n", "4", "-o", "all.npy") == "all.npy"
    items = np.load("all.npy")
    assert (items.shape, items.dtype) == ((4, 1, 1024), np.float32)
    whole = np.round(items[:, 0] * 32768).clip(-32768, 32767)
    sample("-n", "1", "-o", "one.wav")
    assert np.array_equal(read("one.wav")[2][0], whole[0])
    assert read("one.wav")[:2] == (1, 4096)
    sample("-n", "4", "-o", "four.wav")
    assert read("four.wav")[2].shape == (1, 4 * 1024 + 3 * 1024)  # a quarter of a second is 1,024 samples
    assert np.array_equal(read("four.wav")[2][0, -1024:], whole[3])
    sample("-n", "4", "-o", "each/")
    paths = sorted(Path("each").iterdir())
    assert [path.name for path in paths] == [f"00000{i}-class{i % 3}.wav" for i in range(4)]
    assert all(np.array_equal(read(path)[2][0], row) for path, row in zip(paths, whole, strict=True))
    sample("-n", "2", "--class", "high", "-o", "high/")
    assert sorted(path.name for path in Path("high").iterdir()) == ["000000-class2.wav", "000001-class2.wav"]
    sample("-n", "5", "-o", "sheet.png")
    with Image.open("sheet.png") as picture:
        assert picture.size == (2 * CELL[0], 3 * CELL[1])
    sample("--seeds", "1,2", "--class", "low", "-o", "chosen.wav")
    assert read("chosen.wav")[2].shape == (1, 3 * 1024)


def test_what_sounds_are_not_written_to(run, ganzoo_cli):
    for arguments, message in (
        (("--walk", "-o", "x.gif"), "this generator makes sounds: leave them out"),
        (("--mix", "2x2", "-o", "x.png"), "this generator makes sounds: leave them out"),
        (
            ("-n", "257", "-o", "x.png"),
            "257 sounds are too many for one picture (at most 256): write a .wav or a folder/",
        ),
        (("-o", "x.mp3"), "and sounds to a .wav too"),
    ):
        code, _, err = ganzoo_cli("sample", str(run.folder), *arguments)
        assert code == 1
        assert message in err
        assert err.count("\n") == 1
    code, _, err = ganzoo_cli("sample", "dcgan.mnist", "-n", "1", "-o", "x.wav")
    assert code == 1
    assert "x.wav: this generator makes no sounds whose sampling rate is known: write a .npy or a .png" in err
    assert not [path for path in Path().iterdir() if path.name != ".cache"]


def test_sounds_have_no_images_to_measure_or_to_find(run, ganzoo_cli):
    pytest.importorskip("torch_fidelity")
    for arguments, message in (
        (("eval", str(run.folder), "--data", "tones"), "only images can be measured"),
        (("eval", str(run.folder), "--data", "digits"), "only images can be measured"),
        (("eval", "dcgan.mnist", "--data", "tones"), "tones holds no images, and only images can be measured"),
        (("train", "wavegan", "--eval-every", "1"), "tones holds no images, and only images can be measured"),
        (("invert", str(run.folder), "x.png", "-o", "x"), "no images"),
    ):
        code, _, err = ganzoo_cli(*arguments)
        assert code == 1
        assert message in err
        assert err.count("\n") == 1
    assert not Path("runs").exists()
