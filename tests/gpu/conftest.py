"""Tests that need a GPU: ``make gpu``. ``GRADWATCH_TEST_DEVICE=cpu make gpu`` runs the same bodies on the CPU, and names
those that make no sense there."""

from __future__ import annotations

import os

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
DEVICE = os.environ.get("GRADWATCH_TEST_DEVICE", "cuda")


def pytest_sessionstart(session: pytest.Session) -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.exit(
            "there is no CUDA device here, so nothing was tested; GRADWATCH_TEST_DEVICE=cpu runs the bodies on the CPU",
            returncode=3,
        )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cuda: means nothing on another device")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if DEVICE == "cuda":
        return
    left_out = [item for item in items if item.get_closest_marker("cuda") is not None]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    for item in left_out:
        config.get_terminal_writer().line(f"not on {DEVICE}: {item.nodeid}")


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture(autouse=True)
def repeatable() -> None:
    """Sums in the same order each time, so that two runs can be compared to the bit."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = False
