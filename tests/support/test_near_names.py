from recbole_hstu.config.option_checks import meant_option
from recbole_hstu.support.near_names import near_names


def test_near_names_keep_their_case_and_ask_for_none():
    known = ["ml-100k", "ml-1m", "Electronics_sample"]
    assert near_names("ML-1M", known) == ["ml-1m"]
    assert near_names("electronic_sample", known) == ["Electronics_sample"]
    assert near_names("steam", known) == []
    assert len(near_names("steam", known, n=2, cutoff=0)) == 2


def test_an_option_of_another_release_is_told_by_its_name_now():
    known = ["max_item_list_length", "eval_args"]
    assert (
        meant_option("MAX_ITEM_LIST_LEN", known, "HSTU") == "did you mean 'max_item_list_length'?"
    )
    assert meant_option("split_ratio", known, "HSTU") == "did you mean 'eval_args'?"
