"""Servers, trainers and browsers for the tests of this folder. On failure: screenshots and the server's log."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, expect, sync_playwright

from .harness import CHROMIUM_ARGS, WAIT_S, Server, Trainer, Watched

LOG_TAIL = 4000
HEARD_LINES = 80
SCREENSHOT_MS = 10_000

expect.set_options(timeout=WAIT_S * 1000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is an end-to-end test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what the browser showed and what the server said to a failed test's report."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for value in item.funcargs.values():
            if isinstance(value, Browsers):
                for number, browser in enumerate(value.made):
                    report.sections += _told(browser, f"{item.name}-{number}")
            if isinstance(value, Trainer):
                report.sections.append(("trainer log", value.log.read_text()[-LOG_TAIL:]))
            if isinstance(value, Server) and value.log.exists():
                report.sections.append(("server log", value.log.read_text()[-LOG_TAIL:]))
    return report


def _told(browser: Watched, name: str) -> Iterator[tuple[str, str]]:
    """What went wrong in the pages of a browser, and how each looks now."""
    if browser.heard:
        yield "pages and network", "\n".join(browser.heard[-HEARD_LINES:])
    for number, page in enumerate(browser.context.pages):
        path = browser.server.folder / f"{name}-{number}.png"
        try:
            page.screenshot(path=path, timeout=SCREENSHOT_MS)
            state = page.evaluate("JSON.stringify(document.body.dataset)")
        except Error as error:
            yield "page", f"{page.url} shows nothing: {error}"
        else:
            yield "page", f"{page.url} {state}: {path}"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """Unlike elsewhere: the browser's driver keeps threads from its first use to the end of the session."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_ARGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that leave it running."""
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def training(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """A run on the common server that trains all the while. Tests leave its scale at 1."""
    trainer = Trainer(server, "steady", tmp_path_factory.mktemp("steady"))
    yield trainer
    trainer.finish()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may stop and start."""
    running = Server(tmp_path / "server")
    running.folder.mkdir()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[[Server, str], Trainer]]:
    """Starts trainers, and ends them after the test."""
    started: list[Trainer] = []

    def start(server: Server, name: str) -> Trainer:
        started.append(Trainer(server, name, tmp_path))
        return started[-1]

    yield start
    for trainer in started:
        trainer.finish()


class Browsers:
    """Makes browser contexts, and keeps them in ``made``."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.made: list[Watched] = []

    def __call__(self, server: Server, *, phone: bool = False, theme: str = "light") -> Watched:
        size = {"width": 390, "height": 844} if phone else {"width": 1440, "height": 900}
        context = self._browser.new_context(viewport=size, color_scheme=theme)  # type: ignore[arg-type]
        self.made.append(Watched(context, server))
        return self.made[-1]


@pytest.fixture
def watched(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Makes browser contexts whose console must stay silent."""
    browsers = Browsers(browser)
    yield browsers
    unexpected = [text for each in browsers.made for text in each.unexpected()]
    for each in browsers.made:
        each.context.close()
    assert unexpected == []


@pytest.fixture
def owner(watched: Callable[..., Watched], server: Server) -> Watched:
    """The owner's browser on the common server, signed in."""
    made = watched(server)
    made.sign_in().close()
    return made
