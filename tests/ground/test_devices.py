"""Which device is used, and how exactly it computes."""

import contextlib

import pytest
import torch

import ganzoo
from ganzoo.devices import choose_device, exact_arithmetic, fast_arithmetic


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name, message in (("gpu", "auto, cpu, cuda"), ("cuda:99", "cuda:99"), ("xla", "xla")):
        with pytest.raises(ganzoo.ConfigError, match=message):
            choose_device(name)


@pytest.mark.parametrize("arithmetic", [exact_arithmetic, fast_arithmetic])
def test_arithmetic_is_set_for_cuda_alone_and_put_back(arithmetic):
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def switches():
        return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark

    before = switches()
    with arithmetic(torch.device("cpu")):
        assert switches() == before
    with contextlib.suppress(KeyError), arithmetic(torch.device("cuda")):
        name = "ieee" if arithmetic is exact_arithmetic else "tf32"
        assert switches() == (name, name, True, False)
        raise KeyError
    assert switches() == before
