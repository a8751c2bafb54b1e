"""Every example runs and records what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.client.serving import serving

from gradwatch.protocol import Bye
from gradwatch.testing import FakeServer

EXAMPLES = Path(__file__).parents[2] / "client_sdk" / "examples"
EXPECTED = {
    "minimal.py": (200, {"loss"}),
    "digits_mlp.py": (240, {"loss", "val/loss", "val/accuracy"}),
    "any_framework.py": (300, {"loss"}),
}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_example(name: str, tmp_path: Path) -> None:
    steps, scalars = EXPECTED[name]
    fake = FakeServer()
    with serving(fake) as port:
        environ = {
            **os.environ,
            "GRADWATCH_SERVER": f"http://127.0.0.1:{port}",
            "GRADWATCH_DIR": str(tmp_path),
        }
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name)], env=environ, capture_output=True, timeout=170
        )
    assert done.returncode == 0, done.stderr.decode()
    stream = fake.stream
    assert sorted(stream.series("grad_norm")) == list(range(steps))
    logged = {s.name for schema in stream.schemas.values() for s in schema.statistics if s.logged}
    assert logged == scalars
    loss = stream.scalar("loss")
    assert len(loss) == steps and loss[steps - 1] < loss[0]
    (bye,) = stream.of(Bye)
    assert isinstance(bye, Bye) and bye.state == "finished"
