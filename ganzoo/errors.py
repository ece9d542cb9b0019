"""The errors that ganzoo raises on purpose.

    GanzooError
    ├── ConfigError        a setting is unknown, out of range or does not fit the rest
    ├── UnknownNameError   no registered entry has that name
    ├── PluginError        a plugin breaks the contract or cannot be loaded
    ├── DataError          training data is missing, unreadable or too small
    ├── TrainingError      training cannot go on (a non-finite loss)
    ├── CheckpointError    a run folder or checkpoint cannot be written or read
    ├── SampleError        images cannot be drawn or written
    ├── EvaluationError    a generator cannot be measured, or figures cannot be compared
    ├── WeightsError       published or foreign weights are missing, damaged, hostile or do not fit
    ├── HubError           the Hub cannot be reached, refuses access, or lacks the repository or file
    ├── ExportError        a model cannot be exported
    └── CheckError         a plugin's network, loss or penalty fails a check of `ganzoo.testing`

Each message is one line that names the thing, the cause and the next step.
"""

from collections.abc import Iterable


class GanzooError(Exception):
    """Base of all errors that ganzoo raises on purpose."""


class ConfigError(GanzooError, ValueError):
    """A setting is unknown, out of range or does not fit the rest."""


class UnknownNameError(GanzooError, LookupError):
    """No registered entry has that name."""


class PluginError(GanzooError):
    """A plugin breaks the contract or cannot be loaded."""


class DataError(GanzooError):
    """Training data is missing, unreadable or too small."""


class TrainingError(GanzooError):
    """Training cannot go on, because a loss or weight is not finite or another process is gone."""


class CheckpointError(GanzooError):
    """A run folder or a checkpoint cannot be written or read."""


class SampleError(GanzooError):
    """Images cannot be drawn or written."""


class EvaluationError(GanzooError):
    """A generator cannot be measured, or figures cannot be compared."""


class WeightsError(GanzooError):
    """Published or foreign weights are missing, damaged, hostile or do not fit."""


class HubError(GanzooError):
    """The Hub cannot be reached, refuses access, or lacks the repository or file."""


class ExportError(GanzooError):
    """A model cannot be exported."""


class CheckError(GanzooError, AssertionError):
    """A plugin's network, loss or penalty fails a check of `ganzoo.testing`; the message says how to fix it."""


MOST_CHOICES = 50
"""Names that a message lists."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message about a misspelt name: the nearest known name, or else all of them, but at most 50.

    Args:
        name: the unknown name.
        known: the names to choose from.
    """
    import difflib

    names = sorted(known)
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return f"did you mean {near[0]!r}?"
    rest = f" and {len(names) - MOST_CHOICES} more" if len(names) > MOST_CHOICES else ""
    return f"choose from {', '.join(names[:MOST_CHOICES])}{rest}" if names else "there are none"
