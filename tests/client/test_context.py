"""What is captured at the start, and what is kept back."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

import gradwatch
from gradwatch import context
from gradwatch.errors import ConfigError
from gradwatch.masks import MASK, mask_argv, masked, plain, private_globs
from gradwatch.protocol.limits import MAX_CONTEXT_BYTES


@dataclasses.dataclass
class Settings:
    lr: float = 0.1
    hub_token: str = "hf_abc"
    betas: tuple[float, float] = (0.9, 0.95)
    where: Path = Path("out")


class HuggingFaceLike:
    """Arguments with ``to_dict``."""

    def to_dict(self) -> dict[str, Any]:
        return {"learning_rate": 1e-4, "push_to_hub_token": "x"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"lr": 0.1, "nested": {"password": "p", "n": 1}}, {"lr": 0.1, "nested": {"password": MASK, "n": 1}}),
        (argparse.Namespace(lr=1, api_key="k"), {"lr": 1, "api_key": MASK}),
        (Settings(), {"lr": 0.1, "hub_token": MASK, "betas": [0.9, 0.95], "where": "out"}),
        (HuggingFaceLike(), {"learning_rate": 1e-4, "push_to_hub_token": MASK}),
        (types.SimpleNamespace(a=1, _hidden=2), {"a": 1}),
        ({1: float("inf"), "f": len}, {"1": "Infinity", "f": str(len)}),
        ([1, 2], {"value": [1, 2]}),
    ],
)
def test_config_in_every_form(config: Any, expected: Any) -> None:
    assert context.collect(config, {}, [])["config"] == expected


def test_omegaconf_nodes_by_their_own_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    class Node:
        pass

    conversion = types.SimpleNamespace(
        is_config=lambda c: isinstance(c, Node), to_container=lambda c, resolve: {"lr": 3, "secret": "s"}
    )
    monkeypatch.setitem(sys.modules, "omegaconf", types.SimpleNamespace(OmegaConf=conversion))
    assert context.collect(Node(), {}, [])["config"] == {"lr": 3, "secret": MASK}


def test_words_of_the_field_are_no_secrets() -> None:
    harmless = {
        "max_tokens": 5,
        "tokenizer": "bpe",
        "num_key_value_heads": 8,
        "pad_token_id": 0,
        "author": "x",
        "n_tokens": 1,
    }
    assert masked(harmless) == harmless
    secret = {
        "API_KEY": "a",
        "authToken": "b",
        "hf_token": "c",
        "aws_secret_access_key": "d",
        "DB_PASSWORD": "e",
        "access_tokens": "f",
    }
    assert set(masked(secret).values()) == {MASK}
    assert masked({"token": None, "api_key": ""}) == {"token": None, "api_key": ""}


def test_command_lines_lose_their_secrets() -> None:
    argv = [
        "train.py",
        "--lr",
        "0.1",
        "--api-key",
        "k1",
        "--token=k2",
        "db_password=k3",
        "--max-tokens",
        "512",
        "--auth",
    ]
    assert mask_argv(argv) == [
        "train.py", "--lr", "0.1", "--api-key", MASK, f"--token={MASK}", f"db_password={MASK}", "--max-tokens", "512", "--auth",
    ]  # fmt: skip


def test_who_started_it_is_a_name_and_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ann@example.org")
    assert context.collect(None, {}, [])["who"] == "ann"
    assert context.collect(None, {"GRADWATCH_USER": " the sweep "}, [])["who"] == "the sweep"
    assert len(context.collect(None, {"GRADWATCH_USER": "x" * 100}, [])["who"]) == 64
    assert "who" not in context.collect(None, {"GRADWATCH_USER": ""}, [])


@pytest.mark.parametrize("error", [OSError, KeyError, ImportError])
def test_an_account_without_a_name_is_of_nobody(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def nameless() -> str:
        raise error("no such user")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert "who" not in context.collect(None, {}, [])


def test_launcher_variables_without_secrets() -> None:
    environ = {"SLURM_JOB_ID": "7", "SLURM_JWT_TOKEN": "x", "RANK": "0", "HOME": "/home/me"}
    assert context.collect(None, environ, [])["launcher"] == {
        "RANK": "0",
        "SLURM_JOB_ID": "7",
        "SLURM_JWT_TOKEN": MASK,
    }


def test_git_commit_branch_and_dirt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "-q", "-b", "topic")
    script = tmp_path / "train.py"
    script.write_text("pass")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x")
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setattr(context, "GIT_TIMEOUT_S", 30.0)
    expected = {"dirty": False, "commit": git("rev-parse", "HEAD"), "branch": "topic"}
    assert context.collect(None, {}, [])["git"] == expected
    script.write_text("changed")
    assert context.collect(None, {}, [])["git"] == {**expected, "dirty": True}


def test_a_slow_git_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    begun = time.monotonic()
    assert "git" not in context.collect(None, {}, [])
    assert time.monotonic() - begun < 30


def test_a_config_that_breaks_leaves_only_itself_out(swallowed: list[Exception]) -> None:
    class Broken:
        def to_dict(self) -> dict[str, Any]:
            raise RuntimeError("no")

    found = context.collect(Broken(), {}, ["x"])
    assert "config" not in found and found["argv"] == ["x"]
    assert [str(e) for e in swallowed] == ["no"]
    swallowed.clear()


def test_endless_and_huge_things_are_bounded() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    json.dumps(plain(loop))
    huge = {f"k{i}": "x" * 10_000 for i in range(400)}
    assert len(json.dumps(context.collect(huge, {}, []))) < MAX_CONTEXT_BYTES


def test_private_patterns_are_told_with_the_run_however_much_it_captures() -> None:
    huge = {f"k{i}": "x" * 4_000 for i in range(200)}
    globs = private_globs(["é" * 512] * 64)
    found = context.collect(huge, {}, [], private=globs)
    assert found["private"] == globs and len(json.dumps(found)) < MAX_CONTEXT_BYTES
    assert context.collect(None, {}, [])["private"] == []
    assert private_globs("data_path") == ["data_path"]


@pytest.mark.parametrize("private", [[1], [""], ["x" * 513], ["x"] * 65])
def test_patterns_that_cannot_be_used_are_refused_before_the_first_step(private: Any) -> None:
    with pytest.raises(ConfigError, match="private takes"):
        gradwatch.watch(private=private, mode="disabled")
