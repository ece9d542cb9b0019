import pytest

from ganzoo.testing import check_architecture


@pytest.mark.parametrize(("image_size", "channels"), [(28, 1), (32, 3)])
def test_the_contract(image_size: int, channels: int) -> None:
    check_architecture("example", image_size=image_size, channels=channels, width=4)
