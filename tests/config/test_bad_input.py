"""Every bad input: one clear line, exit status 2, nothing written."""

import sys
import zipfile
from pathlib import Path

import pytest
from small_data import command, files, random_rows, small_options, write_inter

from recbole_hstu.cli import main
from recbole_hstu.config.command_line import read_options
from recbole_hstu.quick_start import run
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.checkpoint import load_checkpoint


def refused(capfd, arguments, *words):
    before = files()
    status = main(arguments)
    out, err = capfd.readouterr()
    assert status == 2
    errors = [line for line in err.splitlines() if "error:" in line]
    assert err.splitlines() == errors, err  # and nothing before it
    assert len(errors) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in errors[0]
    assert not out
    assert files() == before


def test_unknown_model(toy, capfd):
    refused(capfd, command(model="SASRek"), "--model=SASRek", "did you mean SASRec")


def test_unknown_model_among_several(toy, capfd):
    refused(capfd, ["run", "--model=Pop,HTSU", "--dataset=toy"], "--model=HTSU")


def test_unknown_dataset(toy, capfd):
    refused(capfd, command(dataset="toi"), "--dataset=toi", "did you mean toy?")


def test_a_name_that_is_no_hint(capfd):
    Path("empty").mkdir()
    words = "empty/ml-1m/ml-1m.inter does not exist; your own data become"
    refused(capfd, command(dataset="ml-1m", data_path="empty"), words)


def test_unknown_option(toy, capfd):
    refused(capfd, command("--learningrate=1"), "'learningrate'", "did you mean 'learning_rate'")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metrics": "NDGC"}, "metrics: 'NDGC' is unknown; did you mean NDCG?"),
        ({"learner": "adamm"}, "learner: 'adamm' is unknown; did you mean adam?"),
        ({"data_path": "datasets"}, "--data_path=datasets: there is no such folder; did you mean"),
        ({"dataset": "dataset/toy"}, "write --dataset=toy --data_path=dataset"),
        ({"dataset": "toy/"}, "write --dataset=toy --data_path=dataset"),
        ({"data_path": "dataset/toy"}, "is the data set's own folder; name the one around it"),
        ({"data_path": "/nope"}, "--data_path=/nope: there is no such folder"),
        ({"tail_ratio": -0.1}, "tail_ratio"),
        ({"model": "SASRec", "loss_type": "sampled"}, "'sampled' must be one of BPR, CE"),
    ],
)
def test_the_nearest_right_thing(toy, capfd, given, words):
    refused(capfd, command(**given), words)


def test_a_path_as_the_name_of_a_data_set(toy, capfd, monkeypatch):
    folder = Path("dataset/toy").resolve()
    advice = f"is a path; write --dataset=toy --data_path={folder.parent}"
    refused(capfd, command(dataset=str(folder)), advice)
    monkeypatch.chdir(folder)
    refused(capfd, command(dataset="."), advice)


def test_an_empty_item_file(toy, capfd):
    Path("dataset/toy/toy.item").touch()
    text = "--item_text={fields: [title]}"
    expected = r"toy.item: the file is empty; expected a header such as item_id:token\ttitle:token"
    refused(capfd, command(text, model="HSTUText"), expected)


def test_a_text_model_names_the_columns_that_there_are(toy, capfd):
    Path("dataset/toy/toy.item").write_text(
        "item_id:token\tname:token_seq\tprice:float\ni1\tx\t1\n"
    )
    expected = '--item_text="{fields: [name], style: sentences}"'
    refused(capfd, command(model="HSTUText"), expected)
    Path("dataset/toy/toy.inter").write_text(
        Path("dataset/toy/toy.inter").read_text().replace("\t", ",")
    )
    Path("dataset/toy/toy.item").write_text("name:token_seq,item_id:token\nx,i1\n")
    refused(capfd, command("--field_separator=,", model="HSTUText"), expected)


def test_three_models_are_named_not_all(toy, capfd):
    refused(capfd, command(model="GRU4"), "did you mean GRU4Rec, GRU4RecF or GRU4RecKG? ")


def test_no_model(toy, capfd):
    refused(capfd, ["run", "--dataset=toy"], "--model is missing")


@pytest.mark.parametrize("key", ["exclude", "resume", "seeds", "config_files", "learner"])
def test_an_empty_value(toy, capfd, key):  # such as that of a variable of the shell
    refused(capfd, command(f"--{key}="), f"--{key}= is empty; give it a value")


@pytest.mark.parametrize("content", ["~: 5", "null: 5"])
def test_a_key_that_is_nothing(toy, capfd, content):
    Path("null.yaml").write_text(content)
    refused(capfd, command("--config_files=null.yaml"), "null.yaml: unknown option")


def test_an_argument_that_is_no_option(capfd):
    refused(capfd, ["run", "HSTU"], "'HSTU' is no option")


def test_no_time_column(capfd):
    write_inter([("u", "a"), ("u", "b")], header="user_id:token\titem_id:token")
    refused(capfd, command(), "no time column 'timestamp'")


def test_a_time_that_is_no_number(capfd):
    rows = random_rows(5)
    rows[3] = ("u0", "i1", "yesterday")
    write_inter(rows)
    refused(capfd, command(), "toy.inter: line 5", "'yesterday'", "not a whole number")


def test_a_time_that_is_no_whole_number(capfd):
    write_inter([("u", "a", 1), ("u", "b", 1.5)])
    refused(capfd, command(), "toy.inter: line 3", "'1.5'")


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file(capfd, content):
    write_inter([])
    Path("dataset/toy/toy.inter").write_text(content)
    refused(capfd, command(), "toy.inter: the file is empty")


def test_a_header_and_no_row(capfd):
    write_inter([])
    refused(capfd, command(), "toy.inter: the file has a header and no row")


def test_a_column_named_twice(capfd):
    header = "user_id:token\titem_id:token\titem_id:token\ttimestamp:float"
    write_inter([("u", "a", "a", 1)], header=header)
    refused(capfd, command(), "line 1", "item_id more than once")


def test_a_header_repeated_further_down(capfd):
    rows = random_rows(5)
    rows.insert(2, ("user_id:token", "item_id:token", "timestamp:float"))
    write_inter(rows)
    refused(capfd, command(), "toy.inter: line 4", "'timestamp:float'")


def test_a_header_without_types(capfd):
    write_inter([("u", "a", 1)], header="user_id\titem_id\ttimestamp")
    refused(capfd, command(), "line 1: column 'user_id' is not name:type")


def test_a_row_that_is_too_wide(capfd):
    write_inter([("u", "a", 1), ("u", "b", 2, "more")])
    refused(capfd, command(), "toy.inter", "line 3")


def test_a_row_cut_short(capfd):
    """A rating that is not there would become the mean of the others."""
    header = "user_id:token\titem_id:token\ttimestamp:float\trating:float"
    write_inter([("u", "a", 1, 5), ("u", "b", 2), ("u", "c", 3, "")], header=header)
    columns = "--load_col={inter: [user_id, item_id, timestamp, rating]}"
    refused(capfd, command(columns), "toy.inter: line 3: 3 columns where")


@pytest.mark.parametrize("encoding", ["utf8x", "base64"])
def test_no_such_encoding(toy, capfd, encoding):
    refused(capfd, command(encoding=encoding), f"--encoding={encoding}: no such encoding of text")


def test_nobody_has_three_interactions(capfd):
    write_inter([(f"u{u}", f"i{i}", i) for u in range(9) for i in range(2)])
    refused(capfd, command(topk="[1]"), "nobody has the three interactions")


def test_topk_above_the_number_of_items(toy, capfd):
    refused(capfd, command(topk="[31]"), "topk: 31", "number of items (30)")


def test_mask_with_sampled_candidates(toy, capfd):
    refused(capfd, command("--eval_args={mode: uni5}", mask_seen=True), "--mask_seen=False")


@pytest.fixture
def trained(toy):
    return run("HSTU", "toy", config_dict=small_options())["checkpoint"]


@pytest.fixture
def last(trained):
    return trained.with_suffix(".last.pth")


def test_half_a_checkpoint(trained, capfd):
    content = trained.read_bytes()
    for size in (len(content) // 2, 10, 0):
        Path("half.pth").write_bytes(content[:size])
        capfd.readouterr()
        refused(capfd, command(resume="half.pth"), "half.pth: damaged")


def test_weights_of_other_options(trained, capfd):
    capfd.readouterr()
    given = ["--hidden_size=32", "--data_path=dataset"]
    expected = "its weights are of other options; leave out --hidden_size\n"
    assert main(["evaluate", str(trained), *given]) == 2
    assert capfd.readouterr().err.endswith(expected)


@pytest.mark.parametrize("way", ["evaluate", "resume"])
def test_a_checkpoint_whose_data_lie_elsewhere_now(trained, last, capfd, monkeypatch, way):
    file, resumed = trained.resolve(), last.resolve()
    Path("away").mkdir()
    monkeypatch.chdir("away")
    capfd.readouterr()
    words = "dataset/toy/toy.inter does not exist; the checkpoint was trained on it, seen from the"
    line = ["evaluate", str(file)] if way == "evaluate" else ["run", f"--resume={resumed}"]
    refused(capfd, line, words, "say where toy/ lies now, with --data_path=FOLDER")
    refused(capfd, [*line, "--data_path=nope"], "--data_path=nope: there is no such folder")


def test_a_checkpoint_with_a_changed_byte(trained, capfd):
    content = bytearray(trained.read_bytes())
    with zipfile.ZipFile(trained) as archive:
        weights = next(
            one for one in archive.infolist() if "/data/" in one.filename and one.file_size > 512
        )
    content[weights.header_offset + 400] ^= 0xFF
    Path("flipped.pth").write_bytes(content)
    capfd.readouterr()
    refused(capfd, ["evaluate", "flipped.pth"], "flipped.pth: damaged, its checksum differs")


def test_no_checkpoint(toy, capfd):
    refused(capfd, command(resume="nowhere.pth"), "nowhere.pth: no such checkpoint")


def test_a_checkpoint_of_another_data_set(last, capfd):
    write_inter(random_rows(), name="other")
    capfd.readouterr()
    refused(capfd, command(resume=last, dataset="other"), "--dataset=toy", "--dataset=other")
    write_inter(random_rows(n_items=29))
    refused(capfd, command(resume=last), "was trained on other items (30)", "(29)")


def test_a_checkpoint_of_another_model(last, capfd):
    capfd.readouterr()
    refused(capfd, command(model="SASRec", resume=last), "--model=HSTU", "--model=SASRec")


@pytest.mark.parametrize("name", ["log", "saved", "log_tensorboard"])
def test_a_folder_that_cannot_be_written(toy, capfd, name):
    """A file stands where the folder should be: that stops root, too."""
    Path(name).write_text("in the way")
    choice = "or choose another with --checkpoint_dir" if name == "saved" else "of your own"
    refused(capfd, command(), f"{name}: the folder cannot be written", choice)
    refused(capfd, command(model="Pop,HSTU"), f"{name}: the folder cannot be written")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
def test_a_folder_where_nothing_can_be_made(capfd):
    """Root, too, has all rights there. It is said before any data are read."""
    words = "/proc/x: the folder cannot be written (/proc: No such file or directory); run from a"
    refused(capfd, command(checkpoint_dir="/proc/x"), words)


def test_a_checkpoint_of_other_settings(last, capfd):
    capfd.readouterr()
    refused(capfd, command(resume=last, learning_rate=0.5), "--learning_rate=0.001")
    line = ["run", f"--resume={last}", "--learning_rate=0.5", "--num_negatives=7", "--epochs=9"]
    refused(
        capfd,
        line,
        f"{last}: a checkpoint of --learning_rate=0.001, --num_negatives=16, not of "
        f"--learning_rate=0.5, --num_negatives=7; --resume={last} alone goes on",
    )
    refused(capfd, command(resume=last, protocol="paper"), "--protocol=recbole", "=paper")
    refused(capfd, command(resume=last, seed=1), "--seed=2020", "--seed=1")


def test_a_checkpoint_of_other_users(last, capfd):
    write_inter([(f"other {user}", item, time) for user, item, time in random_rows()])
    capfd.readouterr()
    refused(capfd, command(resume=last), "was trained on other users (40)")


def test_the_best_epoch_is_not_the_last(trained, last, capfd):
    capfd.readouterr()
    refused(capfd, ["run", f"--resume={trained}"], f"go on with --resume={last}")
    last.unlink()
    refused(capfd, ["run", f"--resume={trained}"], f"{last} is not there")


def test_the_best_checkpoint_is_missing(trained, last, capfd):
    trained.unlink()
    capfd.readouterr()
    refused(capfd, command(resume=last), str(trained), "is missing")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("learning_rate=abc", "learning_rate: 'abc' must be a number above 0"),
        ("epochs=0", "epochs: 0 must be a whole number from 1 on"),
        ("train_seconds=0", "train_seconds: 0 must be a number above 0"),
        ("mask_seen=maybe", "mask_seen: 'maybe' must be True or False"),
        ("temperature=-1", "temperature: -1 must be a number above 0"),
        ("hidden_size=big", "hidden_size: 'big' must be a whole number"),
        ("input_dropout_prob=2", "input_dropout_prob: 2 must be"),
        ("float32_matmul_precision=low", "float32_matmul_precision: 'low' must be one of highest"),
        ("stochastic_length_alpha=0", "stochastic_length_alpha: 0 must be a number above 1"),
        ("adam_betas=[1.5,2]", "adam_betas: [1.5, 2] must be two numbers"),
        ("seed=2024-13-01", "seed: '2024-13-01' must be a whole number"),
        ("learner=[adam]", "learner: ['adam'] is unknown; did you mean adam?"),
        ("eval_args={spilt: 1}", "eval_args: unknown key 'spilt'"),
        ("save_dataset=True", "save_dataset: RecBole's caches"),
        ("learning_rate=None", "learning_rate: None must be a number above 0"),
        ("stopping_step=None", "stopping_step: None must be a whole number from 0 on"),
        (
            "seed=4294967296",
            "seed: 4294967296 must be a whole number from 0 on and at most 4294967295",
        ),
        ("topk=[]", "topk: [] must be whole numbers from 1 on"),
        ("topk=[1.5]", "topk: [1.5] must be whole numbers"),
        ("topk=[true]", "topk: [True] must be whole numbers"),
        ("metrics=[]", "metrics: [] names none"),
        ("state=basic_format", "state: 'basic_format' is unknown"),
        ("learning_rate=.inf", "learning_rate: inf must be a finite number above 0"),
        ("eval_args={mode: uni0}", "eval_args: mode: 'uni0' must be full"),
        ("eval_args={group_by: bogus}", "eval_args: group_by: 'bogus' must be user or none"),
        ("load_col={item: [item_id]}", "load_col: names no columns of inter"),
        (
            "load_col={inter: [user_id]}",
            "load_col: inter: lacks item_id, the column of ITEM_ID_FIELD",
        ),
        (
            "load_col={inter: [item_id]}",
            "load_col: inter: lacks user_id, the column of USER_ID_FIELD",
        ),
        ("metrics=~", "metrics: None names none; give some"),
        ("clip_grad_norm={max_norm: 5, norm_type: x}", "norm_type: 'x' must be a number above 0"),
        ("topk=" + "[" * 3000, "topk: too many brackets"),
        ("learner=sparse_adam", "learner: 'sparse_adam' is unknown"),
        ("clip_grad_norm={foo: 1}", "clip_grad_norm: unknown key 'foo'"),
        ("clip_grad_norm={norm_type: 2}", "clip_grad_norm: max_norm is missing"),
        ("clip_grad_norm={max_norm: x}", "clip_grad_norm: max_norm: 'x' must be a number above 0"),
        ("load_col=5", "load_col: 5 must be key: value pairs"),
        ("load_col={inter: user_id}", "load_col: inter: 'user_id' must be a list of columns"),
        ("eval_args={split: {LS: [valid_and_test]}}", "LS: ['valid_and_test']; known are"),
        ("ITEM_ID_FIELD=thing", "toy.inter: has no column thing:token, which ITEM_ID_FIELD"),
        ("transform=foo", "foo"),
        ("eval_args={split: {TS: [.inf,.1,.1]}}", "expected three shares"),
        ("valid_metric=NDCG", "valid_metric: NDCG is not among the metrics and cut-offs"),
        ("eval_args={mode: full, mode: uni100}", "eval_args: 'mode' stands there twice"),
        ("train_neg_sample_args={sample_num: 3}", "HSTU has no such option; it draws negatives"),
        ("model=../model/HSTU-SID", "--model=../model/HSTU-SID: no such model"),
    ],
)
def test_values_that_make_no_sense(toy, capfd, option, words):
    key = option.partition("=")[0]
    line = [a for a in command() if not a.startswith(f"--{key}=")]
    refused(capfd, [*line, f"--{option}"], words)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("train_neg_sample_args={sample_num: 0}", "sample_num: 0 must be a whole number from 1"),
        ("train_neg_sample_args={sample_nums: 5}", "unknown key 'sample_nums'"),
    ],
)
def test_values_that_make_no_sense_to_a_model_of_recbole(toy, capfd, option, words):
    refused(capfd, command(f"--{option}", model="BPR"), words)


def test_wandb_is_missing(toy, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    refused(capfd, command(log_wandb=True), "log_wandb: needs the package wandb; pip install wandb")


def test_a_validation_metric_that_is_not_computed(toy, capfd):
    refused(capfd, command(valid_metric="NDCG@7"), "valid_metric: NDCG@7", "ndcg@5")


def test_a_cell_with_a_nul(toy, capfd):  # pandas would cut the user there
    with Path("dataset/toy/toy.inter").open("a") as file:
        file.write("u\0a\ti1\t1600000000000\n")
    lines = len(Path("dataset/toy/toy.inter").read_text().splitlines())
    refused(capfd, command(model="Pop"), f"toy.inter: line {lines}: holds a NUL character")


def test_a_file_without_the_mark_of_its_encoding(toy, capfd):
    expected = "toy.inter: is not utf-16 text"
    refused(capfd, command("--encoding=utf-16", model="Pop"), expected)


def test_a_file_that_is_not_utf8(capfd):
    write_inter(random_rows(5))
    path = Path("dataset/toy/toy.inter")
    path.write_bytes(path.read_bytes() + "ü\ti1\t5\n".encode("latin-1"))
    refused(capfd, command(), "toy.inter: is not utf-8 text", "--encoding=latin-1")


def test_a_model_has_some_width(toy, capfd):
    refused(capfd, command("--embedding_size=0", model="BPR"), "embedding_size: 0 must be")


def test_a_package_that_a_model_needs(capfd):
    refused(capfd, ["run", "--model=KGAT", "--dataset=ml-100k"], "needs the package dgl")


@pytest.mark.parametrize(
    "option",
    [
        *("user_inter_num_interval=100", "item_inter_num_interval=[2,inf", "val_interval={x: 3}"),
        *("user_inter_num_interval=[9,2]", "val_interval={timestamp: '[1003 inf)'}"),
        "val_interval={item_id: '[1,2]'}",
    ],
)
def test_intervals_that_are_none(toy, capfd, option):
    key = option.partition("=")[0]
    refused(capfd, command(f"--{option}"), f"{key}")


def test_a_link_to_nothing_is_in_the_way(toy, capfd):
    Path("saved").symlink_to("nowhere")
    refused(capfd, command(), "saved: the folder cannot be written")


def test_a_name_that_is_missing(toy, capfd):
    refused(capfd, command("--results_dir"), "--results_dir names nothing")


def test_mask_ratios_of_bert4rec(toy, capfd):
    for option in ("mask_ratio=None", "ft_ratio=a"):
        words = f"{option.partition('=')[0]}: "
        refused(capfd, command(f"--{option}", model="BERT4Rec"), words, "must be a number from 0")


def test_an_evaluation_cannot_change_what_was_counted(toy, capfd):
    file = run("RecentPop", "toy", config_dict=small_options("LIS", recent_days=1))["checkpoint"]
    capfd.readouterr()
    words = f"--recent_days=10: {file} is of 1; leave --recent_days out"
    refused(capfd, ["evaluate", str(file), "--recent_days=10"], words)


def test_what_an_evaluation_cannot_change(trained, capfd):
    capfd.readouterr()
    for option, words in (
        ("dataset=other", "is of toy; leave --dataset out"),
        ("model=SASRec", "is of HSTU; leave --model out"),
        ("resume=x", "--resume is for trainings"),
        ("nproc=2", "--nproc is for trainings"),
        ("learning_rate=1", "--learning_rate is for trainings"),
    ):
        refused(capfd, ["evaluate", str(trained), f"--{option}"], words)


def test_resume_of_several_models(trained, capfd):
    capfd.readouterr()
    line = ["run", "--model=HSTU,Pop", "--dataset=toy", f"--resume={trained}"]
    refused(capfd, line, "--resume goes on with one run")


def test_help_and_version(capfd):
    assert main(["--help"]) == 0
    assert "--key=value" in capfd.readouterr().out
    assert main(["--version"]) == 0
    assert main([]) == 2


def test_options_of_the_command_line():
    line = ["--a=1e-3", "--b", "x", "--c", "--d=p=q", "--e={k: [1, 2]}"]
    expected = {"a": 1e-3, "b": "x", "c": True, "d": "p=q", "e": {"k": [1, 2]}}
    assert read_options(line) == expected
    with pytest.raises(InputError, match="--a is given twice"):
        read_options(["--a=1", "--a=2"])


def test_options_from_python_are_a_mapping():
    with pytest.raises(InputError, match=r"config_dict: 'epochs=1' is no mapping"):
        run("HSTU", "toy", config_dict="epochs=1")


def test_several_models_go_on_after_a_failure(toy, capfd):
    line = command(model="SASRec", learning_rate=1e30, train_batch_size=16)
    line[1] = "--model=SASRec,Pop"
    assert main(line) == 1
    out = capfd.readouterr().out
    assert "failed (seed 2020): InputError: the training loss is NaN" in " ".join(out.split())
    assert "Pop" in out
    assert len(list(Path("log/Pop").glob("*.run.json"))) == 1
    assert load_checkpoint(next(Path("saved").glob("Pop*[0-9].pth")))
