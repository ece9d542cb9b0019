"""How far samples are apart, and how near to the training images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ganzoo
from ganzoo import Composed, Data, EvaluationError, Evaluator, evaluate
from ganzoo.data.loading import load
from ganzoo.evaluation import scores
from ganzoo.evaluation.features import Extractor
from ganzoo.evaluation.metrics import Spread
from ganzoo.evaluation.neighbours import nearest

COLOUR = torch.randint(256, (900, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
TRAIN, TEST, NEW = COLOUR[:500], COLOUR[500:700], COLOUR[700:]


class Repeats(nn.Module):
    """Gives these uint8 images in their order, once each."""

    def __init__(self, items):
        super().__init__()
        self.register_buffer("items", items)
        self.config = {}

    def draw_latent(self, n, rng):
        return torch.arange(n) + n * rng.step

    def forward(self, z):
        return self.items[z % len(self.items)].float() / 127.5 - 1


class Pixels(Extractor):
    name, resize = "pixels", "none"

    def forward(self, images):
        return images.flatten(1).float(), None


def evaluator(metrics, held_out=TEST, n=200, **settings):
    held = None if held_out is None else Data(held_out)
    common = {"features": Pixels(), "use_cache": False}
    return Evaluator(Data(TRAIN), held_out=held, metrics=[metrics], n=n, **common, **settings)


def read(path):
    """A picture as a tensor (C, H, W)."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


# Diversity


def test_diversity_has_its_closed_form():
    """Half the contrast is half the distance; one image has none."""
    measure = evaluator("diversity")
    halved = Repeats(64 + TRAIN[:200] // 2)
    values = measure(halved).values
    ratio = ((halved.items.double().var(0).sum()) / TRAIN.double().var(0).sum()).sqrt().item()
    assert values == pytest.approx({"diversity": ratio, "diversity_pixels": ratio}, rel=1e-5)
    assert values["diversity"] == pytest.approx(0.5, abs=0.02)
    assert measure(Repeats(TRAIN[:1])).values == pytest.approx({"diversity": 0, "diversity_pixels": 0}, abs=1e-6)
    assert measure.floor["diversity"] == pytest.approx(1, abs=0.03)


def test_the_spread_does_not_depend_on_the_batches():
    whole, parts = Spread(), Spread()
    whole.add(COLOUR)
    for part in COLOUR.split(7):
        parts.add(part)
    expected = COLOUR.flatten(1).double().var(0).sum().item()
    assert whole.variance == pytest.approx(expected, rel=1e-12)
    assert parts.variance == pytest.approx(expected, rel=1e-12)
    distances = torch.pdist(COLOUR.flatten(1).double()).square().mean().item()
    assert distances / 2 == pytest.approx(expected, rel=1e-9)


def test_diversity_in_pixels_is_that_of_whole_images():
    """Those whose features are computed by channel are composed for it."""
    table = torch.randint(100, (150, 3), generator=torch.Generator().manual_seed(0))
    composed = Composed(load("digits").items[:100], table)
    one, other = (
        Evaluator(Data(items), features="mnist", metrics=["diversity"], n=10, use_cache=False)._reference["variance"]
        for items in (composed, composed[:])
    )
    assert one == other > 0


# Neighbours


@pytest.mark.parametrize(("n", "m", "k"), [(30, 2, 3), (1100, 25_000, 3), (1, 1, 1)])
def test_nearest_is_what_brute_force_finds(n, m, k):
    generator = torch.Generator().manual_seed(0)
    features, reference = torch.randn(n, 5, generator=generator), torch.randn(m, 5, generator=generator)
    features[0] = reference[m // 2] + 1e-4  # near each other, far from the origin
    distances, indices = nearest(features + 100, reference + 100, k)
    rows = torch.arange(0, n, 37)
    brute = (features[rows, None].double() - reference[None].double()).norm(dim=2).sort(1)
    torch.testing.assert_close(distances[rows].double(), brute.values[:, :k], rtol=1e-3, atol=1e-4)
    assert (indices[rows] == brute.indices[:, :k]).double().mean() > 0.98
    assert distances[0, 0] < 1e-3


def test_new_images_are_as_far_away_as_held_out_ones_and_copies_are_not():
    measure = evaluator("neighbours")
    assert measure.floor["neighbour_distance"] == 1
    assert measure.floor["copies"] == pytest.approx(0.01, abs=0.005)
    new = measure(Repeats(NEW)).values
    assert new["neighbour_distance"] == pytest.approx(1, abs=0.02)
    assert new["copies"] < 0.05
    assert measure(Repeats(TRAIN)).values == {"neighbour_distance": 0, "copies": 1}
    half = measure(Repeats(torch.cat([TRAIN[:50], NEW[:150]]))).values
    assert half["copies"] == pytest.approx(0.25, abs=0.03)
    assert 0.9 < half["neighbour_distance"] < 1
    nearly = measure(Repeats(TRAIN ^ 1)).values  # the last bit of each pixel
    assert nearly["copies"] == 1
    assert nearly["neighbour_distance"] < 0.1


def test_without_held_out_images_there_is_the_distance_alone():
    result = evaluator("neighbours", held_out=None)(Repeats(NEW))
    expected = (NEW.flatten(1).double()[:, None] - TRAIN.flatten(1).double()).norm(dim=2).min(1).values.quantile(0.5)
    assert result.values == {"neighbour_median": pytest.approx(expected.item(), rel=1e-5)}
    assert result.metrics == ["neighbours"]
    few = evaluator("neighbours", held_out=TEST[:99])
    assert set(few(Repeats(NEW)).values) == {"neighbour_distance"}  # 1 % of 99 is less than one image
    with pytest.raises(EvaluationError, match="are images of the reference too"):
        evaluator("neighbours", held_out=TRAIN[:60])


def test_only_some_of_a_large_reference_are_looked_at(monkeypatch):
    monkeypatch.setattr(scores, "NEAREST_AT_MOST", 40)
    kept = scores.reference_order(500)
    assert len(kept.unique()) == 40
    values = evaluator("neighbours", n=120)(Repeats(TRAIN[kept].repeat(3, 1, 1, 1))).values
    assert values["copies"] == 1


def test_neighbours_are_measured_on_request_only():
    assert evaluator("default").metrics == ("fid", "kid", "prdc", "diversity")


def test_held_out_images_decide_figures_of_neighbours(caplog):
    one, other = (evaluator("default", held_out=held_out)(Repeats(NEW)) for held_out in (TEST, TEST[:150]))
    ganzoo.store.results.compare([one, other])
    assert "measured differently: held_out.n is 200 and 150" in caplog.text
    one, other = (evaluator("neighbours", held_out=held_out)(Repeats(NEW)) for held_out in (TEST, TEST[:150]))
    with pytest.raises(EvaluationError, match=r"neighbours\.held_out"):
        ganzoo.store.results.compare([one, other])


# The picture


def test_the_picture_shows_the_nearest_samples_first(workplace):
    """Each is beside its nearest images; the rest of a row is empty."""
    samples = torch.cat([NEW[:60], TRAIN[3:4] ^ 1, NEW[60:120], TRAIN[7:8]])
    settings = {"features": Pixels(), "n": len(samples), "use_cache": False}
    result = evaluate(Repeats(samples), Data(TRAIN), neighbours="out/near.png", **settings)
    assert "neighbours" in result.metrics
    assert "diversity" in result.metrics
    sheet = read("out/near.png")
    assert sheet.shape == (3, 2 + 16 * 6, 2 + 3 * (4 + 3 * (2 + 4) + 2 + 2 + 2))

    def image(row, column, place):
        left = 2 + column * 28 + (0 if place == 0 else 8 + (place - 1) * 6)
        return sheet[:, 2 + 6 * row : 6 + 6 * row, left : left + 4]

    assert torch.equal(image(0, 0, 0), TRAIN[7])
    assert torch.equal(image(0, 0, 1), TRAIN[7])
    assert torch.equal(image(0, 1, 0), TRAIN[3] ^ 1)
    assert torch.equal(image(0, 1, 1), TRAIN[3])
    third = image(0, 2, 0)
    ((index,),) = [(third == NEW).flatten(1).all(1).nonzero()]
    order = (NEW[index].flatten().double() - TRAIN.flatten(1).double()).norm(dim=1).argsort()
    for place in range(3):
        assert torch.equal(image(0, 2, place + 1), TRAIN[order[place]])


def test_a_picture_of_few_samples_of_composed_images(workplace):
    table = torch.randint(100, (50, 3), generator=torch.Generator().manual_seed(0))
    composed = Composed(load("digits").items[:100], table)
    evaluate(
        Repeats(composed[:2]), Data(composed), features="mnist", n=2, metrics=["neighbours"], neighbours="near.png"
    )
    sheet = read("near.png")
    assert torch.equal(sheet[:, 2:30, 2:30], sheet[:, 2:30, 34:62])
    assert sheet.shape[1] == 32


def test_the_command_draws_and_measures_neighbours(ganzoo_cli, workplace):
    command = ("eval", "dcgan.mnist", "--data", "digits", "-n", "100", "--metrics", "kid", "--neighbours", "near.png")
    code, out, err = ganzoo_cli(*command)
    assert code == 0, err
    assert out.splitlines()[0].split() == ["kid", "neighbour_median"]
    assert read("near.png").shape[1] == 2 + 16 * 30
    code, _, err = ganzoo_cli(*command)
    assert code == 1
    assert "near.png exists already" in err
    before = (workplace / "near.png").stat().st_mtime_ns
    assert ganzoo_cli(*command, "--force")[0] == 0  # drawn again, though the figures are cached
    assert (workplace / "near.png").stat().st_mtime_ns > before
    for wrong, message in (
        (("dcgan.mnist", "--data", "digits", "--neighbours", "near.txt"), "must end in .png"),
        (("dcgan.mnist", "infogan.digits", "--data", "digits", "--neighbours", "new.png"), "one SOURCE, not of 2"),
    ):
        code, _, err = ganzoo_cli("eval", *wrong)
        assert code == 1
        assert message in err
    assert ganzoo_cli("eval", "a.json", "--neighbours", "new.png")[0] == 2
    with pytest.raises(EvaluationError, match="needs the metric 'neighbours'"):
        evaluator("kid")(Repeats(NEW), neighbours="new.png")
    (workplace / "file").write_text("")
    with pytest.raises(EvaluationError, match=r"file/new.png cannot be written"):
        evaluator("neighbours")(Repeats(NEW), neighbours="file/new.png")
