"""Metrics from ranks against RecBole's own collector and evaluator, on the same scores."""

import pytest
import torch
from recbole.evaluator import Collector, Evaluator

from recbole_hstu.config.config import Config
from recbole_hstu.data import evaluation_loaders
from recbole_hstu.evaluation.collector import RankCollector, RankEvaluator

V = 60
FROM_RANKS = ["Hit", "Recall", "Precision", "NDCG", "MRR", "MAP"]


@pytest.fixture
def batches():
    """Scores without ties, some items masked, one target a row."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for rows in (20, 7):
        scores = torch.rand(rows, V, generator=generator)
        targets = torch.randint(1, V, (rows,), generator=generator)
        masked = torch.randint(0, V, (rows, 5), generator=generator)
        scores.scatter_(1, masked, -torch.inf)
        scores[torch.arange(rows), targets] = torch.rand(rows, generator=generator) ** 0.1
        scores[:, 0] = -torch.inf
        made.append((scores, torch.arange(rows), targets))
    return made


def results(metrics, batches):
    options = {"metrics": metrics, "topk": [1, 5, 20], "metric_decimal_place": 9}
    options["valid_metric"] = f"{metrics[0]}@5"
    config = Config("SASRec", "ml-100k", config_dict=options)
    found = []
    for collector, evaluator in (
        (Collector(config), Evaluator(config)),
        (RankCollector(config), RankEvaluator(config)),
    ):
        for scores, rows, targets in batches:
            collector.eval_batch_collect(scores.clone(), None, rows, targets)
        struct = collector.get_data_struct()
        struct.set("data.num_items", V)  # RecBole's own collector fails on a number
        found.append((evaluator.evaluate(struct), struct))
    return found


def plain(result):
    return {key: float(value) for key, value in result.items()}


def test_metrics_of_ranks_are_recboles(batches):
    (theirs, _), (ours, struct) = results(FROM_RANKS, batches)
    assert plain(ours) == pytest.approx(plain(theirs), abs=1e-9)
    assert 0 < ours["ndcg@5"] < 1
    assert list(ours) == list(theirs)
    assert "rec.topk" not in struct  # no row of 20 numbers a user


@pytest.mark.parametrize("metric", ["ItemCoverage", "GAUC"])
def test_metrics_of_lists_and_means_stay_recboles(metric, batches):
    (theirs, _), (ours, struct) = results([*FROM_RANKS, metric], batches)
    assert plain(ours) == pytest.approx(plain(theirs), abs=1e-9)
    assert len(struct.get("rec.rank")) == 27


def test_rows_with_several_targets_are_counted_with_the_others(batches):
    scores = batches[0][0]
    several = (scores, torch.arange(len(scores)).repeat(2), torch.arange(1, 1 + 2 * len(scores)))
    mixed = [batches[1], several, batches[0]]
    (theirs, _), (ours, struct) = results(FROM_RANKS, mixed)
    assert plain(ours) == pytest.approx(plain(theirs), abs=1e-9)
    assert len(struct.get("rec.topk")) == 7 + 20 + 20


def test_items_that_are_no_candidates_are_no_hits_of_rows_with_several_targets(batches):
    scores = torch.full((1, V), -torch.inf)
    scores[0, [3, 5]] = torch.tensor([1.0, 2.0])
    targets = torch.arange(1, V)
    several = (scores, torch.zeros_like(targets), targets)
    (theirs, _), (ours, _) = results(["Precision"], [several])
    assert (theirs["precision@20"], ours["precision@20"]) == (1.0, 0.1)


def test_an_evaluation_forgets_the_one_before(batches):
    config = Config("SASRec", "ml-100k", config_dict={"topk": [5], "valid_metric": "MRR@5"})
    collector = RankCollector(config)
    for _ in range(2):
        collector.clear()
        collector.eval_batch_collect(*batches[0][:1], None, *batches[0][1:])
        assert len(collector.get_data_struct().get("rec.rank")) == 20


def test_rows_at_once_are_bounded_by_their_scores(monkeypatch, caplog):
    monkeypatch.setattr(evaluation_loaders, "_MAX_SCORES", 1000)
    with caplog.at_level("INFO"):
        assert evaluation_loaders._rows_at_once(1024, 100) == 10
    assert "10 rows at once, not 1024" in caplog.text
    assert evaluation_loaders._rows_at_once(4, 100) == 4
    assert evaluation_loaders._rows_at_once(4, 5000) == 1


def test_equal_scores_stand_in_the_order_of_their_items():
    """As in the lists that come from blocks of a larger catalogue."""
    config = Config("SASRec", "ml-100k", config_dict={"metrics": ["MRR", "ItemCoverage"]})
    collector = RankCollector(config)
    collector.list_length = 5
    scores = torch.zeros(3, 4000)
    scores[:, 0], scores[1, 7], scores[2, :] = -torch.inf, 1.0, -torch.inf
    scores[2, 9] = 2.0
    collector.eval_batch_collect(scores, None, torch.arange(3), torch.tensor([1, 1, 9]))
    (lists,) = collector.lists
    assert lists.tolist() == [[1, 2, 3, 4, 5], [7, 1, 2, 3, 4], [9, 0, 0, 0, 0]]
    assert collector.data_struct.get("rec.items")[0, :3].tolist() == [1, 2, 3]
