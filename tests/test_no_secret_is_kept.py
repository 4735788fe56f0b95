"""No secret of an address stands in any file that a command leaves, or on the terminal."""

from pathlib import Path

import pytest
import yaml
from embeddings_server import KEY, WIDTH
from small_data import small_options
from text_files import texts_of, write_items

from recbole_hstu import quick_start
from recbole_hstu.cli import main
from recbole_hstu.config.config import Config
from recbole_hstu.support.errors import InputError
from recbole_hstu.training import checkpoint, preparation, trainer

pytest.importorskip("openai")

SECRETS = ("S3CRET-pass", "S3CRET-key", "S3CRET-store")


@pytest.fixture
def secret_url(server, toy, monkeypatch):
    """The address of a server that encodes the items of `toy`."""
    monkeypatch.setenv("RECBOLE_HSTU_CACHE", "cache")
    write_items(toy / "toy", texts_of(30))
    host = server.url.removeprefix("http://")
    return f"http://me:S3CRET-pass@{host}?api-key=S3CRET-key"


def arguments(command, url, **options):
    given = small_options(
        epochs=1,
        text_encoder="openai",
        text_model="m",
        text_dimensions=WIDTH,
        text_base_url=url,
        item_text="{fields: [title]}",
    )
    given |= options
    return [command, "--dataset=toy", *(f"--{key}={value}" for key, value in given.items())]


def assert_nothing_secret(capfd):
    files = [path for path in Path().rglob("*") if path.is_file()]
    for path in files:
        blob = path.read_bytes()
        assert not [word for word in (KEY, *SECRETS) if word.encode() in blob], path
    shown = "".join(capfd.readouterr())
    assert not [word for word in (KEY, *SECRETS) if word in shown]
    return {"".join(path.suffixes[-2:]) for path in files}, shown


def test_a_run_its_study_and_its_report(server, secret_url, capfd, monkeypatch):
    line = arguments(
        "run", secret_url, model="HSTUText", seeds="1,2", results_dir="study", verbose=True
    )
    assert main(line) == 0
    assert main(["report", "study"]) == 0
    left, shown = assert_nothing_secret(capfd)
    kinds = {".run.json", ".last.pth", ".html", ".md", ".csv", ".tex", ".log", ".safetensors"}
    assert {k for k in kinds if any(name.endswith(k) for name in left)} == kinds
    assert list(Path("log_tensorboard").rglob("events*"))
    assert "http://***@127.0.0.1" in shown
    assert len(server.requests) == 1
    # A finished study is recognised, whatever the secrets are now.
    monkeypatch.setattr(preparation, "trainer_class", lambda *_: pytest.fail("run again"))
    line = arguments("run", secret_url + "-new", model="HSTUText", seeds="1,2", results_dir="study")
    assert main(line) == 0
    assert_nothing_secret(capfd)


def test_a_search(secret_url, capfd):
    Path("space.yaml").write_text("learning_rate: {choice: [1e-3, 1e-2]}\n")
    Path("more.yaml").write_text(f"text_base_url: {secret_url}\n")
    options = {"model": "HSTUText", "params_file": "space.yaml", "algo": "exhaustive"}
    storage = "sqlite:///search.db?password=S3CRET-store"
    line = arguments("tune", secret_url, **options, config_files="more.yaml", storage=storage)
    line = [word for word in line if not word.startswith("--text_base_url")]
    assert main(line) == 0
    Path("more.yaml").unlink()
    left, _ = assert_nothing_secret(capfd)
    assert {".yaml", ".db"} <= left
    best = yaml.safe_load(Path("results/tune-HSTUText-toy/best.yaml").read_text())
    assert best["text_base_url"].endswith("?api-key=***")
    # The best options run as they are, as long as nothing has to be encoded.
    file = "--config_files=results/tune-HSTUText-toy/best.yaml"
    assert main(["run", file, "--epochs=1"]) == 0


def test_a_secret_is_nothing_to_search_for(secret_url, capfd):
    Path("space.yaml").write_text(f"text_base_url: {{choice: ['{secret_url}', 'http://host/']}}\n")
    line = arguments("tune", secret_url, model="HSTUText", params_file="space.yaml")
    assert main([word for word in line if not word.startswith("--text_base_url")]) == 2
    Path("space.yaml").unlink()
    _, shown = assert_nothing_secret(capfd)
    assert "text_base_url: a secret would be kept with every trial" in shown


def test_a_masked_address_is_refused_where_it_is_needed(server, secret_url, capfd, monkeypatch):
    masked = secret_url.replace("me:S3CRET-pass", "***").replace("S3CRET-key", "***")
    assert main(arguments("run", masked, model="HSTUText")) == 2
    assert "text_base_url" in (shown := assert_nothing_secret(capfd)[1])
    assert "give the whole address again" in shown
    assert not server.requests
    monkeypatch.setenv("OPENAI_BASE_URL", secret_url.replace("127.0.0.1", "localhost"))
    assert main(arguments("run", masked, model="HSTUText")) == 2  # of another server
    monkeypatch.setenv("OPENAI_BASE_URL", secret_url)
    assert main(arguments("run", masked, model="HSTUText")) == 0
    assert server.requests
    assert_nothing_secret(capfd)


@pytest.mark.parametrize(
    "option",
    [
        "text_base_url=ftp://me:S3CRET-pass@host",
        "storage=foo://me:S3CRET-pass@host/db?password=S3CRET-key",
        "resume=https://me:S3CRET-pass@host/x.pth?key=S3CRET-key",
        "learning_rate=https://me:S3CRET-pass@host",
    ],
)
def test_error_messages(toy, capfd, option):
    command = "tune" if option.startswith("storage") else "run"
    options = {"params_file": "space.yaml"} if command == "tune" else {}
    Path("space.yaml").write_text("weight_decay: {choice: [0, 1e-2]}\n")
    encoder = "lsa" if command == "tune" else "openai"
    given = small_options("HSTUText", text_encoder=encoder, item_text="{fields: [title]}")
    write_items(toy / "toy", texts_of(30))
    line = [command, "--model=HSTUText", "--dataset=toy"]
    line += [f"--{key}={value}" for key, value in {**given, **options}.items()]
    assert main([*line, f"--{option}"]) == 2
    _, shown = assert_nothing_secret(capfd)
    assert any(
        words in shown for words in ("***@host", "ftp://host", "--storage: Can't load plugin")
    )


def test_a_failed_run_of_a_study(secret_url, capfd, monkeypatch):
    def fail(self, interaction):
        raise RuntimeError(f"cannot reach {secret_url}")

    from recbole_hstu.model.hstutext import HSTUText

    monkeypatch.setattr(HSTUText, "calculate_loss", fail)
    assert main(arguments("run", secret_url, model="HSTUText", seeds="1")) == 1
    assert main(["report", "results/toy-recbole"]) == 0
    _, shown = assert_nothing_secret(capfd)
    assert "RuntimeError: cannot reach http://***@" in shown


def test_a_run_is_resumed_with_another_password(server, secret_url):
    options = small_options(
        epochs=1,
        text_encoder="openai",
        text_model="m",
        text_dimensions=WIDTH,
        text_base_url=secret_url,
        item_text={"fields": ["title"]},
    )
    last = checkpoint.last_file(
        quick_start.run("HSTUText", "toy", config_dict=options)["checkpoint"]
    )
    options |= {"epochs": 2, "resume": str(last)}
    options["text_base_url"] = secret_url.replace("S3CRET-pass", "another")
    assert quick_start.run("HSTUText", "toy", config_dict=options)["record"].epochs == 2
    options["text_base_url"] = "http://elsewhere/"
    with pytest.raises(InputError, match="not of --text_base_url=http://elsewhere/"):
        quick_start.run("HSTUText", "toy", config_dict=options)


def test_wandb_gets_no_secret(secret_url, monkeypatch):
    """RecBole hands the whole configuration to it."""
    given = []
    monkeypatch.setattr("recbole.trainer.trainer.WandbLogger", given.append)
    config = Config("HSTU", "toy", config_dict=small_options(checkpoint_dir=secret_url))
    with pytest.raises(AttributeError):  # the logger is a stand-in for a package not at hand
        trainer.PlainTrainer(config, None)
    assert given[0]["checkpoint_dir"].startswith("http://***@")
    assert config["checkpoint_dir"] == secret_url
