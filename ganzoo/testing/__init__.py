"""Checks for the test suite of a plugin: one line for each architecture, loss, penalty or tracker. A failure says
how to fix it.

    from ganzoo.testing import check_architecture

    def test_mine():
        check_architecture("mine", width=8)

The checks run on the CPU, with the trainer's own code, in a temporary folder.
"""

from ganzoo.testing.architecture import check_architecture
from ganzoo.testing.components import check_loss, check_penalty
from ganzoo.testing.trackers import check_tracker

__all__ = ["check_architecture", "check_loss", "check_penalty", "check_tracker"]
