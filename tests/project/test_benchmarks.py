"""The benchmark suite: both sides train the same networks, and it reports what it promises. No timing is asserted."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ganzoo
from ganzoo.data.loading import load
from ganzoo.training.build import build_players

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import leaderboard
import recording
import run
import search
import sets
import textbook
import trial
from sides import CASES


@pytest.mark.parametrize("name", CASES)
def test_both_sides_train_the_same_networks(name):
    case = CASES[name]
    config = ganzoo.TrainConfig(**case.settings())
    data = load("digits", image_size=case.image_size, channels=case.channels)
    players = build_players(config, data)
    mine = players.g, players.d
    theirs = getattr(textbook, case.networks)(case.critic)
    for a, b in zip(mine, theirs, strict=True):
        assert [p.shape for p in a.parameters()] == [p.shape for p in b.parameters()]
        assert [p.shape for p in a.buffers()] == [p.shape for p in b.buffers()]
    assert (config.batch_size, config.n_critic) == (case.batch_size, case.n_critic)
    assert bool(config.penalties) == case.penalty
    assert config.loss == ("wasserstein" if case.critic else "nonsaturating")


@pytest.mark.parametrize("name", CASES)
def test_a_textbook_step_trains(name):
    case = CASES[name]
    torch.manual_seed(0)
    networks = getattr(textbook, case.networks)(case.critic)
    # Weights alone: a critic's last bias is in both terms of the Wasserstein loss, with opposite signs.
    weights = [p for network in networks for p in network.parameters() if p.dim() > 1]
    before = [p.detach().clone() for p in weights]
    dataset = textbook.Photos() if case.image_size == 64 else textbook.Digits()
    assert dataset[0][0].shape == (case.channels, case.image_size, case.image_size)
    assert -1 <= dataset[0][0].min() < -0.9 < 0.9 < dataset[0][0].max() <= 1

    class Enough(Exception):
        pass

    seen = []

    def stop(images):
        seen.append(images)
        raise Enough

    with pytest.raises(Enough):
        getattr(textbook, case.loop)(networks, dataset, 8, torch.device("cpu"), stop)
    assert seen == [8 * case.n_critic]
    assert all(p.isfinite().all() for p in weights)
    assert all(not torch.equal(old, new) for old, new in zip(before, weights, strict=True))


def test_arithmetic_is_counted():
    """The MLP by hand: G's and D's weights, each pass 2 a weight; D's first layer owes its real and fake inputs no
    gradient, and no more does G's its latents; D's weights get none in G's step."""
    g = [100 * 128, 128 * 256, 256 * 512, 512 * 1024, 1024 * 784]
    d = [784 * 512, 512 * 256, 256]
    d_phase = 2 * (3 * sum(d) - d[0])
    g_phase = (3 * sum(g) - g[0]) + 2 * sum(d)  # its pass forward serves D's phase too
    assert run.flops_per_image(CASES["vanilla"]) == 2 * (d_phase + g_phase)


@pytest.mark.slow
def test_what_recording_costs_is_measured():
    """Shares that are there and are shares; how large they are is for the report to say."""
    command = [sys.executable, recording.__file__, "csv", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shares = json.loads(done.stdout)
    assert shares.keys() == {"training", "page", "beside"}
    assert 0 < shares["training"] < 1
    assert 0 < shares["page"] < 1
    assert shares["beside"] >= 0
    assert len(list(run.recording_lines({"none": shares, "csv": shares}))) == 2


@pytest.mark.slow
def test_the_suite_reports_what_it_promises(tmp_path):
    page, record = tmp_path / "speed.md", tmp_path / "record.json"
    page.write_text("above\n<!-- bench -->\nold\n<!-- /bench -->\nbelow\n")
    command = [sys.executable, run.__file__, "--quick", "--only", "vanilla", "--variants", "fp32"]
    sizes = ["--rounds", "2", "--seconds", "0.05", "--threads", "1", "--date", "a day"]
    done = subprocess.run(
        [*command, *sizes, "--json", str(record), "--write", str(page)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(record.read_text())
    assert found["machine"].keys() == {"cpu", "cpus", "threads", "device", "system", "python", "torch", "ganzoo"}
    assert (found["machine"]["threads"], found["date"]) == (1, "a day")
    assert found["peaks"]["gemm"]["fp32"] > 0 < found["peaks"]["conv"]["fp32"]
    case = found["cases"]["vanilla"]
    assert case["textbook"]["images_per_second"] > 0 < case["textbook"]["memory"]
    mine = case["ganzoo"]["fp32"]
    assert len(mine["ratios"]) == 2
    for key in ("images_per_second", "ratio", "memory", "flops_per_second", "of_gemm_peak", "of_conv_peak"):
        assert mine[key] > 0
    assert page.read_text() == f"above\n<!-- bench -->\n{done.stdout}<!-- /bench -->\nbelow\n"
    assert "| MLP GAN, 28 px, batch 64 |" in done.stdout


def test_the_page_shows_the_leaderboard_of_the_records():
    records = json.loads(leaderboard.RECORDS.read_text())
    text = leaderboard.PAGE.read_text()
    shown = text.partition(leaderboard.MARKS[0])[2].partition(leaderboard.MARKS[1])[0]
    assert shown == "".join(f"{line}\n" for line in leaderboard.table(records))


@pytest.mark.usefixtures("shared_cache")
def test_a_record_of_a_run(tmp_path):
    settings = {
        "steps": 4,
        "batch_size": 16,
        "eval_every": 2,
        "eval_samples": 300,
        "generator": {"hidden": [8]},
        "seed": 3,
    }
    run = ganzoo.train(ganzoo.TrainConfig("vanilla", out=str(tmp_path / "run"), **settings))
    evaluator = ganzoo.Evaluator("digits", metrics=("fid", "prdc", "modes"), n=300)
    made = leaderboard.record(run.folder, evaluator)
    assert (
        made["command"] == "ganzoo train vanilla --set 'generator.hidden=[8]' --augment none --steps 4 --batch-size 16"
    )
    assert [point["step"] for point in made["curve"]] == [2, 4]
    assert made["images"] == 64
    assert made["curve"][1]["fid"] == pytest.approx(made["result"]["values"]["fid"])
    again = {**made, "seed": 4, "result": {**made["result"], "values": {**made["result"]["values"], "kl": 0.5}}}
    header, _, row, *_ = leaderboard.table([made, again])
    assert len(row.split("|")) == len(header.split("|"))
    assert row.startswith(f"| `{made['command']}` | 2 |")
    kl = (made["result"]["values"]["kl"] + 0.5) / 2
    assert f"{kl:.2g} ± " in row


# The search and the table over seven sets


def trial_row(settings, of, fid, **figures):
    return {"settings": settings, "set": of, "fid": fid, "diversity": 0.9, "diversity_pixels": 0.9, **figures}


def test_the_mean_of_ranks_decides_and_a_collapse_comes_last():
    rows = [
        trial_row("a", "digits", 10.0),
        trial_row("b", "digits", 20.0),
        trial_row("c", "digits", 5.0, diversity=0.1),
        trial_row("a", "nouns", 300.0),
        trial_row("b", "nouns", 100.0),
        {"settings": "c", "set": "nouns", "error": "g_loss became NaN"},
    ]
    assert search.rank(rows) == [(1.5, 2.0, "b"), (1.5, 3.0, "a"), (3.0, math.inf, "c")]
    *_, last = search.table(rows, ["digits", "nouns"], "")
    assert last == "| `c` | 3.00 | inf | 5* | failed |"


def test_settings_of_a_trial_are_those_of_the_command_line():
    settings = trial.settings_of("lr=1e-3 penalties=r1=1@4,r2=1@4 augment=none generator.width=48 loss=rpgan")
    assert settings == {
        "lr": 1e-3,
        "penalties": ["r1=1@4", "r2=1@4"],
        "augment": [],
        "generator.width": 48,
        "loss": "rpgan",
    }
    assert ganzoo.TrainConfig("dcgan", **settings).generator["width"] == 48


def test_trials_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "pictures", None)
    job = {"architecture": "dcgan", "set": "digits", "seed": 0}
    (tmp_path / "results.jsonl").write_text(json.dumps({**job, "fid": 3.0}) + "\n")
    assert list(trial.run([job], tmp_path, 1)) == [{**job, "fid": 3.0}]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_table_shows_the_best_row_first_and_the_spread_of_seeds():
    def record(architecture, seed, fid):
        return {"architecture": architecture, "recipe": "default", "seed": seed, "set": "nouns", "steps": 1000,
                "fid": fid, "fid_multiple": fid / 5, "recall": 0.25}  # fmt: skip

    lines = sets.table([record("vanilla", 0, 90.0), record("dcgan", 0, 40.0), record("dcgan", 1, 60.0)])
    assert lines[0] == "## nouns"
    rows = [line for line in lines if line.startswith("| `")]
    samples = "![samples](_static/sets/nouns-dcgan.png)"
    assert rows[0] == f"| `dcgan` | 10 ± 3 | 50 ± 1e+01 |  | 0.25 ± 0 |  |  | 1,000 | {samples} |"
    assert rows[1].startswith("| `vanilla` | 18 | 90 |")


def test_the_overview_has_the_best_of_each_set_in_bold():
    def record(architecture, recipe, of, **figures):
        return {"architecture": architecture, "recipe": recipe, "seed": 0, "set": of, **figures}

    lines = sets.overview(
        [
            record("wgan", "paper", "nouns", error="weights became NaN"),
            record("wgan", "default", "nouns", fid=90.0, fid_multiple=18.0),
            record("dcgan", "default", "nouns", fid=40.0, fid_multiple=8.0),
            record("wgan", "default", "emoji", kid=0.2, fid_multiple=None),
        ]
    )
    assert lines == [
        "| fid, x floor | nouns | emoji, kid |",
        "|---|---:|---:|",
        "| `dcgan` | **8** |  |",
        "| `wgan` | 18 | 0.2 |",
        "| `wgan --recipe paper` | failed |  |",
        "",
    ]


def test_what_failed_stands_in_the_table_and_has_no_picture():
    row = {"architecture": "wgan", "recipe": "paper", "seed": 0, "set": "emoji", "error": "weights became NaN"}
    row["recipe_digest"] = sets.digest("wgan", "paper")
    lines = sets.table([sets.keep(row)])
    assert "| `wgan --recipe paper` |  |  |  |  |  |  | failed: weights became NaN |" in lines


def test_rows_are_missing_once_their_recipe_has_changed(tmp_path, monkeypatch):
    old, *_ = [job for job in sets.jobs(tmp_path, None) if job["architecture"] == "wgan"]
    asked = []
    monkeypatch.setattr(sets, "RECORDS", tmp_path / "sets.json")
    monkeypatch.setattr(sets, "write_between_marks", lambda *arguments: None)
    monkeypatch.setattr(sets, "run", lambda jobs, out, at_once: asked.append(jobs) or [])
    monkeypatch.setattr("sys.argv", ["sets.py", "--data-dir", str(tmp_path)])
    for digest in (old["recipe_digest"], "another"):
        row = {**old, "recipe_digest": digest, "steps": 1, "fid": 1.0, "fid_multiple": 1.0}
        sets.RECORDS.write_text(json.dumps([row]))
        sets.main()
    kept, changed = asked
    assert old not in kept
    assert old in changed
    assert len(changed) == len(kept) + 1
