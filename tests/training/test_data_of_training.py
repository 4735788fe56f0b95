"""A checkpoint and the data it was trained on: other interactions are told of."""

import pytest
from small_data import random_rows, small_options, write_inter

from recbole_hstu.quick_start import evaluate, run
from recbole_hstu.support.errors import InputError


def _one_event_later(rows):
    """The last event of the first user a second later; nothing else changes."""
    last = max((row for row in rows if row[0] == rows[0][0]), key=lambda row: row[2])
    return [(u, i, t + 1) if (u, i, t) == last else (u, i, t) for u, i, t in rows]


def _one_event_more(rows):
    user, item, time = rows[0]
    return [*rows, (user, item, time + 10**6)]


@pytest.mark.parametrize("model", ["HSTU", "SASRec", "BPR"])
@pytest.mark.parametrize("changed", [_one_event_later, _one_event_more])
def test_other_interactions_are_told_of(toy, model, changed, caplog):
    options = small_options(model, epochs=1)
    file = run(model, "toy", config_dict=options)["checkpoint"]
    evaluate(file)
    assert "may have seen" not in caplog.text
    write_inter(changed(random_rows()))
    evaluate(file)
    assert "other interactions or times (" in caplog.text
    assert "may have seen what" in caplog.text
    with pytest.raises(InputError, match="trained on other interactions or times"):
        run(model, "toy", config_dict=options | {"resume": str(file.with_suffix(".last.pth"))})
