"""What a notebook shows: of a run, a result, a generator, and of `ganzoo.show`. Nothing in it is taken for HTML."""

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo.errors import SampleError, UnknownNameError, WeightsError
from ganzoo.report.shown import run_html

HOSTILE = "<script>alert(1)</script>"


def picture(data):
    assert data.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(data))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    small = {"width": 4}
    settings = {"steps": 2, "batch_size": 8, "generator": small, "discriminator": small}
    return ganzoo.train("dcgan", out=str(tmp_path_factory.mktemp("shown") / "run"), **settings)


@pytest.fixture
def result():
    return ganzoo.Result(
        source=HOSTILE,
        weights={"sha256": "0" * 64, "kind": "ema"},
        values={"fid": 12.345678, "precision": 0.5, **{f"figure_{i}": float(i) for i in range(30)}},
        floor={"n": 10000, "fid": 1.5},
        protocol={"data": HOSTILE, "generated": {"n": 300}, "held_out": {"split": "test"}},
    )


# ganzoo.show


def test_images_are_a_grid():
    shown = ganzoo.show(torch.zeros(6, 1, 28, 28), columns=3)
    assert shown.picture.size == (3 * 30 + 2, 2 * 30 + 2)
    large = picture(shown._repr_png_())
    assert large.size == (92 * 5, 62 * 5)  # small pictures are enlarged in whole squares
    assert shown._repr_html_() is None
    assert repr(shown) == "<ganzoo.Shown: 92 x 62 pixels>"


def test_large_pictures_stay_as_they_are():
    shown = ganzoo.show(torch.zeros(1, 3, 512, 512))
    assert picture(shown._repr_png_()).size == shown.picture.size == (516, 516)


def test_a_run_and_its_folder_are_the_newest_picture(run):
    with Image.open(run.folder / "samples" / "step-0000002.png") as newest:
        for source in (run, run.folder, str(run.folder)):
            assert ganzoo.show(source).picture.tobytes() == newest.tobytes()


def test_a_model_and_a_name_are_drawn(run):
    for source in (run.folder / "model", str(run.folder / "model"), "dcgan.mnist", run.generator):
        assert min(ganzoo.show(source).picture.size) > 100


def test_results_are_tables(result):
    shown = ganzoo.show([result, result])
    assert shown._repr_png_() is None
    assert shown._repr_html_() == 2 * ganzoo.show(result).html
    assert repr(shown) == "<ganzoo.Shown: a table>"


def test_it_is_saved(tmp_path, result):
    path = ganzoo.show(torch.zeros(1, 1, 8, 8)).save(tmp_path / "new" / "grid.png")
    with Image.open(path) as saved:
        assert saved.size == (12, 12)
    assert ganzoo.show(result).save(tmp_path / "table.html").read_text().startswith("<table>")
    with pytest.raises(SampleError, match="cannot be written"):
        ganzoo.show(torch.zeros(1, 1, 8, 8)).save(tmp_path / "grid.nonsense")


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        (torch.zeros(3, 8, 8), SampleError, r"shape \(3, 8, 8\) is not a batch of images"),
        (torch.zeros(1, 5, 8, 8), SampleError, "not images of 1 or 3 channels"),
        (3, SampleError, "a int cannot be shown"),
        ([], SampleError, "a list cannot be shown"),
        ("dcgan.mnits", UnknownNameError, "did you mean 'dcgan.mnist'"),
        ("./nowhere", WeightsError, "there is no folder ./nowhere"),
    ],
)
def test_what_cannot_be_shown(what, error, message):
    with pytest.raises(error, match=message):
        ganzoo.show(what)


def test_points_have_no_picture(tiny_config):
    run = ganzoo.train(tiny_config(steps=2))
    with pytest.raises(SampleError, match="has no pictures yet"):
        ganzoo.show(run)
    with pytest.raises(SampleError):
        ganzoo.show(run.generator)
    assert run.generator._repr_png_() is None  # a notebook shows its text instead
    assert "<img" not in run._repr_html_()


# What objects show of themselves


def test_a_generator_shows_samples_and_stays_as_it_is(run):
    g = run.generator
    before, state = g.state_dict(), torch.random.get_rng_state()
    assert picture(g._repr_png_()).size[0] >= 400
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in g.state_dict().items())
    for other in (copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert other._repr_png_() == g._repr_png_()
    assert not hasattr(run.discriminator, "_repr_png_")
    assert not hasattr(torch.nn.Sequential, "_repr_png_")


def test_a_generator_of_translations_needs_inputs():
    g, _ = ganzoo.create("pix2pix", image_size=32, generator={"width": 4})
    assert g._repr_png_() is None
    with pytest.raises(SampleError, match=r"show its images, as ganzoo\.sample\(g, inputs=\.\.\.\) gives them"):
        ganzoo.show(g)


def test_a_generator_of_sounds_shows_its_waveforms():
    g, _ = ganzoo.create("wavegan", length=4096, generator={"width": 2})
    g.sampling_rate = 16000
    assert picture(g._repr_png_()).size[0] >= 400


def test_a_run_shows_its_picture_and_its_last_line(run):
    html = run._repr_html_()
    assert html.startswith('<div><img src="data:image/png;base64,')
    assert "step 2 of 2" in html
    assert "d_loss " in html


def test_nothing_is_taken_for_html(run, result, tmp_path):
    assert "<script" not in run_html(run.folder, HOSTILE, {HOSTILE: 1.0, "text": HOSTILE})
    assert "<script" not in result._repr_html_()
    assert "&lt;script&gt;" in result._repr_html_()
    assert "12.35" in result._repr_html_()


def test_a_run_whose_folder_is_gone_still_has_its_facts():
    assert run_html(Path("gone"), "gone", {"d_loss": 1.0}) == "<div><b>gone</b><br>d_loss 1</div>"


def test_representations_fit_on_three_lines(run, result):
    for thing in (run, result, result.__class__(**{**vars(result), "values": {"fid": 1.0}})):
        lines = repr(thing).splitlines()
        assert len(lines) <= 3
        assert max(map(len, lines)) <= 110
    assert "architecture='dcgan'" in repr(run)
    assert repr(result).startswith("Result('<script>alert(1)</script>', data=")
