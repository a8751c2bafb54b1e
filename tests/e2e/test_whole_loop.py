"""From ``optimizer.step()`` to a live page, an alert, and a link for a teammate; and through a server restart."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .harness import Server, Trainer, Watched, last_step, until, wait_for_step

StartTrainer = Callable[[Server, str], Trainer]
Watch = Callable[..., Watched]

FLOAT32 = 2e-6
"""Relative: norms travel as float32."""


def test_a_live_run_appears_and_moves(server: Server, owner: Watched, training: Trainer) -> None:
    runs = owner.open("/")
    runs.locator(f"tr[data-run='{training.run_id}'] .run-name").click()
    runs.wait_for_selector("body[data-last-step]", state="attached")
    seen = last_step(runs)
    wait_for_step(runs, seen + 10)
    expect(runs.locator("#run-name")).to_have_text(training.name)
    shown = values(server, f"/runs/{training.run_id}", "global_grad_norm", "run", start=seen)
    own = {step["step"]: step["norm"] for step in training.steps()}
    assert len(shown["steps"]) > 10
    for step, value in zip(shown["steps"], shown["values"], strict=True):
        assert value[0] == pytest.approx(own[int(step)], rel=FLOAT32)


def test_an_alert_from_the_form_fires_and_clears_everywhere(
    server: Server, owner: Watched, training: Trainer
) -> None:
    owner.allow("status of 422")
    on_run = owner.open(f"/runs/{training.run_id}")
    rules = owner.open("/rules")
    rules.get_by_role("button", name="New rule").click()
    form = rules.get_by_role("dialog")
    form.get_by_label("Statistic").fill("loss")
    form.get_by_label("Threshold").fill("abc")
    expect(form.locator("[data-field=threshold] .error")).not_to_be_empty()
    form.get_by_label("Threshold").fill("40")
    form.get_by_label("Try it on").select_option(training.run_id)
    expect(form.locator(".backtest")).to_contain_text("Would not have fired in this run")
    form.get_by_label("Clears after").or_(form.locator("summary")).first.click()
    form.get_by_label("Clears after").fill("3")
    form.get_by_role("button", name="Make rule").click()
    expect(rules.locator(".rule", has_text="loss is above 40")).to_be_visible()

    alert = on_run.locator("#alerts .alert", has_text="loss is above 40")
    expect(alert).to_have_count(0)
    training.tell("scale 100")
    expect(alert).to_have_attribute("data-state", "open")
    expect(rules.locator(".nav .count")).to_be_visible()
    on_alerts = owner.open("/alerts")
    listed = on_alerts.locator(".alert", has_text="loss is above 40")
    expect(listed).to_have_attribute("data-state", "open")
    training.tell("scale 1")
    expect(alert).to_have_attribute("data-state", "cleared")
    expect(listed).to_have_count(0)

    fired = next(
        a for a in server.get("/alerts")["alerts"] if a["statistic"] == "loss" and a["threshold"] == 40
    )
    losses = {step["step"]: step["loss"] for step in training.steps()}
    first = min(step for step, loss in losses.items() if loss > 40)
    assert fired["opened_step"] == first, "it opened at the very step that was too high"


def test_a_shared_link_is_read_only(
    server: Server, owner: Watched, watched: Watch, training: Trainer
) -> None:
    mine = owner.open(f"/runs/{training.run_id}")
    mine.get_by_role("button", name="Share").click()
    dialog = mine.get_by_role("dialog")
    dialog.get_by_role("button", name="Make link").click()
    expect(dialog.locator(".share-made")).to_contain_text("Only this computer can open this link.")
    link = dialog.get_by_label("The link", exact=True).input_value()

    viewer = watched(server)
    page = viewer.open(link)
    page.wait_for_selector("body[data-last-step]", state="attached")
    wait_for_step(page, last_step(page) + 5)
    expect(page.get_by_text("shared view, read-only")).to_be_visible()
    for control in ("Share", "+ alert", "Mark as seen"):
        expect(page.get_by_role("button", name=control)).to_have_count(0)
    expect(page.get_by_role("link", name="Rules")).to_have_count(0)
    check_refusals(viewer, page, link, training)

    until(
        lambda: server.get(f"/shares?run={training.run_id}")["shares"][0]["views"] >= 1,
        "the view to be counted",
    )
    viewer.allow("status of 4(10|04)")
    dialog.get_by_role("button", name="Withdraw").first.click()
    expect(page.locator("#connection")).to_contain_text("withdrawn")
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("ended"))


def check_refusals(viewer: Watched, page: Page, link: str, training: Trainer) -> None:
    """What the link's holder tries with the browser's own means."""
    token = link.rsplit("/", 1)[1].split("?")[0]
    api, run = f"{viewer.server.url}/api/v1", f"/runs/{training.run_id}"
    ask = viewer.context.request
    headers = {"X-Gradwatch-Share": token}
    assert ask.get(api + run, headers=headers).status == 200
    assert ask.get(api + run).status == 401, "the link gives no cookie"
    shown = ask.get(api + run, headers=headers).json()["run"]
    assert shown["context"] == {} and shown["error"] is None
    for path in ("/rules", "/shares", f"/alerts?run={training.run_id}x", "/runs/other"):
        assert ask.get(api + path, headers=headers).status in (403, 404), path
    refused = {
        ask.patch(api + run, headers=headers, data={"name": "mine now"}).status,
        ask.delete(api + run, headers=headers).status,
        ask.post(f"{api}/rules", headers=headers, data={"statistic": "loss"}).status,
        ask.post(f"{api}/shares", headers=headers, data={"run": training.run_id}).status,
    }
    assert refused == {403}
    for path in ("/", "/rules", "/settings", run):
        assert ask.get(viewer.server.url + path).status == 401, path
    answers = page.evaluate(SOCKET_SCRIPT, [token, training.run_id])
    assert [answer["type"] for answer in answers] == ["welcome", "error"], answers
    assert viewer.server.get(run)["run"]["name"] == training.name


SOCKET_SCRIPT = """([share]) => new Promise((resolve) => {
  const heard = [];
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws/live");
  socket.onopen = () => socket.send(JSON.stringify({ type: "hello", share }));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "event") return;
    heard.push(message);
    if (message.type === "welcome") {
      const question = { statistic: "grad_norm", scope: "tensor", rows: null, from: 0, to: null, points: 10, segment: null };
      socket.send(JSON.stringify({ type: "subscribe", id: 1, run: "another-run", ...question }));
    } else { socket.close(); resolve(heard); }
  };
})"""


def test_a_restart_in_the_middle_leaves_no_gap(
    own_server: Server, watched: Watch, train: StartTrainer
) -> None:
    browser = watched(own_server)
    browser.allow(
        "ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|WebSocket connection to|ERR_EMPTY_RESPONSE|status of 401"
    )
    trainer = train(own_server, "interrupted")
    page = browser.sign_in(f"/runs/{trainer.run_id}")
    wait_for_step(page, 10)
    own_server.kill()
    before = len(trainer.steps())
    expect(page.locator("#connection")).to_contain_text("connection lost")
    until(lambda: len(trainer.steps()) > before + 10, "training to go on without the server")
    own_server.start()
    expect(page.locator("#connection")).to_be_hidden()
    wait_for_step(page, before + 20)
    trainer.finish()
    expect(page.locator(".run-age")).to_have_text("finished")
    compare_stored(own_server, trainer)
    last = trainer.steps()[-1]["step"]
    wait_for_step(page, last)
    assert last_step(page) == last


def compare_stored(server: Server, trainer: Trainer) -> None:
    """Every step is stored once, with the values that the trainer computed itself."""
    own = trainer.steps()
    run = f"/runs/{trainer.run_id}"
    names = [tensor["name"] for tensor in server.get(f"{run}/tensors")["tensors"]]
    assert sorted(names) == sorted(own[0]["norms"])
    assert server.get(run)["run"]["lost_frames"] == 0
    stored = values(server, run, "grad_norm", "tensor")
    assert [int(step) for step in stored["steps"]] == [step["step"] for step in own]
    for row, step in zip(stored["values"], own, strict=True):
        assert row == pytest.approx([step["norms"][name] for name in names], rel=FLOAT32)
    losses = values(server, run, "loss", "run")
    assert [int(step) for step in losses["steps"]] == [step["step"] for step in own]
    assert [row[0] for row in losses["values"]] == pytest.approx([step["loss"] for step in own], rel=1e-12)


def values(server: Server, run: str, statistic: str, scope: str, start: int = 0) -> Any:
    """The stored values of a statistic from step ``start`` on."""
    return server.get(f"{run}/values?statistic={statistic}&scope={scope}&from={start}&limit=100000")
