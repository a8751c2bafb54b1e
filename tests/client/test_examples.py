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
    "lightning_digits.py": (150, {"loss", "val/loss"}),
    "transformers_trainer.py": (60, {"loss"}),
    "accelerate_loop.py": (50, {"loss"}),
}


SLOW = {"lightning_digits.py", "transformers_trainer.py"}


def examples() -> list[object]:
    """Their names. Importing a large framework takes many seconds."""
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("name", examples())
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
    # What training takes from the machine is there only for runs that last for some seconds.
    names = {s.name for schema in stream.schemas.values() for s in schema.statistics if s.logged}
    logged = {name for name in names if not name.startswith("system/")}
    assert logged == scalars
    loss = stream.scalar("loss")
    assert len(loss) == steps and loss[steps - 1] < loss[0]
    (bye,) = stream.of(Bye)
    assert isinstance(bye, Bye) and bye.state == "finished"
