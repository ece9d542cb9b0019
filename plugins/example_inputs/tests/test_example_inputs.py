import pytest

from ganzoo.testing import check_architecture


@pytest.mark.parametrize("inputs", ["edges", "smaller=4"])
def test_the_contract(inputs: str) -> None:
    check_architecture("example_inputs", inputs=inputs, width=4)
