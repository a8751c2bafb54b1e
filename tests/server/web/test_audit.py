"""What people change leaves a trace; what they look at, and what they send, doesn't."""

from __future__ import annotations

import time
from typing import Any

from tests.server.live_server import PATIENCE, Running, Trainer, hello, schema

from gradwatch_server.web.audit import AuditReply


def entries(server: Running, least: int) -> list[dict[str, Any]]:
    """The log, once it has that many entries: they are written after the answer."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with server.owner() as api:
            reply = api.get("/api/v1/audit")
        assert reply.status_code == 200
        found: list[dict[str, Any]] = reply.json()["entries"]
        if len(found) >= least or time.monotonic() > deadline:
            AuditReply.model_validate(reply.json())
            return found
        time.sleep(0.02)


def test_changes_leave_entries_with_who_and_what_but_no_bodies(server: Running) -> None:
    with Trainer(server, hello()) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
    headers, page = server.browser()
    with server.owner() as api:
        made = api.post("/api/v1/tokens", json={"name": "a secret name", "role": "member"}).json()
    with server.client(Authorization=f"Bearer {made['secret']}") as member:
        assert member.patch("/api/v1/runs/run-1", json={"notes": "a secret note"}).status_code == 200
        assert member.get("/api/v1/runs").status_code == 200
        assert member.patch("/api/v1/runs/none", json={"notes": "x"}).status_code == 404
        assert member.get("/api/v1/audit").status_code == 403
    with server.client(**headers, **{"X-Gradwatch-Page": page}) as browser:
        assert browser.delete("/api/v1/runs/run-1").status_code == 204
    found = entries(server, 3)
    assert [(entry["who"], entry["what"], entry["target"]) for entry in reversed(found)] == [
        ("server", "POST /api/v1/tokens", ""),
        (made["token"]["id"], "PATCH /api/v1/runs/{run_id}", "run-1"),
        ("server", "DELETE /api/v1/runs/{run_id}", "run-1"),
    ]
    assert all(entry["address"] == "127.0.0.1" for entry in found)
    assert "secret" not in str(found)
