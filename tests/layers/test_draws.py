"""Numbers of a step and a row: the same for the same place, others everywhere else."""

import torch

from recbole_hstu.layers.draws import Draws


def drawn(seed=1, epoch=0, step=0, what="negatives", place=0):
    draws = Draws(seed, "cpu")
    draws.at(epoch, step)
    of_row = torch.rand(2, generator=draws.of_row(what, place)).tolist()
    return tuple(torch.rand(2, generator=draws.of_step(what)).tolist()), tuple(of_row)


def test_seed_epoch_step_name_and_place_decide():
    assert drawn() == drawn()
    others = ({"seed": 2}, {"epoch": 1}, {"step": 1}, {"what": "order"})
    steps, rows = zip(drawn(), *(drawn(**other) for other in others), strict=True)
    assert len(set(steps)) == len(set(rows)) == 5
    assert drawn(place=1)[0] == drawn()[0] and drawn(place=1)[1] not in rows
