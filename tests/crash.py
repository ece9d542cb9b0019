"""A training that dies on the way."""

import pytest

import ganzoo


class Crash(Exception):
    pass


def crash_at(step):
    def on_step(done):
        if done == step:
            raise Crash

    return on_step


def interrupted_run(config, at):
    """Train to step `at`, die there, resume."""
    with pytest.raises(Crash):
        ganzoo.train(config, on_step=crash_at(at))
    return ganzoo.train(config, resume=True)
