"""Our pages, and a hostile page of a drive, in a real browser."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hyperfs.keys import parse_key
from hyperfs.web.sites import Site, Tokens

from ..support.commands import Hyperfs, hyperfs_in

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8"/></svg>'
HOSTILE = """<!doctype html><title>waiting</title><script>
const tries = {
  own: () => fetch("/picture.svg"),
  list: () => fetch("HOME/status.json", {credentials: "include"}),
  post: () => fetch("HOME/open", {method: "POST", credentials: "include"}),
  blind: () => fetch("HOME/status.json", {credentials: "include", mode: "no-cors"}),
  other: () => fetch("OTHER/", {credentials: "include"}),
  world: () => fetch("http://127.0.0.1:9/"),
  worker: () => navigator.serviceWorker.register("/worker.js").then(() => ({ok: true})),
  cookie: () => Promise.resolve({ok: document.cookie !== ""}),
};
const found = Object.entries(tries).map(async ([name, attempt]) => {
  try { return [name, (await attempt()).ok]; } catch (error) { return [name, "refused"]; }
});
Promise.all(found).then((results) => { document.title = JSON.stringify(Object.fromEntries(results)); });
</script>"""


@dataclass
class Shown:
    """What a page was once its scripts had run, and what the browser complained of."""

    page: str
    complaints: list[str]

    @property
    def title(self) -> str:
        found = re.search("<title>(.*?)</title>", self.page, re.DOTALL)
        return found[1] if found else ""


@dataclass
class Browser:
    program: str
    profile: Path
    tokens: Tokens
    home: Site
    drive: Site

    def show(self, site: Site, path: str) -> Shown:
        """Open a page with what opens its site, as a link from the list does."""
        url = f"{site.origin}{path}{'&' if '?' in path else '?'}token={self.tokens.of(site)}"
        command = [self.program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += [f"--user-data-dir={self.profile}", "--no-first-run", "--disable-background-networking"]
        command += ["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        return Shown(done.stdout, re.findall(r"CONSOLE:\d+\] (.*)", done.stderr))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program is not None, f"none of {', '.join(BROWSERS)} is installed"
    path = tmp_path_factory.mktemp("browser")
    with hyperfs_in(path) as hyperfs:
        source = path / "source"
        source.mkdir()
        other = hyperfs("create").strip()
        with web(hyperfs) as address:
            home = Site(port=f":{urlsplit(address).port}")
            elsewhere = Site(parse_key(other), port=home.port)
            (source / "picture.svg").write_text(PICTURE)
            (source / "hostile.html").write_text(
                HOSTILE.replace("HOME", home.origin).replace("OTHER", elsewhere.origin)
            )
            (source / "worker.js").touch()
            key = hyperfs("import", source).strip()
            tokens = Tokens((hyperfs.store / ".hyperfs/web.secret").read_bytes())
            yield Browser(program, path / "profile", tokens, home, Site(parse_key(key), port=home.port))


@contextmanager
def web(hyperfs: Hyperfs) -> Iterator[str]:
    with hyperfs.start("web", "--web-port", "0") as process:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_the_list_stays_up_to_date_by_itself(browser: Browser) -> None:
    shown = browser.show(browser.home, "/")
    assert shown.complaints == []
    assert 'data-charts=""' in shown.page
    assert "hidden" not in shown.page.partition("data-charts")[2].partition(">")[0]
    assert '<output data-rate="down">0 B/s</output>' in shown.page


@pytest.mark.parametrize("path", ["/", "/picture.svg?page", "/none"])
def test_our_pages_break_none_of_their_own_rules(browser: Browser, path: str) -> None:
    shown = browser.show(browser.drive, path)
    assert "hyperfs</title>" in shown.page
    assert [each for each in shown.complaints if "404" not in each] == []


def test_a_hostile_page_reaches_its_own_drive_alone(browser: Browser) -> None:
    browser.show(browser.home, "/")  # so that the browser has what opens the list
    shown = browser.show(browser.drive, "/hostile.html")
    assert json.loads(shown.title) == {
        "own": True,
        "list": "refused",
        "post": "refused",
        "blind": "refused",
        "other": "refused",
        "world": "refused",
        "worker": "refused",
        "cookie": False,
    }
