"""HSTU on windows: the loss of a row counts the positions that are its own, and no others."""

import pytest
import torch
from hstu_batches import make_batch, make_model, outcome

from recbole_hstu.data.rows.sequence_rows import OWN_TARGETS
from recbole_hstu.distributed.batch_share import whole_batch
from recbole_hstu.support.errors import InputError

LENGTHS, OWN = [12, 9, 12, 3, 1, 12], [5, 9, 1, 3, 1, 7]


def windows(own=OWN):
    return make_batch(LENGTHS) | {OWN_TARGETS: torch.tensor(own)}


def test_the_loss_counts_a_windows_own_positions():
    """What is left of the sum over all positions when that over the earlier ones is taken away."""
    model = make_model(loss_type="full", query_time="last")
    batch, own = windows(), torch.tensor(OWN)
    left = torch.tensor(LENGTHS) - own
    some = left > 0  # the rows that have earlier positions, cut before their first own one
    earlier = {key: value[some] for key, value in make_batch(LENGTHS).items()}
    earlier["item_id"] = earlier["item_id_list"].gather(1, left[some].unsqueeze(1)).squeeze(1)
    earlier["item_length"] = left[some]
    whole = model.calculate_loss(make_batch(LENGTHS)) * sum(LENGTHS)
    expected = (whole - model.calculate_loss(earlier) * left.sum()) / own.sum()
    torch.testing.assert_close(model.calculate_loss(batch), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num_negatives", [2, 32])  # fewer items than the catalogue has, or not
@pytest.mark.parametrize("loss_type", ["sampled", "shared", "full"])
def test_windows_without_overlap_are_plain_rows(loss_type, num_negatives):
    model = make_model(loss_type=loss_type, num_negatives=num_negatives)
    plain, in_windows = outcome(model, make_batch(LENGTHS)), outcome(model, windows(LENGTHS))
    for one, other in zip(plain, in_windows, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("loss_type", ["sampled", "shared"])
def test_shares_of_windows_make_up_their_batch(loss_type):
    model, batch = make_model(loss_type=loss_type, num_negatives=4), windows()
    share = whole_batch(batch[OWN_TARGETS])
    whole, weight = model.loss_of_share(batch, share)
    assert weight == 1
    total = 0
    for places in (torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5])):
        model.draws.at(0, 0)
        rows = {key: value[places] for key, value in batch.items()}
        loss, weight = model.loss_of_share(rows, share.of(places))
        total += loss * weight
    torch.testing.assert_close(total, whole, rtol=1e-10, atol=1e-10)


def test_random_subsequences_do_not_go_with_windows():
    with pytest.raises(InputError, match="windows: all learns from every event"):
        make_model(windows="all", stochastic_length_alpha=1.5)
