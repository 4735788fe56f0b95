"""ItemGraph and RecentPop: by counting, and on nothing but the training part."""

import math
from collections import Counter, defaultdict

import pytest
import torch
from small_data import random_rows, small_options, write_inter

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.layers.items import transitions
from recbole_hstu.layers.items.recent_counts import SECONDS_A_DAY
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.preparation import build_model

PROTOCOLS = [("recbole", 2), ("paper", 1)]  # and the events of each user that are held out


def rows_with_ties(seed=3):
    """Users buy items again, and many events share a time."""
    return [
        (user, f"i{int(item[1:]) % 9}", time // 10**8)
        for user, item, time in random_rows(seed=seed)
    ]


def built(name, rows, **more):
    """The model, its tokens by id and a test batch."""
    write_inter(rows)
    config = Config(name, "toy", config_dict=small_options("LIS", **more))
    train, _, test = make_loaders(config, load_dataset(config))
    model = build_model(config, train._dataset).eval()
    tokens = [str(token) for token in train._dataset.field2id_token["item_id"]]
    return model, tokens, next(iter(test))[0]


def of_users(rows):
    users = defaultdict(list)
    for user, item, time in sorted(rows, key=lambda row: (row[0], row[2])):  # stable
        users[user].append((item, time))
    return users


def counted(users, *, steps, a, half_life, backward, p):
    """w(i, j) by the definition."""
    times = [time for events in users.values() for _, time in events]
    counts = Counter(item for events in users.values() for item, _ in events)
    weights = Counter()
    for events in users.values():
        for early, (i, _) in enumerate(events):
            for d, (j, time) in enumerate(events[early + 1 : early + 1 + steps], start=1):
                age = (max(times) - time) / (max(times) - min(times))
                w = d**-a * 0.5 ** (age / half_life) / (counts[i] * counts[j]) ** p
                weights[i, j] += w
                weights[j, i] += w * backward
    return weights


@pytest.mark.parametrize(("protocol", "held_out"), PROTOCOLS)
@pytest.mark.parametrize("pairs", [1 << 23, 60])
def test_scores_by_counting(protocol, held_out, pairs, monkeypatch, in_empty_folder):
    """In one block of items and in several."""
    monkeypatch.setattr(transitions, "MAX_PAIRS", pairs)
    rows = rows_with_ties()
    options = {"max_distance": 3, "distance_decay": 0.7, "half_life": 0.4, "backward": 0.3}
    model, tokens, batch = built(
        "ItemGraph", rows, protocol=protocol, popularity_exponent=0.6, **options
    )
    training = {user: events[:-held_out] for user, events in of_users(rows).items()}
    weights = counted(training, steps=3, a=0.7, half_life=0.4, backward=0.3, p=0.6)
    found = model.full_sort_predict(batch)
    for row in range(len(found)):
        history = batch["item_id_list"][row, : batch["item_length"][row]].flip(0)[:3].tolist()
        for id in range(1, len(tokens)):
            reached = [s**-0.7 * weights[tokens[i], tokens[id]] for s, i in enumerate(history, 1)]
            rest = model.popularity[id].item()
            assert found[row, id].item() == pytest.approx(sum(reached) + rest, rel=1e-5)
    assert 0 < model.popularity.max() < min(w for w in weights.values() if w) * 3**-0.7


def test_unreached_items_follow_by_popularity(in_empty_folder):
    rows = [("a", "x", 1), ("a", "y", 2), ("a", "p", 3), ("a", "q", 4)]
    rows += [(user, item, time) for user in "bcd" for time, item in enumerate("ppqxy", start=5)]
    model, tokens, _ = built(
        "ItemGraph", rows, max_distance=1, backward=0.0, topk=[3], valid_metric="NDCG@3"
    )
    batch = {"item_id_list": torch.tensor([[tokens.index("x")]]), "item_length": torch.tensor([1])}
    best = model.full_sort_predict(batch)[0].argsort(descending=True)
    assert [tokens[id] for id in best[:3]] == ["y", "p", "q"]  # y comes after x, p is bought most


def test_popularity_follows_also_where_old_transitions_weigh_nothing(in_empty_folder):
    model, *_ = built("ItemGraph", rows_with_ties(), half_life=3e-3)
    assert len(model.popularity.unique()) > 5
    assert model.popularity.max() < model.weights[model.weights > 0].min()
    far, *_ = built("ItemGraph", rows_with_ties(), max_distance=10**5, distance_decay=9)
    assert len(far.popularity.unique()) > 5


def test_distances_beyond_the_longest_history_cost_nothing(in_empty_folder):
    wide, *_ = built("ItemGraph", rows_with_ties(), max_distance=10**5)
    longest, *_ = built("ItemGraph", rows_with_ties(), max_distance=20)
    assert torch.equal(wide.weights, longest.weights)
    rows = [(user, item, time) for user in "ab" for time, item in enumerate("pqrstu")]
    model, tokens, _ = built("ItemGraph", rows, max_distance=9, topk=[3], valid_metric="NDCG@3")
    first, last = tokens.index("p"), tokens.index("s")  # of training
    assert last in model.neighbours[first][model.weights[first] > 0]


def test_few_neighbours_are_the_heaviest(in_empty_folder):
    rows = rows_with_ties()
    whole, *_ = built("ItemGraph", rows)
    cut, *_ = built("ItemGraph", rows, n_neighbours=4)
    assert cut.weights.shape == (len(whole.weights), 4)
    assert torch.equal(cut.weights, whole.weights[:, :4])
    assert torch.equal(cut.neighbours, whole.neighbours[:, :4])
    assert (whole.weights.diff() <= 0).all()


def test_padding_and_company_change_nothing(in_empty_folder):
    model, _, batch = built("ItemGraph", rows_with_ties())
    together = model.full_sort_predict(batch)
    history, length = batch["item_id_list"], batch["item_length"]
    for row in range(len(length)):
        alone = {
            "item_id_list": history[row : row + 1, : length[row]],
            "item_length": length[row : row + 1],
        }
        torch.testing.assert_close(model.full_sort_predict(alone)[0], together[row])
    scores = model.predict(batch)
    assert torch.equal(scores, together.gather(1, batch["item_id"].unsqueeze(1))[:, 0])


@pytest.mark.parametrize("name", ["ItemGraph", "RecentPop"])
@pytest.mark.parametrize(("protocol", "held_out"), PROTOCOLS)
def test_held_out_events_are_not_learnt(name, protocol, held_out, in_empty_folder):
    """Other items and times in the validation and test events leave the model as it is."""
    rows = rows_with_ties()
    changed = [
        (user, f"i{index % 9}", time + 5)
        if position >= len(events) - held_out
        else (user, item, time)
        for index, (user, events) in enumerate(of_users(rows).items())
        for position, (item, time) in enumerate(events)
    ]
    same = [(user, *event) for user, events in of_users(rows).items() for event in events]
    assert changed != same
    before, tokens, _ = built(name, same, protocol=protocol)
    states = [before.state_dict()]
    after, others, _ = built(name, changed, protocol=protocol)
    assert others == tokens
    states.append(after.state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


@pytest.mark.parametrize("rows", [rows_with_ties(), random_rows()])
def test_recent_popularity_by_counting(rows, in_empty_folder):
    model, tokens, batch = built("RecentPop", rows, recent_share=0.3)
    events = [event for events in of_users(rows).values() for event in events[:-2]]
    newest = sorted((time for _, time in events), reverse=True)
    asked = math.ceil(0.3 * len(events))
    counts = Counter(item for item, time in events if time >= newest[asked - 1])
    has_ties = newest[0] == newest[1]
    assert (counts.total() > asked) == has_ties  # equal times come in together
    for scores in model.full_sort_predict(batch):
        assert scores[1:].tolist() == [counts[token] for token in tokens[1:]]


def test_popularity_before_each_request_by_counting(in_empty_folder):
    """A window of four units of time, whose quarters are one; after the last event it stands."""
    rows = rows_with_ties()
    model, tokens, batch = built("RecentPop", rows, recent_days=4 / SECONDS_A_DAY)
    events = [event for events in of_users(rows).values() for event in events[:-2]]
    last = max(time for _, time in events) + 1
    all_scores = model.full_sort_predict(batch)
    for scores, asked in zip(all_scores, batch["timestamp"].tolist(), strict=True):
        end = min(asked, last)
        counts = Counter(item for item, time in events if end - 4 <= time < end)
        found = scores[1:].expm1().round().tolist()
        assert found == [counts[token] for token in tokens[1:]]
    assert all_scores.unique(dim=0).shape[0] > 1
    assert model.reads_times


def test_an_order_without_histories_is_refused(in_empty_folder):
    split = {"order": "RO", "split": {"RS": [0.8, 0.1, 0.1]}}
    with pytest.raises(
        InputError, match="ItemGraph recommends from histories, which need eval_args"
    ):
        built("ItemGraph", random_rows(), eval_args=split)
