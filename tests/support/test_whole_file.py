"""A file appears whole or not at all, whoever else writes beside it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_hstu.support.files import whole_file as module
from recbole_hstu.support.files.whole_file import ABANDONED_S, whole_file, write_whole

WRITER = """
import os, sys
from recbole_hstu.support.files.whole_file import whole_file
with whole_file("x") as stream:
    stream.write(b"theirs")
    stream.flush()
    print("writing", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def writer():
    """Another process in the middle of writing `x`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


def write(content):
    with whole_file("x") as stream:
        stream.write(content)


def parts():
    return sorted(Path().glob(".x.*.part"))


def test_nothing_is_left_and_an_error_leaves_what_was_there():
    write(b"one")
    with pytest.raises(KeyError), whole_file("x") as stream:
        stream.write(b"half")
        raise KeyError
    assert Path("x").read_bytes() == b"one"
    assert [path.name for path in Path().iterdir()] == ["x"]


@pytest.mark.parametrize("name", [".x.12345.part", ".x.other-host-0a1b2c3d.0123456789ab.part"])
def test_a_writer_on_another_machine_keeps_its_part(name):
    """No process of this machine has its number, and its lock need not be seen here."""
    Path(name).write_bytes(b"being written")
    write(b"ours")
    assert Path(name).read_bytes() == b"being written"
    long_ago = time.time() - ABANDONED_S - 60
    os.utime(name, (long_ago, long_ago))
    write(b"ours")
    assert not Path(name).exists()


def test_a_living_writer_of_this_machine_keeps_its_part(writer):
    write(b"ours")
    assert len(parts()) == 1
    writer.communicate("go on\n", timeout=60)
    assert writer.returncode == 0
    assert Path("x").read_bytes() == b"theirs"
    assert not parts()


def test_no_signal_is_sent(monkeypatch):
    """On Windows the one that asks whether a process is alive interrupts it."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", lambda *_: pytest.fail("a signal"))
        Path(f".x.{os.getpid()}.part").touch()
        write(b"ours")


def test_what_a_killed_writer_left_is_removed_by_the_next(writer):
    (left,) = parts()
    writer.kill()
    writer.wait()
    write(b"ours")
    assert not left.exists()
    assert Path("x").read_bytes() == b"ours"


def test_two_writers_in_one_process_do_not_share_a_part():
    with whole_file("x") as one, whole_file("x") as other:
        one.write(b"one")
        other.write(b"other")
        assert len(parts()) == 2
    assert Path("x").read_bytes() == b"one"
    assert not parts()


def test_a_part_that_was_removed_before_it_was_locked_is_made_anew(monkeypatch):
    lock, removed = module._lock, []

    def late(stream, *, wait):
        if not removed:
            removed.append(stream.name)
            Path(stream.name).unlink()
        return lock(stream, wait=wait)

    monkeypatch.setattr(module, "_lock", late)
    write(b"ours")
    assert removed
    assert Path("x").read_bytes() == b"ours"


def test_the_part_says_which_machine_it_is_of():
    with whole_file("x"):
        (part,) = parts()
        _, name, machine, unique, suffix = part.name.split(".")
        assert (name, machine, suffix) == ("x", module._MACHINE, "part")
        assert len(unique) == 12


def test_nobody_takes_a_file_that_is_finished_for_one_that_was_left(monkeypatch):
    """Another writer of the same file looks around just before it takes its name."""
    replace = Path.replace

    def replaced(part, target):
        module._remove_left(Path("x"))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", replaced)
    write(b"one")
    assert Path("x").read_bytes() == b"one"


def test_a_link_stays_one_and_what_is_no_file_stays_as_it_is(tmp_path):
    (tmp_path / "there.txt").write_text("before")
    (tmp_path / "link.txt").symlink_to("there.txt")
    write_whole(tmp_path / "link.txt", "after")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "there.txt").read_text() == "after"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        write_whole(tmp_path / "pipe", "after")
    assert (tmp_path / "pipe").is_fifo()
