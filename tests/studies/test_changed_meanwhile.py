"""What is recorded of a study whose files are changed while it runs."""

from pathlib import Path

import pytest
from small_data import random_rows, small_options, write_inter

from recbole_hstu.config.checkpoint_settings import changed_settings
from recbole_hstu.quick_start import run
from recbole_hstu.records.run_record import OK, read_records
from recbole_hstu.records.same_terms import NOT_DECISIVE
from recbole_hstu.studies import study as study_module
from recbole_hstu.studies.compare import compare_models
from recbole_hstu.support.errors import InputError

FOLDER = Path("results/toy-recbole")


def study(seeds="1,2", **more):
    files = [Path("my.yaml")] if Path("my.yaml").exists() else []
    return compare_models(["HSTU"], "toy", files, small_options(seeds=seeds, epochs=1, **more))


def after_a_run(monkeypatch, change):
    def changing(*call, **how):
        result = run(*call, **how)
        change()
        return result

    monkeypatch.setattr(study_module, "run", changing)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_configuration_file_that_changes_ends_the_study(toy, monkeypatch, jobs):
    file = Path("my.yaml")
    file.write_text("learning_rate: 0.001")
    with monkeypatch.context() as patch:
        if jobs > 1:  # before its processes read it
            side_by_side = study_module.side_by_side
            patch.setattr(
                study_module,
                "side_by_side",
                lambda *call: file.write_text("learning_rate: 0.01") and side_by_side(*call),
            )
        after_a_run(patch, lambda: file.write_text("learning_rate: 0.01"))
        with pytest.raises(InputError, match=r"my\.yaml: changed while the study ran"):
            study(jobs=jobs)
    done = read_records(FOLDER) if jobs == 1 else []
    assert [(one.seed, one.config["learning_rate"]) for one in done] == [(1, 0.001)][: len(done)]
    file.write_text("learning_rate: 0.001")
    study()
    assert {one.config["learning_rate"] for one in read_records(FOLDER)} == {0.001}


def test_data_that_change_during_a_run_are_not_those_it_is_recorded_with(toy, monkeypatch, caplog):
    caplog.set_level("INFO", "recbole_hstu")
    rows = random_rows()
    with monkeypatch.context() as patch:
        after_a_run(patch, lambda: write_inter([*rows, ("u1", "i1", 2 * 10**12)]))
        study(seeds=1)
    caplog.clear()
    study(seeds=1)
    (again,) = [one for one in caplog.messages if "run again, its settings changed" in one]
    assert "data_hash" in again


def test_a_record_without_its_ranks_is_kept_before_it_is_run_again(toy, monkeypatch):
    study()
    for file in FOLDER.glob("*.ranks.npz"):
        file.unlink()

    def failing(*_, **__):
        raise MemoryError("of the GPU")

    monkeypatch.setattr(study_module, "run", failing)
    study()
    assert [one.status for one in read_records(FOLDER / "before")] == [OK, OK]


def test_a_cut_off_run_goes_on_with_options_that_make_no_other_run():
    """It is taken for the same one, so that its checkpoint must be, too."""
    of_a_launch = {"world_size", "local_rank", "ip", "port", "offset", "single_spec"}
    for key in NOT_DECISIVE - of_a_launch:
        assert changed_settings({key: "before"}, {key: "now"}) == []
    assert changed_settings({"learning_rate": 1}, {"learning_rate": 2}) == ["learning_rate"]
