"""What is captured when a run starts: who, configuration, command line, git, versions, host, scheduler. Never fails, never long.

Each probe stands alone: one that fails leaves its part out. torch is asked only if the script has imported it.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .masks import mask_argv, masked, plain
from .neighbours import Neighbours
from .protocol.limits import MAX_CONTEXT_BYTES, MAX_WHO
from .shield import Shield

__all__ = ["collect"]

GIT_TIMEOUT_S: Final = 0.15
_LAUNCHER: Final = ("SLURM_", "TORCHELASTIC_", "PBS_", "LSB_", "OMPI_COMM_WORLD_")
_LAUNCHER_NAMES: Final = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "GROUP_RANK",
)
_PACKAGES: Final = (
    "torch",
    "numpy",
    "transformers",
    "lightning",
    "pytorch_lightning",
    "accelerate",
    "deepspeed",
    "jax",
)


def collect(
    config: Any,
    environ: Mapping[str, str],
    argv: Sequence[str],
    beside: Neighbours | None = None,
    private: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that can be found out in a moment, as plain JSON with secrets masked and a bounded size.

    ``config`` may be a dict, a Namespace, a dataclass, an OmegaConf node, or anything with ``to_dict`` (such as Hugging
    Face arguments) or attributes; where it is None, the settings of a tracker ``beside`` are taken.
    ``private`` are patterns of settings that share links don't show; they are told even if there are none.
    """
    beside = beside or Neighbours([])
    config = beside.config if config is None else config
    probes: dict[str, Callable[[], Any]] = {
        "who": lambda: _who(environ),
        "config": lambda: masked(plain(as_mapping(config))) if config is not None else None,
        "trackers": beside.describe,
        "argv": lambda: mask_argv(argv),
        "git": _git,
        "python": lambda: {"version": platform.python_version(), "executable": sys.executable},
        "packages": _packages,
        "host": lambda: {
            "name": socket.gethostname(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "pid": os.getpid(),
        },
        "devices": _devices,
        "launcher": lambda: _launcher(environ),
    }
    found: dict[str, Any] = {}
    shield = Shield(lambda text: None, limit=1_000)
    for name, probe in probes.items():
        with shield.guard(f"capturing {name}"):
            value = probe()
            if value:
                found[name] = value
    globs = list(private)
    return {**_bounded(found, MAX_CONTEXT_BYTES - len(json.dumps(globs))), "private": globs}


def as_mapping(config: Any) -> Any:
    """The settings in ``config``, as far as they can be told apart from the rest of the object."""
    if isinstance(config, Mapping):
        return config
    # Hugging Face arguments are dataclasses whose to_sanitized_dict hides tokens and leaves out what is not a setting.
    for method in ("to_sanitized_dict", "to_dict", "model_dump"):
        convert = getattr(config, method, None)
        if callable(convert) and not isinstance(config, type):
            return convert()
    if hasattr(config, "__dataclass_fields__"):
        return config
    module = sys.modules.get("omegaconf")
    if module is not None and module.OmegaConf.is_config(config):
        return module.OmegaConf.to_container(config, resolve=False)
    if hasattr(config, "__dict__"):
        return {key: value for key, value in vars(config).items() if not key.startswith("_")}
    return {"value": config}


def _bounded(found: dict[str, Any], most: int) -> dict[str, Any]:
    """The wire takes a bounded context: leave out the largest parts of an oversize one, and say so."""
    sizes = {name: len(json.dumps(value)) for name, value in found.items()}
    while sum(sizes.values()) + 1_000 > most:
        largest = max(sizes, key=lambda name: sizes[name])
        found[largest] = {"left out": f"{sizes[largest]:,} bytes"}
        sizes[largest] = 64
    return found


def _who(environ: Mapping[str, str]) -> str:
    """``GRADWATCH_USER``, where "" stands for nobody, or else the name of the account. Never an address: of ``ann@example.org``
    only ``ann`` is taken. An account without a name is one of nobody (the error differs by Python version)."""
    given = environ.get("GRADWATCH_USER")
    if given is None:
        try:
            given = getpass.getuser()
        except (OSError, KeyError, ImportError):
            return ""
    return given.strip().partition("@")[0][:MAX_WHO]


def _git() -> dict[str, Any]:
    """Commit, branch and whether tracked files are changed, asked of git without taking its lock."""
    where = _script_directory()
    lines = _run_git(["status", "--porcelain=v2", "--branch", "--untracked-files=no", "--no-renames"], where)
    if lines is None:
        return {}
    found: dict[str, Any] = {"dirty": False}
    for line in lines.splitlines():
        words = line.split(" ", 2)
        if line.startswith("# branch.oid"):
            found["commit"] = words[2]
        elif line.startswith("# branch.head"):
            found["branch"] = words[2]
        elif not line.startswith("#"):
            found["dirty"] = True
    return found


def _script_directory() -> Path:
    script = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path()
    return script.resolve().parent if script.is_file() else Path.cwd()


def _run_git(words: list[str], where: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(where), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _packages() -> dict[str, str]:
    """Versions of what is imported already: looking others up would cost time and tell nothing."""
    versions = {"gradwatch": sys.modules[__package__ or "gradwatch"].__version__}
    for name in _PACKAGES:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            versions[name] = str(version)
    return versions


def _devices() -> dict[str, Any]:
    """What torch sees, without making it initialise a device that the script has not used yet."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "cuda_built": torch.version.cuda}
    if torch.cuda.is_initialized():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["cuda"] = names
    return found


def _launcher(environ: Mapping[str, str]) -> dict[str, str]:
    names = [name for name in environ if name.startswith(_LAUNCHER) or name in _LAUNCHER_NAMES]
    kept: dict[str, str] = masked({name: environ[name][:200] for name in sorted(names)[:200]})
    return kept
