"""A search whose trials lie in a PostgreSQL server, which goes away in the middle."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from small_searches import FOLDER, WIDE, rows, start, tune, wait_for

from recbole_hstu.tuning.storage import open_storage, read_url

PATHS = [os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
PG_CTL = shutil.which("pg_ctl", path=os.pathsep.join(PATHS))


class Server:
    """A PostgreSQL of its own, on a socket in its folder alone."""

    def __init__(self, folder):
        self.folder = folder
        self.url = f"postgresql+psycopg://tuner@/postgres?host={folder}"
        self.owner = "nobody" if os.geteuid() == 0 else None  # as root it refuses to run
        if self.owner:
            shutil.chown(folder, self.owner)
        self.control("initdb", "-o", "--auth=trust --username=tuner --no-sync")

    def control(self, *words, check=True):
        command = [PG_CTL, *words, "-D", self.folder / "data", "-l", self.folder / "log", "-w"]
        subprocess.run(command, user=self.owner, cwd=self.folder, check=check)

    def start(self):
        # No connections but through the socket, and nothing here need survive a power cut.
        self.control("start", "-o", f"-k {self.folder} -c listen_addresses='' -c fsync=off")

    def stop(self, check=True):
        self.control("stop", "-m", "immediate", check=check)


@pytest.fixture
def server():
    pytest.importorskip("psycopg")
    if PG_CTL is None:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # the owner may not enter pytest's
        server = Server(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop(check=False)


def test_a_server_that_was_started_anew_is_not_noticed(server):
    storage = open_storage(read_url(server.url), "--storage")
    assert storage.get_all_studies() == []
    server.stop()
    server.start()
    assert storage.get_all_studies() == []


@pytest.mark.slow
def test_a_server_that_goes_away_loses_nothing(toy, server, capsys):
    options = {"model": "held_model:Held", "algo": "random", "results_dir": FOLDER}
    options |= {"max_trials": 2, "epochs": 4, "stopping_step": 4}
    Path("hold-trial-1").touch()
    Path("hold-trial-2").touch()
    process = start("--jobs=2", f"--storage={server.url}", **options)
    try:
        wait_for("checkpoints/trial-2/*.last.pth", process)
        server.stop()
        Path("hold-trial-1").unlink()
        Path("hold-trial-2").unlink()
        assert process.wait(timeout=400) == 2
    finally:
        process.kill()
    *_, last = Path("said.txt").read_text().splitlines()
    assert last.startswith("recbole-hstu: error: --storage: (psycopg.OperationalError) ")
    assert last.endswith("mend it and start the command again, which goes on where it was")
    assert "Traceback" not in Path("said.txt").read_text()
    server.start()
    assert tune(WIDE, **options, storage=server.url) == 0
    assert "was cut off, goes on from" in capsys.readouterr().err
    assert tune(WIDE, **options | {"results_dir": "whole"}) == 0
    assert rows() == rows("whole")
