"""The discriminator of DCGAN as a critic without BatchNorm, as the gradient penalty requires."""

from ganzoo_dcgan.model import Discriminator


class Critic(Discriminator):
    """Images (N, channels, image_size, image_size) to scores (N,): the discriminator of dcgan, by default without
    BatchNorm, which would make an item's gradient depend on the other items (Gulrajani et al. 2017, section 4, "No
    critic batch normalization").

    Args:
        image_size: 4, 5, 6 or 7 times 2^k pixels, k >= 1.
        channels: of the images.
        width: channels of the first layer; each later one has twice as many, up to 16 * width.
        norm: None; "spectral" (Miyato et al. 2018); or "batch", for comparison.
        hidden: units of a fully connected layer before the score; 0: none.
        num_classes: number of classes of a class-conditional critic, as in dcgan.

    Raises:
        ConfigError: a size that is not of that form, or an unknown norm.
    """

    def __init__(
        self,
        image_size: int = 64,
        channels: int = 3,
        width: int = 64,
        norm: str | None = None,
        hidden: int = 0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(image_size, channels, width, norm, hidden, num_classes)
