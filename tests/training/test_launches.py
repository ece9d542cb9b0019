"""What a training step launches and copies, and what waits for the device, as counted on a simulated one."""

import sys
from pathlib import Path

import pytest
import torch

from ganzoo.devices import PIECE, to_host
from simulated import Machine

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import launches

STEPS = {
    # With torch's own spectral_norm, these were 1,081, 468 and 1,508, the last of them also with norms that are folded.
    "sngan": 385,
    "dcgan, spectral norm": 300,
    "projected": 690,
    "dcgan, palette": 350,
    "dcgan, ada": 617,  # 1,556 while the device computed the matrices, one by one
}
BATCHES = 2
"""In which an evaluation of 128 samples draws and measures them."""


@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize("case", [*STEPS, "srgan", "cyclegan", "stylegan2", "dcgan, DiffAugment"])
def test_counts_stay_low(case):
    counts = launches.count(case, "run")
    assert counts["launches"] <= STEPS.get(case, 2000)
    # Latents, the indices of real items, inputs of a translation; and the numbers of an augmentation for each of the
    # six batches that D sees, of which R1 has three.
    assert counts["uploads"] <= (9 if "," in case else 8)
    assert counts["step"] == 0
    assert counts["log line"] == 1
    assert counts["picture"] == 1
    assert counts["checkpoint"] <= 2  # whether all is finite, and the tensors
    assert counts["evaluation"] <= 1 + 2 * BATCHES  # the weights, to be hashed; samples and features


def test_the_table_has_a_column_for_each_count():
    counts = dict.fromkeys(("launches", "uploads", "step", *launches.OUTPUTS), 1)
    header, rule, row, sound = launches.table({"dcgan": counts, "wavegan": {"launches": 2000}})
    assert header.count("|") == rule.count("|") == row.count("|") == sound.count("|") == 9
    assert sound.startswith("| wavegan | 2,000 | ")
    assert set(launches.EXTRAS) < set(launches.cases())


def various():
    whole = torch.arange(6.0).view(1, 2, 3, 1)
    return {
        "flag": torch.tensor(True),
        "layout": whole.expand(2, -1, -1, 2).contiguous(memory_format=torch.channels_last),
        "double": torch.tensor([1.0, float("nan"), float("inf")], dtype=torch.double),
        "none": torch.empty(0, 3),
        "bytes": torch.tensor([1, 2, 255], dtype=torch.uint8),
        "half": torch.tensor([[0.1, -3.0]], dtype=torch.bfloat16).T,
        "count": torch.tensor(2**40 + 1),
        "parameter": torch.nn.Parameter(torch.ones(3)),
    }


def test_tensors_of_all_kinds_come_in_one_copy():
    expected = various()
    with Machine("cuda") as machine:
        there = {name: tensor.to("cuda") for name, tensor in expected.items()}
        there["here"] = expected["here"] = torch.ones(2)
        machine.waits.clear()
        host = to_host(there)
        assert machine.waits.total() == 1
    assert list(host) == list(there)
    assert host["here"] is not there["here"]
    for name, tensor in expected.items():
        assert host[name].dtype == tensor.dtype
        assert not host[name].requires_grad
        assert torch.equal(host[name].nan_to_num(7), tensor.detach().nan_to_num(7)), name


def test_large_tensors_come_in_several_copies():
    half = PIECE // 2
    with Machine("cuda", 2) as machine:
        there = {str(i): torch.full((half // 4,), float(i), device="cuda") for i in range(3)}
        there["other"] = torch.ones(1, device="cuda:1")
        machine.waits.clear()
        host = to_host(there)
        assert machine.waits.total() == 3
    assert [tensor[0].item() for tensor in host.values()] == [0, 1, 2, 1]
