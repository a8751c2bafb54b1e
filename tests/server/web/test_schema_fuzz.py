"""Whatever the OpenAPI schema allows, and what it doesn't, gets an answer that isn't our mistake, and one that the schema knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from tests.server.live_server import Running, Trainer, batch, hello, schema, serving

from gradwatch_server.app import create_app
from gradwatch_server.config import Config

EXAMPLES = int(os.environ.get("GRADWATCH_TEST_EXAMPLES", "12"))
"""Requests per operation; more of them by this variable, for a long look."""

OPERATIONS = [
    found.ok()
    for found in schemathesis.openapi.from_dict(
        create_app(Config.build({}, directory=Path("unused"))).openapi()
    ).get_all_operations()
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("fuzz")) as running:
        with Trainer(running, hello("0")) as trainer:
            trainer.send(schema(), batch(1, range(4), np.ones((4, 3)), [1.0] * 4))
            trainer.wait_acked(2)
        yield running


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's server lives on after a test, with threads that came during it; ``serving`` sees to their end."""


@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.label for operation in OPERATIONS])
def test_no_request_is_answered_with_a_fault_of_ours(server: Running, operation: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        reply = case.call(base_url=server.url, headers=bearer)
        case.validate_response(reply, checks=[not_a_server_error])

    bearer = {"Authorization": f"Bearer {server.services.token}"}
    ask()
    with server.owner() as api:
        assert api.get("/readyz").status_code == 200
