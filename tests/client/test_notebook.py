"""In a notebook: a real kernel executes cells against a real server, and what is saved holds no secret."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from gradwatch import local, notebook
from gradwatch.notebook import Cells, Page, as_the_notebook_says
from gradwatch.run import NullRun

START = """
import gradwatch, torch
from torch.optim import optimizer as _hooks
model = torch.nn.Linear(3, 1)
run = gradwatch.watch(model, project="notebook")
"""
SHOW = "run.show()"
TRAIN = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(5):
    loss = model(torch.ones(2, 3)).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    run.log(loss=loss)
"""
REMEMBER = "first = run"
JUDGE = """
import json
print(json.dumps({
    "first over": first.over, "second over": run.over, "hooks": len(_hooks._global_optimizer_pre_hooks),
    "urls": [first.url, run.url],
}))
"""
END = "run.finish()"


@pytest.mark.slow
def test_an_executed_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    spec = tmp_path / "jupyter" / "kernels" / "here"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "here", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("GRADWATCH_DIR", str(state))
    monkeypatch.setenv("GRADWATCH_PORT", "0")
    for name in ("GRADWATCH_SERVER", "GRADWATCH_MODE", "GRADWATCH_AUTOSTART", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    cells = [START, SHOW, TRAIN, REMEMBER, START, SHOW, TRAIN, JUDGE, END]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    try:
        NotebookClient(book, timeout=100, kernel_name="here").execute()
        (server,) = local.running(state)
    finally:
        for one in local.running(state):
            local.stop(one)
    saved = nbformat.writes(book)
    judged = json.loads(book.cells[7].outputs[0].text)
    assert judged["first over"] and not judged["second over"] and judged["hooks"] == 1
    first, second = judged["urls"]
    assert first != second and first.startswith(server.url)
    for cell, url in ((book.cells[1], first), (book.cells[5], second)):
        (output,) = cell.outputs
        assert f'<iframe src="{url}"' in output.data["text/html"]
        assert f'<a href="{url}"' in output.data["text/html"]
    assert url in book.cells[4].outputs[0].text, "the link is not printed"
    assert server.token not in saved
    assert not re.search(r"code=|token", saved)


def test_a_code_is_taken_out_of_the_output_after_it_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    handle = SimpleNamespace(update=lambda page: said.append(page._repr_html_()))

    def display(page: Page, display_id: bool) -> Any:
        assert display_id
        said.append(page._repr_html_())
        return handle

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    url = "http://127.0.0.1:8642/runs/r"
    notebook.display_page(url, f"{url}#code=s3cret", 700, "p / <n>", sleep=lambda s: said.append(f"{s:g} s"))
    with_code, pause, without = said
    assert 'src="http://127.0.0.1:8642/runs/r#code=s3cret"' in with_code and pause == "2 s"
    assert "s3cret" not in without and 'height="700"' in without and "p / &lt;n&gt;" in without
    said.clear()
    notebook.display_page(url, url, 700, "p")
    assert len(said) == 1


class Kernel:
    """Which cell is being executed."""

    def __init__(self) -> None:
        self.at = ("", "")

    def __call__(self) -> tuple[str, str]:
        return self.at


def test_a_cell_that_is_executed_again_finishes_its_run() -> None:
    kernel, model, other = Kernel(), Page("", 1, ""), Page("", 1, "")
    cells, runs = Cells(kernel), [NullRun() for _ in range(4)]
    kernel.at = ("a", "1")
    cells.keep(runs[0], [])
    cells.finish_earlier([])
    cells.keep(runs[1], [model])
    assert not any(run.over for run in runs), "two runs of one execution stay"
    kernel.at = ("b", "2")
    cells.finish_earlier([other])
    cells.keep(runs[2], [other])
    assert not any(run.over for run in runs)
    kernel.at = ("a", "3")
    cells.finish_earlier([])
    assert [run.over for run in runs] == [True, True, False, False]
    kernel.at = ("c", "4")
    cells.finish_earlier([other])
    assert runs[2].over, "one model is not watched twice"


def test_outside_a_notebook_nothing_is_finished() -> None:
    cells, run = Cells(lambda: ("", "")), NullRun()
    cells.keep(run, [])
    cells.finish_earlier([])
    assert not run.over


@pytest.mark.parametrize(
    ("notebook_at", "url", "seen"),
    [
        ("http://localhost:8888/", "http://127.0.0.1:8642/x", "http://localhost:8642/x"),
        ("http://127.0.0.1:8888/", "http://127.0.0.1:8642", "http://127.0.0.1:8642"),
        ("http://workstation:8888/", "http://127.0.0.1:8642", "http://127.0.0.1:8642"),
        ("http://localhost:8888/", "https://watch.example.org/x", "https://watch.example.org/x"),
    ],
)
def test_the_address_is_of_the_notebooks_site(
    notebook_at: str, url: str, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jpserver-17.json").write_text(json.dumps({"url": notebook_at}))
    paths = SimpleNamespace(jupyter_runtime_dir=lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "jupyter_core.paths", paths)
    assert as_the_notebook_says(url, {"JPY_PARENT_PID": "17"}) == seen
    assert as_the_notebook_says(url, {"JPY_PARENT_PID": "18"}) == url
    assert as_the_notebook_says(url, {}) == url
