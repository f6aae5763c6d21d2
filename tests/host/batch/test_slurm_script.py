import shutil
import subprocess

import pytest

from trtyard.batch.batch import slurm_options
from trtyard.batch.jobs_file import in_folder_of, read_jobs
from trtyard.batch.slurm import script_text
from trtyard.core.errors import UsageError


@pytest.fixture
def jobs(tmp_path):
    folder = tmp_path / "it's a (folder), 100%"
    folder.mkdir()
    file = folder / "jobs.toml"
    file.write_text('[[jobs]]\nmodels = ["alexnet", "vgg11", "vgg13"]\n')
    with in_folder_of(file):
        return read_jobs(file, folder / "out")


def test_script_runs_the_folder_of_its_index(jobs, tmp_path):
    text = script_text(jobs[1:], gpus=0, constraint="")
    *lines, _ = text.splitlines()
    script = "\n".join([*lines, 'printf "%s" "$folder"'])
    for job in jobs[1:]:
        env = {"SLURM_ARRAY_TASK_ID": str(job.index)}
        done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True)
        assert done.stdout == str(job.job.out)


def test_script_asks_for_what_a_conversion_needs(jobs):
    text = script_text(jobs, gpus=2, constraint="cc8.6|cc8.9")
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if "#SBATCH" in line]
    assert asked == [
        *("--job-name=trtyard", "--requeue", "--open-mode=append", "--time=60"),
        *("--cpus-per-task=2", "--mem=8G", "--gres=gpu:2", '--constraint="cc8.6|cc8.9"'),
    ]
    without = script_text(jobs, gpus=0, constraint="")
    assert "gres" not in without
    assert "constraint" not in without


def test_script_is_a_valid_shell_script(jobs, tmp_path):
    file = tmp_path / "script"
    file.write_text(script_text(jobs, gpus=1, constraint="cc8.6"))
    assert subprocess.run(["sh", "-n", file]).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", file]).returncode == 0


def test_defaults_are_one_gpu_and_two_retries():
    options = slurm_options("", "", "", ["-p", "main"])
    assert (options.gpus, options.retries, options.words) == (1, 2, ["-p", "main"])
    with pytest.raises(UsageError, match="--retries must be a whole number from 0 up, not '-1'"):
        slurm_options("", "", "-1", [])
