"""Windows hold every training target once, with enough of its history, in batches by targets."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import random_rows, small_config, write_inter

from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.data.rows.events import Events
from recbole_hstu.data.rows.sequence_rows import OWN_TARGETS, SequenceRows
from recbole_hstu.data.rows.window_loader import window_loader
from recbole_hstu.distributed import processes
from recbole_hstu.support.errors import InputError


def rows_of(lengths, width):
    """Every prefix of users with so many events; item numbers count on over all users."""
    first = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    targets = np.flatnonzero(np.arange(sum(lengths)) != first)
    return SequenceRows(
        events=Events({"item": torch.arange(sum(lengths))}, torch.zeros(0)),
        list_fields={"item": "items"},
        length_field="length",
        width=width,
        starts=torch.from_numpy(first[targets]),
        targets=torch.from_numpy(targets),
    )


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 12), st.randoms())
def test_every_target_once_with_half_its_history(lengths, width, random):
    rows = rows_of(lengths, width)
    shuffled = rows.select(torch.tensor(random.sample(range(len(rows)), len(rows)), dtype=int))
    windows = shuffled.windows()
    targets, row, place = windows.window_targets()
    assert targets["item"].tolist() == rows["item"].tolist()  # each once, in order
    items, full = windows["items"], dict(zip(rows["item"].tolist(), rows["length"], strict=True))
    for target, window, last in zip(targets["item"].tolist(), row, place, strict=True):
        history = items[window, : last + 1].tolist()
        assert history == list(range(target - len(history), target))  # what comes before it
        assert len(history) >= min(int(full[target]), width - width // 2)
    beyond = (max(0, length - 1 - width) for length in lengths if length > 1)
    assert len(windows) == sum(1 + math.ceil(more / (width // 2 + 1)) for more in beyond)


def test_gaps_are_refused():
    rows = rows_of([6], 4)
    with pytest.raises(InputError, match=r"eval_args: .* out of the middle .* use order: TO"):
        rows.select(torch.tensor([0, 1, 3])).windows()


def loader(model="SASRec", **options):
    write_inter(random_rows())
    config = small_config(model, MAX_ITEM_LIST_LENGTH=4, train_batch_size=50, **options)
    train, _, _ = make_loaders(config, create_dataset(config))
    return train, window_loader(train)


def triples(batch, *more):
    fields = (batch[field].tolist() for field in ("user_id", "item_id", "timestamp", *more))
    return list(zip(*fields, strict=True))


def test_train_batch_size_counts_targets():
    train, windows = loader()
    batches = list(windows)
    assert len(batches) == len(windows) == len(train)  # as many steps as over prefixes
    assert all(abs(len(batch) - 50) < 4 for batch in batches[:-1])  # a window's targets at most
    learned = [triple for batch in batches for triple in triples(batch)]
    assert sorted(learned) == sorted(triples(train._dataset.inter_feat))
    again = loader()[1]
    assert [triples(batch) for batch in again] == [triples(batch) for batch in batches]
    assert [triples(batch) for batch in again] != [triples(batch) for batch in batches]  # epoch 2


def test_two_processes_share_the_windows(monkeypatch):
    """With RecBole's negatives, which every process draws for the whole batch."""
    found = {}
    for count, rank in ((1, 0), (2, 0), (2, 1)):
        monkeypatch.setattr(processes, "count", lambda count=count: count)
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        np.random.seed(1)  # noqa: NPY002 - RecBole draws from it
        sampled = {"distribution": "uniform", "sample_num": 2}
        windows = loader(loss_type="BPR", train_neg_sample_args=sampled)[1]
        found[count, rank] = list(windows)
    for whole, *parts in zip(*found.values(), strict=True):
        known = triples(whole, "neg_item_id")
        assert len(known) == 2 * len({triple[:3] for triple in known})
        learned = [triple for part in parts for triple in triples(part, "neg_item_id")]
        assert sorted(learned) == sorted(known)
        assert sum(part.share.weight for part in parts) == 1
        for part in parts:
            places = part.share.places
            assert triples(part, "neg_item_id") == [known[place] for place in places.tolist()]
            history = part.prefixes("item_length")["item_id_list"]
            assert torch.equal(history, whole.prefixes("item_length")["item_id_list"][places])


def test_parts_of_a_batch_are_whole_windows():
    batch = next(iter(loader()[1]))
    parts = list(batch.parts(20))
    assert len(parts) == 3
    assert sum(weight for _, weight in parts) == pytest.approx(1)
    assert [triple for part, _ in parts for triple in triples(part)] == triples(batch)
    assert sum(len(part["item_length"]) for part, _ in parts) == len(batch["item_length"])
    assert [len(part) for part, _ in batch.parts(1000)] == [len(batch)]


def test_parts_are_as_wide_as_their_windows_are_long():
    """With all negatives of their targets."""
    sampled = {"distribution": "uniform", "sample_num": 8}
    options = {"loss_type": "BPR", "train_neg_sample_args": sampled, "MAX_ITEM_LIST_LENGTH": 50}
    write_inter([(u, f"i{n}", n) for u, length in enumerate([4, 40, 9, 12]) for n in range(length)])
    config = small_config("SASRec", train_batch_size=1000, **options)
    (batch,) = window_loader(make_loaders(config, create_dataset(config))[0])
    parts = [part for part, _ in batch.parts(1000)]
    widths = [part["item_id_list"].shape[1] for part in parts]
    assert widths == [6, 9, 37]
    assert [len(part["item_length"]) for part in parts] == [2, 1, 1]
    assert sorted(t for part in parts for t in triples(part, "neg_item_id")) == sorted(
        triples(batch, "neg_item_id")
    )


def test_users_with_many_events_take_several_rows():
    """The rows of HSTU with `windows: all`, and what is known of their part of the data."""
    write_inter(random_rows())
    one, many, prefix = (
        create_dataset(small_config(model, MAX_ITEM_LIST_LENGTH=4, **options)).build()[0]
        for model, options in (("HSTU", {}), ("HSTU", {"windows": "all"}), ("SASRec", {}))
    )
    assert OWN_TARGETS not in one.inter_feat
    assert many[np.arange(len(many))][OWN_TARGETS].sum() == len(prefix)
    assert len(one) == 40 < len(many) < len(prefix)
    assert (many.inter_matrix("csr") != prefix.inter_matrix("csr")).nnz == 0
