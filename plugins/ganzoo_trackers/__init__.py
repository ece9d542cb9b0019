"""Trackers for the services that are in use, and for a table."""

from ganzoo import Register, hookimpl


@hookimpl
def register_trackers(register: Register) -> None:
    for name, attribute, summary in (
        ("csv", "Csv", "a table in the run folder, for spreadsheets"),
        ("tensorboard", "TensorBoard", "event files in the run folder, for tensorboard --logdir runs"),
        ("trackio", "Trackio", "Hugging Face's tracker: a local store, or a Space"),
        ("wandb", "Wandb", "Weights & Biases, online or offline"),
    ):
        register(name, f"ganzoo_trackers.trackers:{attribute}", summary=summary)
