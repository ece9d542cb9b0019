"""Randomness is a function of (seed, step, purpose) and of nothing else."""

import hashlib

import pytest
import torch

import ganzoo
from ganzoo.rng import Rng, preserve_torch, seed_torch, stream_seed


def test_streams_differ_by_seed_step_and_purpose():
    seeds = {stream_seed(*key) for key in [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (1, 1, "a")]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_known_stream():
    """Fixed for good: a seed published with a picture must draw it in every later version."""
    seed = int.from_bytes(hashlib.blake2b(b"0/0/sample").digest()[:4], "big")
    assert stream_seed(0, 0, "sample") == seed
    assert torch.equal(
        ganzoo.Rng(0, 0, "sample").randn(2), torch.randn(2, generator=torch.Generator().manual_seed(seed))
    )


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_draw_its_rows(parts):
    draws = (lambda rng, n: rng.randn(n, 3), lambda rng, n: rng.rand(n), lambda rng, n: rng.randint(1000, n, 2))
    whole, split = Rng(1, 2, "x"), [Rng(1, 2, "x", part=part, parts=parts) for part in range(parts)]
    for draw in draws:
        assert torch.equal(draw(whole, 8), torch.cat([draw(rng, 8 // parts) for rng in split]))


def test_ranges():
    rng = Rng(0, 0, "ranges")
    uniform, whole = rng.rand(4000), rng.randint(5, 4000)
    assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() < 1
    assert whole.dtype == torch.int64
    assert whole.unique().tolist() == [0, 1, 2, 3, 4]
    normal = rng.randn(4000)
    assert abs(normal.mean()) < 0.1
    assert abs(normal.std() - 1) < 0.1


def test_torchs_own_generator_is_put_back():
    cpu = torch.device("cpu")
    before = torch.get_rng_state()
    with preserve_torch(cpu):
        seed_torch(5, cpu)
        first = torch.randn(3)
        seed_torch(5, cpu)
        assert torch.equal(torch.randn(3), first)
    assert torch.equal(torch.get_rng_state(), before)
