"""Processes that torch's launcher starts, again after a death, and on several machines."""

import os
import pickle
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from types import ModuleType

import psutil
import pytest
import recbole.trainer.trainer
import torch
from small_data import random_rows, small_config, small_options, weights, write_inter
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.distributed import launcher, processes
from recbole_hstu.quick_start import run
from recbole_hstu.serving.files.request_files import read_names
from recbole_hstu.support.errors import CannotWrite, InputError
from recbole_hstu.training.preparation import build_model, make_trainer

ROOT = Path(processes.__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(autouse=True)
def data():
    write_inter(random_rows(n_users=41))


@pytest.fixture
def start():
    """Starts the command, in other processes, which end with the test."""
    begun = []

    def start(*before, model="held_model:Held", **options):
        given = [f"--{key}={value}" for key, value in options.items()]
        words = [str(ROOT / "run_recbole.py"), f"--model={model}", "--dataset=toy", *given]
        line, number = [sys.executable, *before, *words], len(begun)
        with Path(f"said{number}.txt").open("w") as said, Path(f"out{number}.txt").open("w") as out:
            begun.append(subprocess.Popen(line, env=ENVIRONMENT, stdout=out, stderr=said))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def said():
    return "".join(file.read_text() for file in sorted(Path().glob("said*.txt")))


def wait_for_a_checkpoint(process):
    until = time.monotonic() + 400
    while not list(Path("saved").glob("*.last.pth")):
        assert process.poll() is None, said()
        assert time.monotonic() < until
        time.sleep(0.02)


OPTIONS = small_options(epochs=4, protocol="paper")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights that two processes end with, dropout included, if nothing happens to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        write_inter(random_rows(n_users=41))
        whole = run("held_model:Held", "toy", config_dict={**OPTIONS, "nproc": 2})
        return weights(whole["checkpoint"].with_suffix(".last.pth"))


def assert_trained_as(undisturbed):
    (last,) = Path("saved").glob("*.last.pth")
    for name, value in weights(last).items():
        assert torch.equal(value, undisturbed[name]), name


@pytest.mark.slow
def test_a_job_that_loses_a_process_starts_again_by_itself(start, undisturbed):
    Path("hold-saved").touch()
    process = start(**OPTIONS, nproc=2, max_restarts=1)
    wait_for_a_checkpoint(process)
    children = psutil.Process(process.pid).children()
    workers = [p for p in children if any("spawn_main" in part for part in p.cmdline())]
    assert len(workers) == 2
    max(workers, key=lambda worker: worker.pid).kill()
    Path("hold-saved").unlink()
    assert process.wait(timeout=400) == 0, said()
    assert "started again, goes on from saved/Held-toy" in said()
    assert_trained_as(undisturbed)


@pytest.mark.slow
def test_two_machines_one_of_which_loses_its_process(start, undisturbed):
    """Two of torch's launchers that meet are what two machines with a shared folder are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    torchrun += ["--rdzv_backend=c10d", f"--rdzv_endpoint={place}", "--rdzv_id=job"]
    torchrun += ["--max_restarts=1", "--local_addr=127.0.0.1", "--monitor_interval=0.1"]
    Path("hold-saved").touch()
    machines = [start(*torchrun, **OPTIONS) for _ in range(2)]
    wait_for_a_checkpoint(machines[0])
    below = [child for m in machines for child in psutil.Process(m.pid).children()]
    (second,) = [p for p in below if p.environ().get("RANK") == "1"]
    second.kill()
    Path("hold-saved").unlink()
    assert [machine.wait(timeout=400) for machine in machines] == [0, 0], said()
    assert said().count("started again, goes on from saved/Held-toy") == 1
    shown = "".join(file.read_text() for file in Path().glob("out*.txt"))
    assert shown.count("ndcg@5") == 1  # one process prints the table
    assert_trained_as(undisturbed)


def test_a_start_is_not_mistaken_for_the_one_before():
    """The store keeps what processes wrote that are gone."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    clients = [torch.distributed.TCPStore("127.0.0.1", store.port) for _ in range(3)]
    names = []
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            names.append(set(pool.map(processes._start_of_all, clients, range(3), [3] * 3)))
    first, second = names
    assert len(first) == len(second) == 1
    assert first != second


def test_processes_that_make_the_folder_of_checkpoints_at_once(monkeypatch):
    """RecBole looks whether it is there, and another process makes it just then."""

    def make(folder):
        if not Path(folder).exists():
            Path(folder).mkdir()
            Path(folder).mkdir()

    monkeypatch.setattr(recbole.trainer.trainer, "ensure_dir", make)
    config = small_config()
    trainer = make_trainer(config, build_model(config, load_dataset(config)))
    assert Path(trainer.checkpoint_dir).is_dir()


# What a user's own script has: a model, and a training by two processes.
SCRIPT = """
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.quick_start import run
from recbole_hstu.training.preparation import build_model, make_trainer
from recbole_hstu.support.errors import InputError

class Mine(HSTU):
    pass

def train():
    try:
        print(run(Mine, "toy", config_dict={options})["test_result"]["mrr"])
    except InputError as error:
        print(error)

{call}
"""


def script(call):
    return SCRIPT.format(options=small_options(epochs=1, nproc=2), call=call)


@pytest.mark.slow
def test_a_model_of_the_main_script():
    Path("mine.py").write_text(script('if __name__ == "__main__":\n    train()'))
    line = [sys.executable, "mine.py"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert 0 <= float(done.stdout) <= 1
    assert len(list(Path("saved").glob("Mine-toy-*.pth"))) == 2


@pytest.fixture
def typed(monkeypatch, capsys):
    """Runs a text as the main module of this process, and gives what it prints."""

    def typed(text, file=None):
        main = ModuleType("__main__")
        if file is not None:
            main.__file__ = str(file)
        monkeypatch.setitem(sys.modules, "__main__", main)
        exec(compile(text, file or "<stdin>", "exec"), vars(main))
        return capsys.readouterr().out

    return typed


def test_a_script_that_every_process_would_run_again(typed):
    Path("mine.py").write_text(script("train()"))
    said = typed(script("train()"), Path("mine.py"))
    assert said.startswith("--nproc: ")
    assert said.endswith(
        'mine.py, line 16: stands outside of `if __name__ == "__main__":`, so that every process '
        "would start others; put it inside\n"
    )
    assert not Path("saved").exists()


def test_a_model_typed_into_an_interpreter(typed):
    assert "typed into a notebook or an interpreter" in typed(script("train()"))
    assert not Path("saved").exists()


def test_a_process_looks_out_for_the_one_that_has_started_it(monkeypatch):
    begun = []
    monkeypatch.setattr(launcher, "end_with_parent", lambda: begun.append("looks out"))
    assert launcher._work(pickle.dumps((len, ("job",))), Path("no note")) == 3
    assert begun == ["looks out"]


def test_what_was_refused_is_not_lost_with_the_process(monkeypatch):
    """One refuses, another works on for longer than the first one waits, and both are ended."""
    monkeypatch.setattr(launcher, "end_with_parent", lambda: None)
    monkeypatch.setattr(launcher.threading, "Timer", lambda *_: Thread())
    content = pickle.dumps((read_names, ("missing.txt",)))

    class Ended:
        def __init__(self, *_):
            pass

        def __call__(self, content, note):
            assert launcher._work(content, note).message.startswith("missing.txt")
            Path("missing.txt").write_text("a name")
            assert launcher._work(content, note).message.startswith("missing.txt")  # no new start
            raise ChildFailedError("job", {0: ProcessFailure(0, 1, 1, "")})

    monkeypatch.setattr(launcher, "elastic_launch", Ended)
    monkeypatch.setattr(launcher, "_packed", lambda *_: content)
    with pytest.raises(InputError, match=r"missing\.txt: cannot be read"):
        launcher.launch(2, 1, read_names, "missing.txt")


def without_room():
    raise CannotWrite("saved/x.pth: the checkpoint cannot be written (No space left on device)")


def test_a_full_disk_stays_one(monkeypatch):
    """A study then ends, and goes on later: the run has not failed."""
    monkeypatch.setattr(launcher, "end_with_parent", lambda: None)
    monkeypatch.setattr(launcher.threading, "Timer", lambda *_: Thread())
    content = pickle.dumps((without_room, ()))
    for _ in range(2):  # by value and, at a second start, by the note
        assert isinstance(launcher._work(content, Path("note")).error(), CannotWrite)


@pytest.mark.parametrize("given", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "many", "RANK": "0"}])
def test_variables_that_are_not_torchruns(given, monkeypatch):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="not as torchrun sets them"):
        processes.requested(1)
