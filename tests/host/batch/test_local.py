import os
import signal
import sys
import threading
import time

import pytest

from trtyard.batch import local
from trtyard.batch.jobs_file import in_folder_of, read_jobs
from trtyard.batch.record import read_result

# In place of a conversion: counts how many run at a time, and leaves when it is told to.
CONVERSION = """
import os, sys, time
from pathlib import Path
folder, index = Path(sys.argv[1]), int(sys.argv[2])
(folder / f"running-{index}").write_text(str(os.getpid()))
print(f"conversion {index}", len(list(folder.glob("running-*"))), flush=True)
time.sleep(float(sys.argv[3]))
(folder / f"running-{index}").unlink()
sys.exit([0, 4, 0, 3][index])
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    file = tmp_path / "jobs.toml"
    file.write_text('[[jobs]]\nmodels = ["alexnet", "vgg11", "vgg13", "vgg16"]\n')
    with in_folder_of(file):
        jobs = read_jobs(file, tmp_path / "out")
    indexes = {job.job.request: job.index for job in jobs}

    def run_with(workers, seconds=0.5):
        monkeypatch.setattr(
            local,
            "command_of",
            lambda request: [
                *(sys.executable, "-c", CONVERSION, tmp_path),
                *(str(indexes[request]), str(seconds)),
            ],
        )
        local.run_here(jobs, workers)
        return jobs

    run_with.jobs = jobs
    return run_with


def test_failure_does_not_stop_the_others(run, capsys):
    jobs = run(1, seconds=0)
    assert [read_result(job.job.out).exit_code for job in jobs] == [0, 4, 0, 3]
    logs = [(job.job.out / "convert.log").read_text() for job in jobs]
    assert logs == [f"conversion {index} 1\n" for index in range(4)]
    said = capsys.readouterr().err
    assert "4 of 4 ended: rtx-1.7, vgg16, fp32: the machine lacks something after" in said
    assert str(jobs[1].job.out / "convert.log") in said


def test_workers_run_at_the_same_time_and_no_more(run):
    jobs = run(2)
    counts = {(job.job.out / "convert.log").read_text().split()[-1] for job in jobs}
    assert "2" in counts
    assert counts <= {"1", "2"}


def test_interruption_ends_all_and_records_nothing(run, tmp_path):
    threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(3, seconds=60)
    assert time.monotonic() - started < 30
    pids = [int(one.read_text()) for one in tmp_path.glob("running-*")]
    assert len(pids) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert all(read_result(job.job.out) is None for job in run.jobs)
    assert not run.jobs[3].job.out.exists()
