"""Pages and static files: prefixes, caching, compression, help, and names that try to break out."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import brotli
import numpy as np
from tests.server.live_server import PATIENCE, Running, Trainer, batch, hello, schema, serving

from gradwatch_server.assets import find
from gradwatch_server.store.health_queries import HealthRow, save_health, save_incidents
from gradwatch_server.web.help import help_pages


def boot_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="boot">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def links_of(html: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"#]+)"', html)


def test_the_run_page_holds_the_run(server: Running) -> None:
    name = '</script><img src=x onerror="alert(1)">'
    with Trainer(server, hello(name=name)) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
    headers, token = server.browser()
    with server.client(**headers) as browser:
        reply = browser.get("/runs/run-1")
    assert reply.status_code == 200
    boot = boot_of(reply.text)
    assert boot["run"]["name"] == name
    assert (boot["role"], boot["page"], boot["base"], boot["share"]) == ("owner", token, "", "")
    assert boot["public"] == {"url": "", "local": True}
    assert "<img src=x" not in reply.text


def test_everything_a_page_links_to_is_there_and_cached_for_ever(server: Running) -> None:
    headers, _ = server.browser()
    with server.client(**headers) as browser:
        for path in ("/", "/rules", "/alerts", "/settings"):
            for link in links_of(browser.get(path).text):
                reply = browser.get(link, follow_redirects=True)
                assert reply.status_code == 200, (path, link)
                if link.startswith("/static/"):
                    assert "immutable" in reply.headers["cache-control"], link


def test_every_module_imports_only_files_that_are_there() -> None:
    static = find("static")
    for path in static.rglob("*.js"):
        for target in re.findall(r'from "(\.[^"]+)"', path.read_text()):
            assert (path.parent / target).resolve().is_file(), (path, target)


def test_plotly_comes_compressed_from_the_installed_package(server: Running) -> None:
    version = server.services.assets.plotly_version
    with server.client(**{"Accept-Encoding": "br, gzip"}) as anybody:
        with anybody.stream("GET", f"/static/plotly-{version}.min.js") as reply:
            raw = b"".join(reply.iter_raw())
            assert reply.headers["content-encoding"] == "br"
            assert "immutable" in reply.headers["cache-control"]
        assert brotli.decompress(raw) == server.services.assets.plotly().body
        assert len(raw) < 1_600_000
        assert anybody.get("/static/plotly-0.0.0.min.js").status_code == 404


def test_static_files_stay_in_their_folder(server: Running) -> None:
    with server.client() as anybody:
        for path in ("../app.py", "%2e%2e/README.md", "js/../../pyproject.toml", "/etc/passwd", "js", "."):
            reply = anybody.get(f"/static/x/{path}")
            assert reply.status_code == 404, path
        old = anybody.get("/static/0000000000/css/tokens.css")
        assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")


def test_behind_a_prefix_that_the_proxy_strips(server: Running) -> None:
    headers, _ = server.browser()
    with server.client(**headers, **{"X-Forwarded-Prefix": "/team/watch"}) as browser:
        html = browser.get("/").text
        assert boot_of(html)["base"] == "/team/watch"
        assert all(link.startswith(("/team/watch/", "#", "http")) for link in links_of(html))
    for evil in ("//evil.example", '/a"><script>', "javascript:x", "/..//x"):
        with server.client(**headers, **{"X-Forwarded-Prefix": evil}) as browser:
            assert boot_of(browser.get("/").text)["base"] == ""


def test_behind_a_prefix_that_the_proxy_leaves(tmp_path: Path) -> None:
    with serving(tmp_path, root_path="/watch") as server:
        headers, _ = server.browser()
        with server.client(**headers) as browser:
            html = browser.get("/watch/").text
            assert boot_of(html)["base"] == "/watch"
            for link in links_of(html):
                if link.startswith("/watch/static/"):
                    assert browser.get(link).status_code == 200, link
            assert browser.get("/watch/api/v1/runs").status_code == 200
            assert browser.get("/watch/api/v1/runs/none").json()["error"]["code"] == "not_found"
        with Trainer(server, hello()) as trainer:
            assert trainer.welcome.run_url == f"{server.url}/watch/runs/run-1"


def test_the_public_address_goes_into_links(tmp_path: Path) -> None:
    with (
        serving(tmp_path, public_url="https://watch.example/x/") as server,
        Trainer(server, hello()) as trainer,
    ):
        assert trainer.welcome.run_url == "https://watch.example/x/runs/run-1"
        headers, _ = server.browser()
        with server.client(**headers, Origin="https://watch.example") as browser:
            assert browser.post("/api/v1/shares", json={"run": "run-1"}).status_code == 403
            page = boot_of(browser.get("/").text)["page"]
            made = browser.post("/api/v1/shares", json={"run": "run-1"}, headers={"X-Gradwatch-Page": page})
            assert made.status_code == 201
            assert made.json()["url"].startswith("https://watch.example/x/s/")


def test_what_is_not_there_is_a_page_for_people_and_json_for_scripts(server: Running) -> None:
    headers, _ = server.browser()
    with server.client(**headers) as browser:
        for path in ("/nothing", "/runs/none", "/help/none"):
            page = browser.get(path)
            assert page.status_code == 404
            assert page.headers["content-type"].startswith("text/html")
        assert browser.post("/rules").status_code == 405
        assert browser.get("/api/v1/none").json()["error"]["code"] == "not_found"


def test_a_mistake_of_ours_shows_nothing_of_itself(server: Running) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a path like /root/secret")

    server.services.store.page = broken  # type: ignore[method-assign, assignment]
    with server.owner() as api:
        reply = api.get("/api/v1/runs")
    assert reply.status_code == 500
    assert reply.json()["error"]["message"] == "The server made a mistake; its log says which."


def metrics(server: Running) -> dict[str, float]:
    """Every sample by its name and labels, as a scraper would read them."""
    with server.owner() as api:
        reply = api.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {}
    for line in reply.text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or re.fullmatch(r"[a-z_]+(\{.*\})? [-+.\w]+", line), (
            line
        )
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            samples[name] = float(value)
    return samples


def test_metrics_tell_of_traffic_in_prometheus_format(server: Running) -> None:
    label = '{run="we\\"ird\\nrun",project="tests"}'
    assert metrics(server)["gradwatch_trainers"] == 0
    with Trainer(server, hello('we"ird\nrun')) as trainer:
        trainer.send(schema())
        trainer.send(batch(1, range(30), np.ones((30, 3))))
        trainer.wait_acked(2)
        found = metrics(server)
        deadline = time.monotonic() + PATIENCE
        while found["gradwatch_writes_waiting"] and time.monotonic() < deadline:  # of the health engine
            found = metrics(server)
    assert found["gradwatch_trainers"] == 1 and found["gradwatch_viewers"] == 0
    assert found["gradwatch_ingest_frames_total"] == 30
    assert found["gradwatch_ingest_messages_total"] >= 3 and found["gradwatch_ingest_bytes_total"] > 1000
    assert found["gradwatch_uncommitted_bytes"] == found["gradwatch_writes_waiting"] == 0
    assert found["gradwatch_compaction_waiting_bytes"] > 0 and found["gradwatch_database_bytes"] > 0
    for name in ("ack", "commit"):
        assert (
            found[f"gradwatch_{name}_seconds_count"]
            == found[f'gradwatch_{name}_seconds_bucket{{le="+Inf"}}']
            > 0
        )
    assert found[f"gradwatch_run_last_step{label}"] == 29
    assert found[f"gradwatch_run_stored_bytes{label}"] > 0
    assert found[f"gradwatch_run_health{label}"] in (-1, 0)


def test_metrics_count_incidents_and_judge_runs(server: Running) -> None:
    store = server.services.store
    plain = {"id": "i", "kind": "exploding", "severity": "critical", "first_step": 1, "opened_step": 1}
    plain |= {"opened_time": 1.0, "closed_step": None, "merged_into": ""}
    row = HealthRow(run_id="run-1", segment=0, summary={"state": "critical"}, fed={}, state=b"")
    with Trainer(server, hello()) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
        store.database.write(lambda conn: save_incidents(conn, "run-1", [plain])).result(PATIENCE)
        store.database.write(lambda conn: save_health(conn, row)).result(PATIENCE)
        found = metrics(server)
    assert found['gradwatch_open_incidents{severity="critical"}'] == 1
    assert found['gradwatch_open_incidents{severity="warning"}'] == 0
    assert found['gradwatch_run_health{run="run-1",project="tests"}'] == 3


def test_only_runs_that_are_being_sent_have_metrics_of_their_own(server: Running) -> None:
    server.services.store.open_stream(hello("silent"), now=1.0).result(PATIENCE)
    with Trainer(server, hello("loud")) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
        labels = {name for name in metrics(server) if "run=" in name}
    assert labels and all('run="loud"' in name for name in labels)


def test_help_pages_render_without_raw_html(server: Running) -> None:
    headers, _ = server.browser()
    with server.client(**headers) as browser:
        assert "<article" in browser.get("/help").text
        for page in help_pages():
            reply = browser.get(f"/help/{page.slug}")
            assert reply.status_code == 200, page.slug
            assert "<h1" in reply.text, page.slug
