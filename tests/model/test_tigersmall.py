"""TIGERSmall: what holds whatever its weights; its beam and its scores against plain sums."""

import copy

import pytest
import torch
from golden_model import check_company_and_padding
from hstu_batches import WIDTH, make_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_ids import retriever

from recbole_hstu.data.rows.sequence_rows import OWN_TARGETS
from recbole_hstu.distributed.batch_share import whole_batch
from recbole_hstu.layers.codes.decoding import exact_scores
from recbole_hstu.model.tigersmall import TIGERSmall
from recbole_hstu.support.errors import InputError

LENGTHS = [12, 9, 3, 1]


MODEL = retriever(TIGERSmall)


@pytest.fixture
def model():
    return MODEL


@given(st.lists(st.integers(1, WIDTH), min_size=1, max_size=12), st.integers(0, 99))
@settings(max_examples=5)
def test_scores_do_not_depend_on_company_or_padding(lengths, seed):
    check_company_and_padding(MODEL, make_batch(lengths, seed))


def test_a_step_in_half_precision():
    model = copy.deepcopy(MODEL).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.calculate_loss(make_batch(LENGTHS))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(model.calculate_loss(make_batch(LENGTHS)).item(), rel=0.05)


@pytest.mark.parametrize("position", [0, 4, WIDTH - 2])
def test_nothing_depends_on_the_future(model, position):
    batch = make_batch([WIDTH])
    before, _ = model.forward(batch)
    batch["item_id_list"][0, position + 1 :] = 7
    after, _ = model.forward(batch)
    assert torch.equal(before[: position + 1], after[: position + 1])
    assert not torch.allclose(before[position + 1 :], after[position + 1 :])


def by_hand(model, hidden, item):
    """Level after level: a softmax over the codes that other items with the same prefix have."""
    codes, sizes = model.ids.codes, model.ids.level_sizes
    offset, total, a, decoder = 0, 0.0, model.decoder.start(hidden), model.decoder
    for level, size in enumerate(sizes):
        same = (codes[1:, :level] == codes[item, :level]).all(1)
        known = codes[1:][same, level].unique() + offset
        active = a * torch.sigmoid(a)
        logits = decoder.weight[known] @ active + decoder.bias[known]
        own = codes[item, level] + offset
        total += (logits - logits.exp().sum().log())[known == own].item()
        a, offset = a + decoder.codes[own], offset + size
    return total


def test_a_score_is_the_sum_of_the_levels_logarithms(model):
    batch = make_batch(LENGTHS)
    users, scores = model.users(batch), model.full_sort_predict(batch)
    torch.testing.assert_close(scores[:, 1:].exp().sum(1), torch.ones(4, dtype=torch.double))
    assert (scores[:, 0] == -torch.inf).all()
    for row, item in ((0, 1), (1, 17), (3, 60)):
        assert scores[row, item].item() == pytest.approx(by_hand(model, users[row], item))
    along_the_trie = exact_scores(model.trie, model.decoding(users), len(users), block=3)
    torch.testing.assert_close(along_the_trie, scores)
    own = scores.gather(1, batch["item_id"].unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(model.predict(batch), own)


def test_a_beam_as_wide_as_the_catalogue_is_exact(model):
    users = model.users(make_batch(LENGTHS))
    scores = model.exact_scores(users)
    found, item = model.beam(users, 1000)
    assert item.sort(1).values.tolist() == [list(range(1, 61))] * 4
    torch.testing.assert_close(found, scores.gather(1, item))
    assert (found.diff(dim=1) <= 0).all()


def test_a_narrow_beam_finds_as_many_items_and_scores_them_alike():
    model = retriever(TIGERSmall, decode="beam")
    batch = make_batch(LENGTHS)
    exact = model.exact_scores(model.users(batch))
    scores = model.full_sort_predict(batch)
    found = scores > -torch.inf
    assert found.sum(1).tolist() == [7] * 4
    torch.testing.assert_close(scores[found], exact[found])


def test_a_beam_of_one_takes_the_likeliest_code_at_every_level():
    model = retriever(TIGERSmall)
    users = model.users(make_batch(LENGTHS))
    _, item = model.beam(users, 1)
    exact, codes = model.exact_scores(users).exp(), model.ids.codes
    for row in range(4):
        left = torch.ones(61, dtype=torch.bool)
        for level in codes.t():
            mass = torch.zeros(6, dtype=torch.double)
            mass.index_add_(0, level[left].clamp(min=0), exact[row, left])
            left &= level == mass.argmax()
        assert left.nonzero().item() == item[row, 0]


def test_the_loss_is_of_every_position_that_is_a_rows_own(model):
    batch = make_batch([4, 2])
    parts = [model.predict(batch)]  # after all events, after all but one, ...
    for k in range(1, 4):
        length = torch.tensor([4 - k, max(1, 2 - k)])
        target = batch["item_id_list"].gather(1, length.unsqueeze(1)).squeeze(1)
        parts.append(model.predict({**batch, "item_length": length, "item_id": target}))
    own = [*(part[0] for part in parts), parts[0][1], parts[1][1]]
    torch.testing.assert_close(model.calculate_loss(batch), -torch.stack(own).mean())
    in_windows = batch | {OWN_TARGETS: torch.tensor([2, 1])}
    expected = -torch.stack([parts[0][0], parts[1][0], parts[0][1]]).mean()
    torch.testing.assert_close(model.calculate_loss(in_windows), expected)
    share = whole_batch(in_windows[OWN_TARGETS])
    row = torch.tensor([1])
    one = {key: value[row] for key, value in in_windows.items()}
    loss, weight = model.loss_of_share(one, share.of(row))
    torch.testing.assert_close(loss, -parts[0][1])
    assert weight == pytest.approx(1 / 3)
    model.calculate_loss(batch).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_beam_below_the_cut_off_is_refused():
    with pytest.raises(InputError, match=r"beam_size: 7 finds fewer items than topk .* \(9\)"):
        retriever(TIGERSmall, decode="beam", topk=[5, 9])
