"""A job that is started again finds its run, and only its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradwatch.errors import ConfigError
from gradwatch.identity import Identity, _seen, identify, job_of, run_secret

ABOUT = ["digits", "", "train.py", "--lr", "0.1"]
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_CLUSTER_NAME": "tiger"}


def started(directory: Path, resume: str = "auto", about: list[str] = ABOUT, **environ: str) -> Identity:
    """A fresh process asks."""
    _seen.clear()
    return identify(resume, directory=directory, environ=environ, about=about)


def test_a_requeued_job_is_the_same_run_on_any_computer_that_sees_the_folder(tmp_path: Path) -> None:
    first = started(tmp_path, **SLURM, SLURMD_NODENAME="n1")
    again = started(tmp_path, **SLURM, SLURMD_NODENAME="n2", SLURM_RESTART_COUNT="1")
    assert (first.id, first.key, first.name) == (again.id, again.key, again.name)
    assert again.resumes == "Slurm job 4711 tiger"


@pytest.mark.parametrize(
    "environ",
    [
        {"SLURM_JOB_ID": "4712"},
        {"PBS_JOBID": "4711.server", "PBS_ARRAY_INDEX": "3"},
        {"LSB_JOBID": "4711", "LSB_JOBINDEX": "2"},
        {"SGE_TASK_ID": "1", "JOB_ID": "4711"},
        {"TORCHELASTIC_RUN_ID": "a1b2"},
    ],
)
def test_each_job_of_each_scheduler_is_a_run_of_its_own(tmp_path: Path, environ: dict[str, str]) -> None:
    found = started(tmp_path, **environ)
    assert found.resumes and found.id == started(tmp_path, **environ).id
    assert found.id != started(tmp_path, **SLURM).id


def test_within_a_job_runs_are_told_apart(tmp_path: Path) -> None:
    runs = [
        started(tmp_path, **SLURM),
        started(tmp_path, about=[*ABOUT[:-1], "0.2"], **SLURM),
        started(tmp_path, SLURM_PROCID="1", **SLURM),
    ]
    _seen.clear()
    runs += [identify("auto", directory=tmp_path, environ=SLURM, about=ABOUT) for _ in range(2)][1:]
    assert len({run.id for run in runs}) == 4
    assert len({run.key for run in runs}) == 4


def test_the_ranks_of_one_training_agree(tmp_path: Path) -> None:
    ranks = [started(tmp_path, SLURM_PROCID=str(i), WORLD_SIZE="4", **SLURM) for i in range(4)]
    assert len({rank.id for rank in ranks}) == 1


@pytest.mark.parametrize("environ", [{}, {"TORCHELASTIC_RUN_ID": "none"}, {"SGE_TASK_ID": ""}])
def test_without_a_scheduler_auto_is_a_new_run(tmp_path: Path, environ: dict[str, str]) -> None:
    assert job_of(environ) == ""
    assert started(tmp_path, **environ).id != started(tmp_path, **environ).id


def test_a_run_is_found_again_by_its_id_and_with_its_key(tmp_path: Path) -> None:
    new = started(tmp_path, resume="")
    assert new.resumes == ""
    again = started(tmp_path, resume=new.id)
    assert (again.id, again.key) == (new.id, new.key) and again.resumes


def test_another_user_has_another_key(tmp_path: Path) -> None:
    mine, yours = started(tmp_path / "mine", resume="abc"), started(tmp_path / "yours", resume="abc")
    assert mine.id == yours.id and mine.key != yours.key


def test_the_secret_is_the_users_alone_and_two_that_start_at_once_agree(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    first = run_secret(folder)
    assert (folder / "run_secret").stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.iterdir()] == ["run_secret"]
    assert run_secret(folder) == first and len(first) == 32


@pytest.mark.parametrize("resume", ["a/b", "..", "x" * 65, "run 1", "-x"])
def test_what_is_no_id_is_refused_before_step_0(tmp_path: Path, resume: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits"):
        started(tmp_path, resume=resume)


def test_a_folder_that_cannot_be_used_is_told_to_who_resumes_and_to_nobody_else(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="set GRADWATCH_DIR"):
        started(blocked, **SLURM)
    assert started(blocked, resume="").id
    (tmp_path / "run_secret").write_text("short")
    with pytest.raises(ConfigError, match="damaged"):
        started(tmp_path, **SLURM)


def test_nothing_is_written_where_nothing_may_be(tmp_path: Path) -> None:
    alone = identify("auto", directory=None, environ=SLURM, about=ABOUT)
    assert alone.id and not alone.resumes and not os.listdir(tmp_path)
