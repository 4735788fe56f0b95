"""Trainings one after the other in the same processes: what starts them takes longest."""

from recbole_hstu.quick_start import run


def train_all(option_sets):
    """The results of HSTU on `toy` with each of some options."""
    return [run("HSTU", "toy", config_dict=options) for options in option_sets]
