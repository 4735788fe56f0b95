"""Trainings one after the other in the same processes: what starts them takes longest."""

from pathlib import Path

from recbole_hstu.quick_start import run


def train_all(option_sets):
    """The results of HSTU on `toy` with each of some options; `resume` may name a folder with one
    training, which goes on."""
    return [run("HSTU", "toy", config_dict=with_file(options)) for options in option_sets]


def with_file(options):
    folder = Path(options.get("resume", "none"))
    if not folder.is_dir():
        return options
    (file,) = folder.glob("*.last.pth")
    return {**options, "resume": str(file)}
