"""What a checkpoint recommends is what the evaluation judged."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from served import all_but_last, events, metrics_of, toy_with_text, trained
from small_data import random_rows, small_config, write_inter
from toy_ids import write_toy_ids

from recbole_hstu import Recommender
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.serving.events_of_users import EventsOfUsers, read_events
from recbole_hstu.support.errors import InputError
from recbole_hstu.training import checkpoint

SEQUENTIAL = ["HSTU", "HSTUText", "SASRecSS", "LIS", "SASRec", "GRU4Rec", "BERT4Rec", "FPMC"]
RECIPES = ["eSASRec", "gSASRec", "ItemGraph", "RecentPop", "TIGER", "TIGERSmall"]
TINY_T5 = {"hidden_size": 16, "n_layers": 1, "head_size": 8, "n_heads": 2, "inner_size": 16}


@pytest.mark.parametrize("protocol", ["recbole", "paper"])
@pytest.mark.parametrize("model", [*SEQUENTIAL, *RECIPES, "BPR", "Pop", "NeuMF"])
def test_metrics_through_the_recommender_equal_the_evaluators(in_empty_folder, model, protocol):
    toy_with_text()
    text = {"item_text": {"fields": ["title"]}, "text_dimensions": 6}
    options = text if model in ("HSTUText", "LIS") else {}
    if model.startswith("TIGER"):
        write_toy_ids()
        options = TINY_T5 if model == "TIGER" else {}
    if model == "RecentPop" and protocol == "paper":
        options = {"recent_days": 2}
    # With the paper's protocol the visible history is masked: it is the whole history here.
    width = {"MAX_ITEM_LIST_LENGTH": 20 if protocol == "paper" else 8}
    result = trained(model, protocol=protocol, **options, **width)
    rec = Recommender.load(result["checkpoint"])
    histories, targets = all_but_last(events())
    lists = rec.recommend(
        histories,
        k=30,
        at=targets["time"] if rec.needs_time else None,
        exclude_seen=protocol == "paper",
    )
    for name, value in metrics_of(lists, targets, 5).items():
        assert result["test_result"][name] == pytest.approx(value, abs=1e-6), name


def test_batches_of_users_change_no_list(toy, monkeypatch):
    rec = Recommender.load(trained("HSTU")["checkpoint"])
    histories, targets = all_but_last(events())
    at = targets["time"]
    expected = rec.recommend(histories, k=5, at=at)
    monkeypatch.setattr(rec.scorer, "rows_at_once", 3)
    found = rec.recommend(histories, k=5, at=at)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


def test_an_option_that_came_after_the_checkpoint_has_its_default(toy):
    path = trained("HSTU")["checkpoint"]
    given, at = [[("i1", 10**12), ("i2", 10**12 + 1)]], 2 * 10**12
    expected = Recommender.load(path).recommend(given, k=5, at=at)
    state = checkpoint.load_checkpoint(path)
    for option in ("relative_bias", "attention", "semantic_ids", "id_table"):
        del state["config"][option]
    checkpoint.save_checkpoint(path, state)
    assert Recommender.load(path).recommend(given, k=5, at=at).equals(expected)


def test_a_list_of_lists_and_a_table_give_the_same(toy):
    rec = Recommender.load(trained("HSTU")["checkpoint"])
    histories, targets = all_but_last(events())
    one = histories[histories["user"] == "u3"]
    pairs = list(zip(one["item"], one["time"], strict=True))
    at = int(targets.loc["u3", "time"])
    as_list = rec.recommend([pairs], k=10, at=at)
    as_table = rec.recommend(one, k=10, at={"u3": at})
    assert list(as_list.columns) == ["user", "item", "score", "rank"]
    assert as_list["user"].tolist() == [0] * 10
    assert as_table["user"].tolist() == ["u3"] * 10
    assert as_list["rank"].tolist() == list(range(1, 11))
    assert as_list["item"].tolist() == as_table["item"].tolist()
    assert as_list["score"].is_monotonic_decreasing
    assert not set(as_list["item"]) & set(one["item"])


def test_users_of_the_data_set_by_their_tokens(toy):
    rec = Recommender.load(trained("HSTU")["checkpoint"])
    table = events()
    late = int(table["time"].max())
    named = rec.recommend_users(["u7", "u2"], k=3, at=late)  # the recorded place of the data
    assert named["user"].tolist() == ["u7"] * 3 + ["u2"] * 3
    for dataset in ("dataset/toy", "dataset/toy/toy.inter", table):
        assert rec.recommend_users(["u7", "u2"], dataset, k=3, at=late).equals(named)
    given = rec.recommend(table[table["user"] == "u2"], k=3, at=late)
    assert given["item"].tolist() == named["item"].tolist()[3:]


def test_tokens_may_be_numbers(in_empty_folder):
    write_inter([(user[1:], item, time) for user, item, time in random_rows()])
    rec = Recommender.load(trained("HSTU")["checkpoint"])
    late = int(events()["time"].max())
    text = rec.recommend_users(["7", "2"], k=3, at=[late + 5, late + 9])
    table = events().assign(user=lambda t: t["user"].str[1:].astype(int))
    for dataset in (None, table):
        for at in ([late + 5, late + 9], {7: late + 5, 2: late + 9}):
            assert rec.recommend_users([7, 2], dataset, k=3, at=at).equals(text)
    unknown = pd.DataFrame({"user": [99], "item": ["never seen"], "time": [late]})
    more = pd.concat([table, unknown])
    asked = {"k": 3, "at": [late, late + 5, late + 9], "on_unknown": "ignore"}
    assert rec.recommend_users([99, 7, 2], more, **asked).equals(text)


def test_histories_of_the_data_set_are_those_of_the_training(in_empty_folder):
    """Ties in hashed order, and without repeats, where the training was so."""
    rows = [(f"u{u}", f"i{(u * 7 + n) % 20}", n // 4) for u in range(30) for n in range(12)]
    rows += [(user, item, 9) for user, item, _ in rows[::5]]
    write_inter(rows)
    trainings = {"file": {}, "hash": {"tie_order": "hash"}, "once": {"rm_dup_inter": "first"}}
    for options in trainings.values():
        result = trained("HSTU", mask_seen=False, **options)
        rec = Recommender.load(result["checkpoint"])
        train = create_dataset(small_config("HSTU", mask_seen=False, **options))
        frame = train.inter_feat.sort_values("timestamp", kind="stable")
        tokens = train.field2id_token
        of_user = EventsOfUsers(read_events(rec.saved.config))
        for user in ("u3", "u25"):
            own = frame[frame["user_id"] == list(tokens["user_id"]).index(user)]
            expected = tokens["item_id"][own["item_id"].to_numpy()].tolist()
            assert of_user.of([user])["item"].tolist() == expected


def test_a_single_row_of_an_odd_width_has_its_terms(toy):
    options = {"hidden_size": 15, "qk_size": 5, "v_size": 5, "n_heads": 3}
    rec = Recommender.load(trained("HSTU", recent_days=[1], **options)["checkpoint"])
    late = int(events()["time"].max())
    both = rec.recommend_users(["u7", "u2"], k=3, at=late)
    alone = rec.recommend_users(["u7"], k=3, at=late)
    assert alone["item"].tolist() == both["item"].tolist()[:3]


def test_a_model_of_names_needs_no_events(toy):
    rec = Recommender.load(trained("BPR")["checkpoint"])
    lists = rec.recommend_users(["u7", "u2"], k=30, exclude_seen=False)
    assert len(lists) == 60
    kept = rec.recommend_users(["u7"], k=30)
    bought = set(events().query("user == 'u7'")["item"])
    assert set(kept["item"]) == {f"i{i}" for i in range(30)} - bought


def test_candidates_and_exclude(toy):
    rec = Recommender.load(trained("SASRec")["checkpoint"])
    histories = [["i1", "i2"], ["i3"]]  # it reads no times
    everything = rec.recommend(histories, k=28, exclude_seen=False)
    some = rec.recommend(histories, k=3, candidates=["i9", "i1", "i4"], exclude_seen=False)
    assert set(some["item"]) == {"i9", "i1", "i4"}
    both = everything.merge(some, on=["user", "item"])
    assert both["score_x"].to_numpy() == pytest.approx(both["score_y"].to_numpy())
    fewer = rec.recommend(histories, k=3, candidates=["i9", "i1", "i4"], exclude=["i1"][:0])
    assert fewer.groupby("user").size().tolist() == [2, 3]  # i1 was seen by the first
    assert "i9" not in set(rec.recommend(histories, k=27, exclude=["i9"])["item"])


def test_scores_of_chosen_items(toy):
    rec = Recommender.load(trained("HSTU")["checkpoint"])
    history = [("i1", 5), ("i2", 7)]
    lists = rec.recommend([history], k=30, at=9, exclude_seen=False).set_index("item")["score"]
    found = rec.scores(history, ["i20", "i3"], at=9)
    assert found == pytest.approx(lists[["i20", "i3"]].to_numpy(), abs=1e-6)


@pytest.mark.parametrize("model", ["HSTU", "SASRec"])
def test_similar_items_by_cosine(toy, model):
    rec = Recommender.load(trained(model)["checkpoint"])
    found = rec.similar_items("i4", k=5)
    vectors = torch.nn.functional.normalize(rec.scorer.vectors(), dim=1)
    id = rec.ids(["i4"])[0]
    cosine = vectors[1:] @ vectors[id]
    cosine[id - 1] = -2
    expected = (cosine.topk(5).indices + 1).tolist()
    assert found["item"].tolist() == rec.items[expected].tolist()
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert rec.similar_items("i4", k=1)["item"].tolist() == found["item"].tolist()[:1]


def test_no_data_set_is_needed(toy, in_empty_folder):
    file = trained("HSTU")["checkpoint"].rename("moved.pth")
    (in_empty_folder / "dataset").rename("gone")
    lists = Recommender.load(file).recommend([[("i1", 5)]], k=3, at=6)
    assert len(lists) == 3


def test_a_model_that_asks_at_the_last_event_needs_no_time_of_a_request(toy):
    rec = Recommender.load(trained("HSTU", query_time="last")["checkpoint"])
    without, at = (rec.recommend([[("i1", 5), ("i2", 7)]], at=at) for at in (None, 9))
    pd.testing.assert_frame_equal(without, at)


def test_a_model_of_the_graph_asks_for_its_data(toy):
    file = trained("LightGCN")["checkpoint"]
    with pytest.raises(InputError, match=r"LightGCN is built .* name the folder .* .--dataset="):
        Recommender.load(file)
    rec = Recommender.load(file, dataset="dataset/toy")
    assert len(rec.recommend_users(["u1"], k=4)) == 4
    Path("titles/toy").mkdir(parents=True)
    with pytest.raises(InputError, match="dataset: elsewhere/toy: nothing is there"):
        Recommender.load(file, dataset="elsewhere/toy")
    with pytest.raises(InputError, match=r"titles/toy: no toy.inter there, and LightGCN is built"):
        Recommender.load(file, dataset="titles/toy")


def test_a_model_of_histories_asks_nothing_of_its_data(toy):
    file = trained("SASRec")["checkpoint"]
    Path("titles/toy").mkdir(parents=True)
    rec = Recommender.load(file, dataset="titles/toy")
    assert len(rec.recommend([["i1"]], k=4)) == 4


def test_a_random_split_is_drawn_as_in_the_run(toy):
    split = {"eval_args": {"order": "RO", "split": {"RS": [0.6, 0.2, 0.2]}}}
    file = trained("LightGCN", **split)["checkpoint"]
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        rec = Recommender.load(file, dataset="dataset/toy")
        found.append(rec.saved.model.norm_adj_matrix.to_dense())
    assert torch.equal(*found)


def test_a_model_of_users_features_knows_their_names(toy):
    """Its table of features has the users' own rows, and those of their ages."""
    users = [f"u{n}\tage{n % 4}" for n in range(40)]
    file = Path("dataset/toy/toy.user")
    file.write_text("\n".join(["user_id:token\tage:token", *users]), encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "user": ["user_id", "age"]}
    result = trained("DIN", load_col=columns, mlp_hidden_size=[8])
    rec = Recommender.load(result["checkpoint"], dataset="dataset/toy")
    lists = rec.recommend_users(["u7", "u2"], k=5)
    assert lists.groupby("user").size().tolist() == [5, 5]
