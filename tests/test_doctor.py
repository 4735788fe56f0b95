"""The doctor: what it says of a sound environment, and of injected faults."""

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

from missing_modules import environment_without

from recbole_hstu import doctor
from recbole_hstu.doctor import BAD, NOTE, OK, Finding

SLOW = ["transformers", "openai", "optuna", "matplotlib", "bm25s"]


def doctor_without(*modules):
    """Its exit status and its lines, where some modules cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-m", "recbole_hstu.cli", "doctor"],
        env=environment_without(*modules),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout


def test_without_the_extras_the_main_job_works_and_nothing_is_left_behind():
    status, out = doctor_without(*SLOW)
    assert status == 0, out
    assert "The main job works." in out
    assert "trained, tested, resumed from its checkpoint" in out
    assert 'pip install "recbole-hstu[plot]"' in out
    assert sorted(p.name for p in Path().iterdir()) == ["blocker"]


def test_a_package_that_recbole_needs_is_named_with_its_mend(monkeypatch, capsys):
    importing = importlib.import_module

    def without_tensorboard(name):
        if name == "recbole.trainer":
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
        return importing(name)

    monkeypatch.setattr(importlib, "import_module", without_tensorboard)
    monkeypatch.setattr(doctor, "_rehearsal", lambda: Finding(BAD, "HSTU, made-up data", ""))
    assert doctor.main() == 1
    out = capsys.readouterr().out
    (line,) = [i for i, text in enumerate(out.splitlines()) if text.startswith("BAD   recbole ")]
    assert "No module named 'tensorboard'" in out.splitlines()[line]
    assert "-> pip install tensorboard" in out.splitlines()[line + 1]
    assert "The main job works" not in out


def test_without_torch_it_still_speaks():
    status, out = doctor_without("torch", *SLOW)
    assert status == 1
    assert 'pip install "torch>=2.5"' in out
    assert "log_tensorboard/" in out


def test_the_rehearsal_is_one_process_under_a_scheduler_too(monkeypatch):
    handed_on = []
    done = types.SimpleNamespace(returncode=1, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, env, **__: handed_on.append(env) or done)
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "2")
    assert doctor._rehearsal().state == BAD
    assert "WORLD_SIZE" not in handed_on[0]


def test_versions_that_do_not_do(monkeypatch):
    for name, version in (("pandas", "3.1.1"), ("recbole", "1.1.1"), ("torch", "2.3.1+cu121")):
        monkeypatch.setattr(doctor, "_version", lambda _, version=version: version)
        finding = doctor._needed(name)
        assert finding.state == BAD
        assert version in finding.found
    monkeypatch.setattr(doctor, "_version", lambda _: "2.10.0")
    assert doctor._needed("torch").state == OK


def test_folders(monkeypatch):
    assert doctor._folder("saved").state == OK
    Path("saved").write_text("in the way")  # stops root, too
    finding = doctor._folder("saved")
    assert finding.state == BAD
    assert "--checkpoint_dir" in finding.mend
    monkeypatch.setattr(doctor, "_ROOM", 1 << 60)
    assert doctor._folder("log").state == NOTE


def test_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (finding,) = doctor._threads()
    assert (finding.state, finding.mend) == (NOTE, "unset OMP_NUM_THREADS")


def test_an_extra_is_found_by_the_name_that_it_is_imported_by(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: None)
    monkeypatch.setattr(doctor, "_there", {"faiss", "tiktoken"}.__contains__)
    assert doctor._extra("faiss-cpu").state == doctor._extra("tiktoken").state == OK
    finding = doctor._extra("optuna")
    assert (finding.state, finding.mend) == (NOTE, 'pip install "recbole-hstu[hyper]"')
