"""What holds for every HSTU, whatever its weights."""

import pytest
import torch
import torch.nn.functional as F
from golden_model import (
    SIZES,
    TEXT_SETTINGS,
    Settings,
    check_company_and_padding,
    dataset,
    golden,
    write_text_file,
)
from hstu_batches import LENGTHS, WIDTH, make_batch, make_model, outcome, text_model
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hstu.layers import losses
from recbole_hstu.layers.blocks.hstu_block import _Lookup, dropout
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.losses import l2_normalise, sampled_softmax
from recbole_hstu.layers.picked_products import PickedProducts
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.model.hstutext import HSTUText
from recbole_hstu.model.sasrecss import SASRecSS
from recbole_hstu.support.errors import InputError

OF = {SASRecSS: {"qk_size": None, "v_size": None, "inner_size": 8}}


@given(st.lists(st.integers(1, WIDTH), min_size=1, max_size=12), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_scores_do_not_depend_on_company_or_padding(lengths, seed):
    check_company_and_padding(make_model(), make_batch(lengths, seed))


@pytest.mark.parametrize("shared", [1, 4, 12])
def test_groups_and_shared_lines_change_nothing(shared, monkeypatch):
    """A GPU takes one group of lines, a CPU several where rows are long."""
    model, batch = make_model(), make_batch([1, 2, 3, 5, 8, 12, 12])
    outputs = []
    for one_group in (False, True):
        monkeypatch.setattr("recbole_hstu.layers.blocks.packing.SHARED_WIDTH", shared)
        packing = Packing(batch["item_length"], one_group=one_group)
        assert len(packing.groups) == (1 if one_group else {1: 4, 4: 3, 12: 1}[shared])
        x = packing.pad(model.items()[0][packing.pack(batch["item_id_list"])])
        x = model.layers[0](x, packing, *model.layer_context(batch, packing))
        outputs.append(packing.unpad(x))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("position", range(WIDTH - 1))
def test_nothing_depends_on_the_future_but_the_next_time(position):
    model, batch = make_model(), make_batch([WIDTH])
    before, _ = model.forward(batch, model.items()[0])
    changed = {k: v.clone() for k, v in batch.items()}
    changed["item_id_list"][0, position + 1 :] = 7
    changed["timestamp_list"][0, position + 2 :] += 12345678
    after, _ = model.forward(changed, model.items()[0])
    assert torch.equal(before[: position + 1], after[: position + 1])
    assert not torch.allclose(before[position + 1 :], after[position + 1 :])


def test_the_time_of_the_request_matters():
    model, batch = make_model(), make_batch([5])
    later = {**batch, "timestamp": batch["timestamp"] + 10**8}
    assert not torch.allclose(model.full_sort_predict(batch), model.full_sort_predict(later))


@pytest.mark.parametrize("kind", ["time", "position", "none"])
def test_a_bias_that_is_left_out_is_zero_and_stays_so(kind):
    model, batch = HSTU(Settings({**SIZES, "relative_bias": kind}), dataset()), make_batch([5, 9])
    model.full_sort_predict(batch).sum().backward()
    for layer in model.layers:
        for name, table in (("time", layer.bias.time), ("position", layer.bias.position)):
            assert (table.abs().sum() > 0) == table.requires_grad == (name == kind)
            assert (table.grad is not None) == (name == kind)


def test_softmax_attention_is_the_textbooks():
    model, batch = make_model(attention="softmax"), make_batch([WIDTH])
    layer, torch_seed = model.layers[0], torch.Generator().manual_seed(1)
    q, k, v = (torch.rand(1, 2, 4, 8, generator=torch_seed).double() for _ in range(3))
    bias = torch.rand(1, 4, 4, generator=torch_seed).double()
    weights = (q @ k.transpose(-1, -2) / 8**0.5 + bias.unsqueeze(1)).softmax(-1)
    expected = (weights @ v).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(layer.attention(q, k, v, bias), expected, rtol=0, atol=1e-12)
    x, u, mixed = torch.ones(3, 16), torch.full((3, 16), 2.0), torch.rand(3, 16) * 1e-3
    normed = F.layer_norm(mixed.double(), (16,), eps=1e-6)  # the output of a softmax is not divided
    finished = x.double() + layer.output(u.double() * normed)
    torch.testing.assert_close(layer.finish(x.double(), u.double(), mixed.double()), finished)
    check_company_and_padding(model, make_batch([1, 4, 7]))
    assert torch.isfinite(model.full_sort_predict(batch)).all()


@given(st.lists(st.integers(1, 199), min_size=1, max_size=30), st.booleans())
@settings(deadline=None)
def test_packing_round_trip(lengths, one_group):
    packing = Packing(torch.tensor(lengths), one_group=one_group)
    grid = torch.arange(len(lengths) * 199).view(-1, 199)
    tokens = packing.pack(grid).unsqueeze(-1).double()
    assert len(tokens) == sum(lengths)
    last = packing.unorder(tokens[packing.last]).squeeze(-1)
    assert last.tolist() == [grid[i, n - 1].item() for i, n in enumerate(lengths)]
    assert torch.equal(packing.unpad(packing.pad(tokens)), tokens)
    lines, owners = (
        [line.tolist() for group in packing.lines(packing.pad(of)) for line in group.squeeze(-1)]
        for of in (tokens, packing.row.unsqueeze(-1))
    )
    found = {}
    for line, owner in zip(lines, owners, strict=True):
        assert len(line) <= max(lengths)
        found |= {
            row: [item for item, of in zip(line, owner, strict=True) if of == row] for row in owner
        }
        assert owner == sorted(owner, key=lambda row: row == 0)  # padding comes last
    assert not any(found.pop(0, []))
    assert len(found) == len(lengths)
    for row, items in found.items():
        source = packing.order[row - 1]
        assert items == grid[source, : lengths[source]].tolist()


@given(st.lists(st.integers(1, 128), min_size=1, max_size=60))
@settings(deadline=None)
def test_short_rows_share_lines(lengths):
    """Two lines are never both less than half full (else they would have been one)."""
    ((lines, width),) = Packing(torch.tensor(lengths)).groups
    assert width == max(lengths)
    assert lines <= 1 + 2 * sum(lengths) // width


def test_rows_go_where_they_leave_the_least():
    assert Packing(torch.tensor([1, 10, 7, 4, 11, 1, 10])).groups == [(4, 11)]


def test_an_empty_row_is_refused():
    with pytest.raises(ValueError, match="at least one item"):
        Packing(torch.tensor([3, 0, 2]))


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_dropout_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(400, 500, requires_grad=True)
    dropped = dropout(x, p, training=True)
    assert (dropped == 0).double().mean().item() == pytest.approx(p, abs=0.005)
    torch.testing.assert_close(dropped[dropped != 0], (x / (1 - p))[dropped != 0])
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped)
    assert torch.equal(dropout(x, p, training=False), x)
    half = dropout(x.bfloat16(), p, training=True)
    assert half.dtype == torch.bfloat16
    assert (half == 0).double().mean().item() == pytest.approx(p, abs=0.005)


@pytest.mark.parametrize("cls", [HSTU, SASRecSS])
@pytest.mark.parametrize("option", ["input_dropout_prob", "hidden_dropout_prob"])
def test_each_dropout_is_at_work_in_training_alone(cls, option):
    none = {"input_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    batch = make_batch(LENGTHS)
    for options, is_drawn in ((none, False), (none | {option: 0.5}, True)):
        model = make_model(cls=cls, **options, **OF.get(cls, {}))
        assert outcome(model, batch)[0] == outcome(model, batch)[0]
        model.train()
        assert (outcome(model, batch)[0] != outcome(model, batch)[0]) == is_drawn


def test_gradients_written_by_hand():
    torch.manual_seed(0)
    table = torch.randn(7, dtype=torch.double, requires_grad=True)
    index = torch.randint(0, 7, (3, 4, 4))
    assert torch.autograd.gradcheck(lambda t: _Lookup.apply(t, index), table)
    vectors = torch.randn(5, 4, dtype=torch.double)
    vectors[0] = 0.1  # shorter than `LEAST_NORM`, which takes the place of its norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "LEAST_NORM", 1.0)
        assert torch.autograd.gradcheck(l2_normalise, vectors.requires_grad_())
    queries = torch.randn(150, 3, dtype=torch.double, requires_grad=True)
    items = torch.randn(9, 3, dtype=torch.double, requires_grad=True)
    picks = torch.randint(0, 9, (150, 5))
    assert torch.autograd.gradcheck(
        lambda q, t: PickedProducts.apply(q, t, picks), (queries, items), fast_mode=True
    )
    assert torch.allclose(
        PickedProducts.apply(queries, items, picks), _plain(queries, items, picks)
    )


def _plain(queries, items, picks):
    return (queries @ items.t()).gather(1, picks)


@pytest.mark.parametrize("separate", [False, True])
def test_all_ways_of_the_loss_agree(separate):
    torch.manual_seed(0)
    queries, table, other = (torch.randn(n, 8, dtype=torch.double) for n in (200, 30, 30))
    positives, negatives = torch.randint(0, 30, (200,)), torch.randint(0, 30, (200, 12))
    results = []
    for impl in ("dense", "sparse", "gather", "auto"):
        leaves = [t.clone().requires_grad_() for t in (queries, table, other)]
        loss = sampled_softmax(
            leaves[0],
            leaves[1],
            positives,
            negatives,
            temperature=0.5,
            positive_table=leaves[2] if separate else None,
            impl=impl,
        )
        loss.backward()
        results.append([loss.detach(), *(t.grad for t in leaves if t.grad is not None)])
    for others in results[1:]:
        torch.testing.assert_close(others, results[0])


def test_a_negative_that_is_its_positive_counts_nothing():
    queries, table = torch.eye(3).double(), torch.eye(3).double()
    positives = torch.tensor([0, 1, 2])
    with_hits = torch.tensor([[0, 1], [1, 2], [2, 0]])
    without = torch.tensor([[1], [2], [0]])
    assert sampled_softmax(queries, table, positives, with_hits, temperature=1.0) == pytest.approx(
        sampled_softmax(queries, table, positives, without, temperature=1.0).item()
    )


def test_a_temperature_that_cannot_train_is_refused():
    with pytest.raises(InputError, match="similarities lie between -1 and 1"):
        make_model(temperature=1)
    make_model(temperature=1, item_l2_norm=False)


def test_a_missing_option_is_named():
    with pytest.raises(InputError, match="option 'n_heads' is not set"):
        make_model(n_heads=None)


def test_negatives_come_from_the_models_own_generator():
    first, second = make_model(), make_model()
    torch.manual_seed(1)
    loss = first.calculate_loss(make_batch([5, 6]))
    torch.manual_seed(2)
    assert torch.equal(loss, second.calculate_loss(make_batch([5, 6])))
    assert not torch.equal(loss, first.calculate_loss(make_batch([5, 6])))


def test_id_only_is_hstu_bit_for_bit(text_file):
    torch.manual_seed(3)
    plain = HSTU(Settings(SIZES), dataset())
    torch.manual_seed(3)
    options = Settings({**SIZES, **TEXT_SETTINGS, "fusion": "id_only"})
    ids = HSTUText(options, dataset())
    for (name, left), (other, right) in zip(
        plain.state_dict().items(), ids.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(left, right)
    batch = make_batch([3, 7, 12])
    losses = []
    for model in (plain, ids):
        torch.manual_seed(4)  # dropout
        losses.append(model.calculate_loss(batch))
    assert torch.equal(*losses)


@pytest.mark.parametrize("fusion", ["sum", "gate", "text_only"])
@pytest.mark.parametrize("projection", ["shared", "separate"])
def test_fusion_by_its_formula(text_file, fusion, projection):
    model = text_model(text_file, fusion=fusion, negative_projection=projection)
    items, text = model.items, model.items.text
    inputs, candidates = items()
    used = {id(inputs): items.projection, id(candidates): items.projection}
    if projection == "separate":
        used[id(candidates)] = items.negative_projection
    else:
        assert inputs is candidates
    for table in (inputs, candidates):
        linear = used[id(table)]
        projected = text @ linear.weight.t() + linear.bias
        expected = {
            "sum": lambda p: items.ids + p,
            "gate": lambda p: items.gate * items.ids + (1 - items.gate) * p,
            "text_only": lambda p: p,
        }[fusion](projected)
        torch.testing.assert_close(table, expected)
    loss = model.train().calculate_loss(make_batch([4, 9]))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_text_rows_are_found_by_token(text_file):
    """The file's rows lie in another order than the ids."""
    recorded = golden("tiny_text_rand")["w/_embedding_module._text_embeddings"]
    assert torch.equal(text_model(text_file).items.text, torch.from_numpy(recorded).double())


def test_text_is_in_no_checkpoint_and_its_hash_is_checked(text_file, tmp_path):
    model = text_model(text_file)
    state = model.state_dict()
    assert not any(torch.is_tensor(v) and v.shape == model.items.text.shape for v in state.values())
    model.load_state_dict(state)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    vectors = golden("tiny_text_rand")["w/_embedding_module._text_embeddings"] + 1
    other = text_model(write_text_file(other_folder, vectors))
    with pytest.raises(InputError, match="other text vectors"):
        other.load_state_dict(state)


def test_without_the_targets_time_nothing_depends_on_it():
    """`query_time: last`; by default the scores move with the time of the request."""
    for query_time, same in (("last", True), ("target", False)):
        model, batch = make_model(query_time=query_time), make_batch([5, 1, 12])
        later = {**batch, "timestamp": batch["timestamp"] * 3}
        scores = [model.full_sort_predict(b) for b in (batch, later)]
        assert torch.equal(*scores) is same
