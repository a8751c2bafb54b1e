"""A run beside other trackers: W&B and TensorBoard as published, MLflow and Trackio as stand-ins of the parts that are used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.client.serving import serving

import gradwatch
from gradwatch.neighbours import active
from gradwatch.shield import Shield
from gradwatch.testing import FakeServer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("GRADWATCH_AUTOSTART", "0")


@pytest.fixture
def server() -> Iterator[tuple[FakeServer, str]]:
    fake = FakeServer()
    with serving(fake) as port:
        yield fake, f"http://127.0.0.1:{port}"


def test_tensorboard(server: tuple[FakeServer, str], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard.writer import SummaryWriter

    fake, url = server
    SummaryWriter(str(tmp_path / "older")).close()
    with SummaryWriter(str(tmp_path / "wide-net")) as writer:
        with gradwatch.watch(server=url) as run:
            run.record(0, {"a": 1.0})
            assert run.name == "wide-net"
        writer.add_scalar("loss", 0.5, 3)
    read = EventAccumulator(str(tmp_path / "wide-net"))
    read.Reload()
    (link,) = read.Tensors(f"{neighbours_label()}/text_summary")
    assert link.tensor_proto.string_val == [run.url.encode()]
    assert [event.value for event in read.Scalars("loss")] == [0.5]
    assert fake.stream.hello.context["trackers"] == [
        {"tracker": "tensorboard", "name": "wide-net", "url": ""}
    ]


def neighbours_label() -> str:
    from gradwatch.neighbours import LABEL

    return LABEL


WANDB = """
import json, wandb, gradwatch
theirs = wandb.init(project="p", name="wide-net", config={"lr": 0.1, "api_key": "s3cret"})
with gradwatch.watch() as run:
    for step in range(5):
        run.record(step, {"a": 1.0})
        wandb.log({"loss": step})
print(json.dumps([run.name, run.url, theirs.summary["gradwatch"], theirs.summary["loss"]]))
theirs.finish()
"""


@pytest.mark.slow
def test_wandb(server: tuple[FakeServer, str], tmp_path: Path) -> None:
    fake, url = server
    environ = {
        **os.environ,
        "GRADWATCH_SERVER": url,
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DIR": str(tmp_path),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
    }
    done = subprocess.run(
        [sys.executable, "-c", WANDB], env=environ, cwd=tmp_path, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    name, ours, link, loss = json.loads(done.stdout.decode().splitlines()[-1])
    assert (name, link, loss) == ("wide-net", ours, 4)
    assert fake.stream.hello.name == "wide-net"
    assert fake.stream.hello.context["config"] == {"lr": 0.1, "api_key": "***"}
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert ours.encode() in log.read_bytes(), "the link is not in what is synchronised later"


class MlflowStandIn:
    """One active run of MLflow's fluent interface; its client knows the parameters logged since the start."""

    def __init__(self) -> None:
        self.tags: dict[tuple[str, str], str] = {}
        self.run: Any = SimpleNamespace(
            info=SimpleNamespace(run_id="abc", run_name="bold-shrew-1"), data=SimpleNamespace(params={})
        )

    def active_run(self) -> Any:
        return self.run

    def MlflowClient(self) -> MlflowStandIn:
        return self

    def get_run(self, run_id: str) -> Any:
        return SimpleNamespace(info=self.run.info, data=SimpleNamespace(params={"lr": "0.1"}))

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.tags[run_id, key] = value


class TrackioStandIn:
    """The context variable that Trackio keeps its run in."""

    def __init__(self) -> None:
        self.run: Any = SimpleNamespace(name="dainty-sunset-0", config={"lr": 0.2, "_Group": None})
        self.current_run = SimpleNamespace(get=lambda: self.run)


def ignore(text: str) -> None:
    """What a shield says."""


def test_mlflow_and_trackio() -> None:
    mlflow, trackio = MlflowStandIn(), TrackioStandIn()
    found = active({"mlflow": mlflow, "trackio.context_vars": trackio})
    assert found.name == "bold-shrew-1" and found.config == {"lr": "0.1"}
    found.tell("http://one", Shield(ignore))
    found.tell("http://two", Shield(ignore))
    assert mlflow.tags == {("abc", "gradwatch"): "http://one"}
    assert trackio.run.config["gradwatch"] == "http://one"
    assert active({"trackio.context_vars": trackio}).name == "dainty-sunset-0"


def test_a_tracker_without_a_run_counts_for_nothing() -> None:
    mlflow, trackio = MlflowStandIn(), TrackioStandIn()
    mlflow.run = trackio.run = None
    idle = {"mlflow": mlflow, "trackio.context_vars": trackio, "wandb": SimpleNamespace(run=None)}
    found = active(idle)
    assert (found.name, found.config, found.describe()) == ("", None, [])


def test_a_tracker_that_fails_is_left_out(swallowed: list[Exception]) -> None:
    found = active({"wandb": SimpleNamespace(), "mlflow": MlflowStandIn()})
    assert found.name == "bold-shrew-1"
    assert [type(error) for error in swallowed] == [AttributeError]
    swallowed.clear()


def test_what_the_script_says_wins(server: tuple[FakeServer, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fake, url = server
    monkeypatch.setitem(sys.modules, "mlflow", MlflowStandIn())
    with gradwatch.watch(server=url, name="mine", config={"lr": 3}) as run:
        run.record(0, {"a": 1.0})
    hello = fake.stream.hello
    assert hello.name == "mine" and hello.context["config"] == {"lr": 3}


def test_nothing_is_imported() -> None:
    code = "import sys, gradwatch; gradwatch.watch(mode='disabled'); print(*sys.modules)"
    words = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode().split()
    )
    assert not {"wandb", "mlflow", "trackio", "tensorboard", "torch", "pynvml", "IPython"} & set(words)
