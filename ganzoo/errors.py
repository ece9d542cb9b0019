"""Every error ganzoo raises on purpose.

    GanzooError
    ├── ConfigError        a setting is unknown, out of range or does not fit the rest
    ├── UnknownNameError   nothing of that name is registered
    ├── PluginError        a plugin breaks the contract or cannot be loaded
    ├── DataError          training data is missing, unreadable or too small
    ├── TrainingError      training cannot go on (a non-finite loss)
    ├── CheckpointError    a run folder or checkpoint cannot be written or read
    ├── SampleError        images cannot be drawn or written
    ├── EvaluationError    a generator cannot be measured, or figures cannot be compared
    ├── WeightsError       published or foreign weights are missing, damaged, hostile or do not fit
    ├── HubError           the Hub cannot be reached, refuses, or lacks what is asked for
    ├── ExportError        a model cannot be exported
    └── CheckError         a plugin's network, loss or penalty fails a check of `ganzoo.testing`

The message of each names the thing, the cause and the next step, on one line.
"""

from collections.abc import Iterable


class GanzooError(Exception):
    """Base of all errors that ganzoo raises on purpose."""


class ConfigError(GanzooError, ValueError):
    """A setting is unknown, out of range or does not fit the rest."""


class UnknownNameError(GanzooError, LookupError):
    """Nothing of that name is registered."""


class PluginError(GanzooError):
    """A plugin breaks the contract or cannot be loaded."""


class DataError(GanzooError):
    """Training data is missing, unreadable or too small."""


class TrainingError(GanzooError):
    """Training cannot go on."""


class CheckpointError(GanzooError):
    """A run folder or a checkpoint cannot be written or read."""


class SampleError(GanzooError):
    """Images cannot be drawn or written."""


class EvaluationError(GanzooError):
    """A generator cannot be measured, or figures cannot be compared."""


class WeightsError(GanzooError):
    """Published or foreign weights are missing, damaged, hostile or do not fit."""


class HubError(GanzooError):
    """The Hub cannot be reached, refuses, or lacks what is asked for."""


class ExportError(GanzooError):
    """A model cannot be exported."""


class CheckError(GanzooError, AssertionError):
    """A plugin's network, loss or penalty fails a check of `ganzoo.testing`; the message says what to mend."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about a misspelt name: the nearest known one, else all of them.

    Args:
        name: what was asked for.
        known: what there is.
    """
    import difflib

    names = sorted(known)
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return f"did you mean {near[0]!r}?"
    return f"there is {', '.join(names)}" if names else "there is none"
