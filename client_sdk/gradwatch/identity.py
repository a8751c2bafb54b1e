"""Which run this is: a new one, or one that goes on. And the key that shows that it is ours.

Nothing has to be kept for each run. ``GRADWATCH_DIR/run_secret`` (readable by its user only) is made once; a run's key
follows from it and the run's id, and with ``resume="auto"`` the id follows from it and the scheduler's job. So a job that
is started again on another computer finds its run, as long as it sees the same folder, and nobody else can.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import ConfigError
from .names import run_id, run_key, run_name
from .protocol.limits import MAX_STORED_STEP

__all__ = ["JOBS", "Identity", "first_step", "identify", "job_of", "run_secret"]

JOBS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("Slurm", ("SLURM_JOB_ID", "SLURM_CLUSTER_NAME")),
    ("PBS", ("PBS_JOBID", "PBS_ARRAY_INDEX")),
    ("LSF", ("LSB_JOBID", "LSB_JOBINDEX")),
    ("Grid Engine", ("SGE_TASK_ID", "JOB_ID")),
    ("torchrun", ("TORCHELASTIC_RUN_ID",)),
)
"""Schedulers, and the variables that name a job; they stay when it is started again. The first one must be set."""

_TASK: Final = ("SLURM_PROCID", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECRET: Final = "run_secret"

_seen: Counter[str] = Counter()
"""How many runs of each job this process has begun: its second run is not the first one going on."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Id, key and made-up name of a run; ``resumes`` says what it may go on from, "" for nothing."""

    id: str
    key: str
    name: str
    resumes: str = ""


def identify(
    resume: str,
    *,
    directory: Path | None,
    environ: Mapping[str, str],
    about: Sequence[str],
    random: Callable[[int], bytes] = os.urandom,
) -> Identity:
    """Who the run is.

    Args:
        resume: "" for a new run, ``auto`` for the run of the scheduler's job (a new one where there is no scheduler), or an
            id.
        directory: ``GRADWATCH_DIR``; None where nothing may be written, and a run stands alone.
        about: what tells runs of one job apart, such as project, name and command line; the same when a job is repeated.

    Raises:
        ConfigError: ``resume`` is no id, or the folder with the secret cannot be used.
    """
    if resume not in ("", "auto") and not _ID.fullmatch(resume):
        raise ConfigError(
            f'resume= cannot be {resume!r}: use "auto", or an id of letters, digits, dot, dash and underline'
        )
    if directory is None:
        return Identity(run_id(random), run_key(random), run_name(random))
    try:
        secret = run_secret(directory, random)
    except OSError as error:
        if resume:
            raise ConfigError(
                f"resume= needs a folder that keeps the key of the run, and {directory} cannot be used "
                f"({error.strerror or error}): set GRADWATCH_DIR to a folder of yours"
            ) from None
        return Identity(run_id(random), run_key(random), run_name(random))
    job = job_of(environ) if resume == "auto" else ""
    if job:
        chosen = _id_of_job(secret, job, environ, about)
    else:
        chosen = resume if resume not in ("", "auto") else run_id(random)
    resumes = job or ("the run asked for" if resume == chosen else "")
    name = run_name(lambda n: _derive(secret, f"name|{chosen}")[:n]) if resumes else run_name(random)
    return Identity(chosen, _derive(secret, f"key|{chosen}").hex()[:32], name, resumes)


def job_of(environ: Mapping[str, str]) -> str:
    """The scheduler's job, such as ``Slurm job 1234 tiger``; "" outside one."""
    for scheduler, names in JOBS:
        if environ.get(names[0], "none") not in ("", "none", "undefined"):
            return " ".join([scheduler, "job", *(environ[name] for name in names if environ.get(name))])
    return ""


def run_secret(directory: Path, random: Callable[[int], bytes] = os.urandom) -> bytes:
    """The secret kept in ``directory`` for its user alone (mode 0600), made at the first use. Two that start at once agree.

    Raises:
        OSError: it can be neither read nor made.
    """
    path = directory / _SECRET
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = directory / f".{_SECRET}.{os.getpid()}.{random(4).hex()}"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(random(32).hex())
        try:
            _publish(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    secret = path.read_text(encoding="ascii").strip()
    if len(secret) < 64:
        raise OSError(f"{path} is damaged: delete it")
    return bytes.fromhex(secret)


def _publish(fresh: Path, path: Path) -> None:
    """Gives the file its name unless another process was faster; where there are no hard links the later one wins."""
    with suppress(FileExistsError):
        try:
            os.link(fresh, path)
        except FileExistsError:
            raise
        except OSError:
            os.replace(fresh, path)


def _id_of_job(secret: bytes, job: str, environ: Mapping[str, str], about: Sequence[str]) -> str:
    alone = environ.get("WORLD_SIZE", "1") == "1"
    task = next((environ[name] for name in _TASK if environ.get(name)), "") if alone else ""
    text = "\0".join([job, task, *about])
    _seen[text] += 1
    return run_id(lambda n: _derive(secret, f"job|{_seen[text]}|{text}")[:n])


def _derive(secret: bytes, text: str) -> bytes:
    return hmac.new(secret, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()


def first_step(given: int | None, optimizer: Any) -> int:
    """The number of the next step. ``optimizer`` (one, several or None) may have counted its steps, as Adam does.

    Raises:
        ConfigError: ``given`` is no step.
    """
    if given is None:
        return _steps_taken(optimizer)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < MAX_STORED_STEP:
        raise ConfigError(f"start_step= must be a whole number from 0 on, not {given!r}")
    return given


def _steps_taken(optimizer: Any) -> int:
    several = optimizer if isinstance(optimizer, Sequence) else [optimizer] if optimizer is not None else []
    counts = [state.get("step") for one in several for state in one.state.values()]
    return max((int(count) for count in counts if count is not None), default=0)
