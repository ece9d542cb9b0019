"""What a plugin author's test suite calls: one line a network, loss or penalty, and a failure says what to mend.

    from ganzoo.testing import check_architecture

    def test_mine():
        check_architecture("mine", width=8)

All of it runs on the CPU, through the trainer's own code, in a temporary folder.
"""

from ganzoo.testing.architecture import check_architecture
from ganzoo.testing.components import check_loss, check_penalty

__all__ = ["check_architecture", "check_loss", "check_penalty"]
