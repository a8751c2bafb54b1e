"""What links show of a run's configuration, and that doubt goes against showing."""

from __future__ import annotations

from typing import Any

import pytest

from gradwatch.masks import MASK
from gradwatch.protocol.limits import MAX_PRIVATE
from gradwatch_server.privacy import sift


def config_of(config: Any, *private: str, **context: Any) -> dict[str, Any]:
    return sift({"config": config, "private": list(private), **context}).config


@pytest.mark.parametrize(
    "glob",
    ["data_path", "data*", "*.data_path", "in.data_path", "in.*", "in", "IN.Data_Path", "[d]ata_path", "*"],
)
def test_a_marked_key_is_left_out_with_all_below_it(glob: str) -> None:
    config = {"in": {"data_path": {"train": "a", "test": "b"}}}
    assert config_of(config, glob) == {}
    assert config_of(config) == config


def test_a_mark_is_no_mark_for_what_only_resembles_it() -> None:
    assert config_of({"data": 1, "database": 2, "in": {"a": 3}}, "data", "a.in", "n") == {
        "database": 2,
        "in": {"a": 3},
    }


def test_what_is_left_out_is_told_by_its_dotted_name() -> None:
    config = {"lr": 1, "a": {"b": [{"token": "x", "n": 1}], "user": "u"}, "path": "/data"}
    assert sift({"config": config, "private": []}).private == ("a.b.0.token", "a.user", "path")


@pytest.mark.parametrize(
    "name", ["api_key", "hub_token", "Password", "db_passwd", "client_secret", "awsCredentials", "auth"]
)
@pytest.mark.parametrize("value", ["abc", MASK, ["abc"], {"value": "abc"}])
def test_secrets_by_name(name: str, value: Any) -> None:
    assert config_of({"lr": 1, name: value}) == {"lr": 1}


@pytest.mark.parametrize(
    "name",
    ["host", "MASTER_HOST", "userName", "wandb_entity", "command", "argv", "nodelist", "e_mail", "who"],
)
def test_people_and_machines_by_name(name: str) -> None:
    assert config_of({"lr": 1, name: "abc"}) == {"lr": 1}


@pytest.mark.parametrize(
    "value",
    [
        "/data/imagenet",
        "~/data",
        "~ann/data",
        "python train.py --out=/scratch/x",
        r"D:\data",
        "C:/data",
        r"\\filer\share",
        "s3://bucket/x",
        "http://tracker.lab:5000",
        "postgresql://u:p@db/x",
        "ann@example.org",
        "ann@gpu-3:/x",
        "10.1.2.3",
        "hf_abcdefghijkl",
        "sk-abcdefghijkl",
        "runs on GPU-BOX-3",
        "by ann",
        MASK,
    ],
)
def test_values_that_lead_to_a_machine_a_person_or_a_lock(value: str) -> None:
    about = {"host": {"name": "gpu-box-3"}, "who": "ann"}
    for form in (value, [1, value], {"deep": [{"er": value}]}):
        shown = config_of({"lr": 1, "x": form}, **about)
        assert value not in str(shown) and shown["lr"] == 1
    assert config_of({value: 1}, **about) == {}


def test_ordinary_settings_are_shown() -> None:
    config = {
        "optimizer": "AdamW",
        "betas": [0.9, 0.95],
        "max_tokens": 512,
        "num_key_heads": 8,
        "tokenizer": "bpe",
        "model": {"name": "google/vit-base", "act": "gelu", "layers": [{"width": 64}, {"width": 32}]},
        "ratio": "1/2",
        "version": "2.13.0",
        "metric": "recall@10",
        "data": "imagenet/train",
        "time": "12:30",
        "nothing": None,
        "empty": {},
        "annotation": "coco",
    }
    assert config_of(config, "absent", who="ann") == config


@pytest.mark.parametrize(
    "private",
    [None, "lr", {"lr": 1}, [1], [""], ["x" * 600], ["x"] * (MAX_PRIVATE + 1), {"left out": "9 bytes"}],
)
def test_a_run_that_does_not_say_what_is_private_shows_nothing(private: Any) -> None:
    assert sift({"config": {"lr": 1}, "private": private}) == sift({"config": {"lr": 1}})
    assert sift({"config": {"lr": 1}}).config == {} and sift({"config": {"lr": 1}}).private is None


def test_a_configuration_that_is_no_mapping_is_not_shown() -> None:
    assert sift({"config": ["/data"], "private": []}).config == {}
    assert sift({"private": []}).config == {}


def test_a_pattern_made_to_be_slow_is_not() -> None:
    config = {"a" * 200: {"b" * 200: 1}, "c": 2}
    assert config_of(config, *["*a" * 60 + "*x"] * MAX_PRIVATE) == config
