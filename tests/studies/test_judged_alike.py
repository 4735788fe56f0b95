"""Models that RecBole ranks user by user beside those that are ranked event by event."""

import pytest
from small_data import small_options

from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.quick_start import Config, make_loaders
from recbole_hstu.studies.plan import named_models, plan_runs
from recbole_hstu.studies.planned_run import Variant
from recbole_hstu.studies.study import run_study
from recbole_hstu.support.errors import InputError

RATIO = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}

LABELED = {**RATIO["eval_args"], "order": "TO", "group_by": "user", "mode": "labeled"}
CLICKS = {"eval_args": LABELED, "metrics": ["AUC"], "valid_metric": "AUC"}
CLICKS |= {"topk": [10], "metric_decimal_place": 4, "threshold": {"rating": 4}}


@pytest.mark.parametrize(
    ("models", "options", "are_alike"),
    [
        (["CFKG", "SASRec"], {}, True),  # the last event of each user
        (["BPR", "SASRec"], RATIO, True),
        (["CFKG", "KGCN"], RATIO, True),
        (["DIN", "FM"], CLICKS, True),  # nothing is ranked
        (["CFKG", "SASRec"], RATIO, False),
    ],
)
def test_a_table_asks_for_users_or_for_events(models, options, are_alike):
    def plan():
        return plan_runs(named_models(models), "ml-100k", (), options, None)

    if are_alike:
        assert len(plan()) == len(models)
        return
    with pytest.raises(InputError, match=r"CFKG is asked for all test items .*, SASRec for each"):
        plan()


def test_labels_of_clicks_are_the_same_for_every_row():
    rows = [Variant(str(n), "FM", {"threshold": {"rating": n}}) for n in (3, 5)]
    with pytest.raises(InputError, match=r"5 and 3 would not be judged alike: threshold is"):
        plan_runs(rows, "ml-100k", (), CLICKS, None)


def test_a_general_model_is_told_of_when_it_is_asked_event_by_event(caplog):
    caplog.set_level("INFO", "recbole_hstu")
    ratio = {**RATIO["eval_args"], "group_by": "user", "mode": "full"}
    for order, says in (("RO", False), ("TO", True)):
        given = {"limit_users": 25, "mask_history": "all", "eval_args": {**ratio, "order": order}}
        create_dataset(Config("BPR", "ml-100k", config_dict=given))
        assert ("BPR: each test event is asked for by itself" in caplog.text) == says


def test_what_is_ranked_has_no_labels():
    given = {"limit_users": 25, "eval_args": {"mode": "labeled"}, "mask_seen": False}
    config = Config("BPR", "ml-100k", config_dict=given)
    with pytest.raises(InputError, match=r"mode: labeled goes with metrics of clicks"):
        make_loaders(config, load_dataset(config))


def test_a_mask_that_covers_more_than_that_of_others_is_refused():
    options = {"limit_users": 25, "mask_seen": True}
    config = Config("CFKG", "ml-100k", config_dict=options)
    with pytest.raises(InputError, match=r"mask_seen: CFKG .* add --mask_history=all"):
        make_loaders(config, load_dataset(config))
    with pytest.raises(InputError, match=r"mask_seen: CFKG"):  # and before a study trains others
        plan_runs(named_models(["SASRec", "CFKG"]), "ml-100k", (), {"mask_seen": True}, None)


def test_files_that_lack_items_are_told_of_before_a_training(toy, tmp_path):
    rows = [f"i{n}\tclass{n % 4}" for n in range(27)]  # of 30
    file = tmp_path / "dataset" / "toy" / "toy.item"
    file.write_text("\n".join(["item_id:token\tclass:token", *rows]), encoding="utf-8")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    features = {"load_col": columns, "selected_features": ["class"]}
    variants = [Variant("SASRec", "SASRec", {}), Variant("SASRecF", "SASRecF", features)]
    options = small_options("SASRec", epochs=1)
    plan = plan_runs(variants, "toy", (), options, None)
    with pytest.raises(InputError, match=r"SASRecF has \d+ of SASRec's \d+ interactions"):
        run_study(plan, tmp_path / "results", 1)
    assert not (tmp_path / "log").exists()
    whole = plan_runs(variants, "toy", (), {**options, "filter_inter_by_user_or_item": False}, None)
    assert [record.status for record in run_study(whole, tmp_path / "results", 1)] == ["ok"] * 2
