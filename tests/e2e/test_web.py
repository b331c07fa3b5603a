"""``hyperfs web``: drives in a browser, as a browser asks for them."""

import http.client
import io
import json
import signal
import socket
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from hyperfs.web.sites import Site

from ..support.commands import Hyperfs, hyperfs_in

FILM = bytes(range(256)) * 65536
ODD = 'ü "odd"?#%41&<b>.txt'


@dataclass
class Answer:
    """What came: with headers by their names in lower case."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Browser:
    """Asks as a browser does: every name below localhost is this machine, and each host gets its own cookies only."""

    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, url: str, method: str = "GET", *, follow: bool = True, **headers: str) -> Answer:
        parts = urlsplit(url)
        fields = {"Host": parts.netloc} | {name.replace("_", "-"): value for name, value in headers.items()}
        if parts.netloc in self.cookies:
            fields.setdefault("Cookie", self.cookies[parts.netloc])
        connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
        try:
            connection.putrequest(method, parts.path + (f"?{parts.query}" if parts.query else ""), skip_host=True)
            for name, value in fields.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        if "set-cookie" in found:
            self.cookies[parts.netloc] = found["set-cookie"].partition(";")[0]
        if follow and response.status in (303, 308):
            target = found["location"]
            origin = f"http://{parts.netloc}"
            return self.get(target if "://" in target else origin + target, method, **headers)
        return Answer(url, response.status, found, body)


@dataclass
class Web:
    hyperfs: Hyperfs
    address: str
    key: str
    browser: Browser

    @property
    def home(self) -> str:
        return "http://" + urlsplit(self.address).netloc

    def site(self, version: int | None = None) -> str:
        """Return the origin of the drive, after the browser was let in there."""
        version_text = "" if version is None else f"+{version}"
        answer = self.browser.get(f"{self.home}/open?drive={self.key}{version_text}".replace("+", "%2B"))
        assert answer.status == 200
        return f"http://{urlsplit(answer.url).netloc}"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    path = tmp_path_factory.mktemp("web")
    source = path / "source"
    (source / "sub" / "deep").mkdir(parents=True)
    (source / "film.mp4").write_bytes(FILM)
    (source / ODD).write_text("odd")
    (source / "Makefile").write_text("all:\n")
    (source / "page.html").write_text("<script>alert(1)</script>")
    (source / "sub" / "deep" / "a.txt").write_text("deep")
    (source / "empty").touch()
    (source / "link").symlink_to("sub/deep/a.txt")
    with hyperfs_in(path) as hyperfs:
        key = hyperfs("import", source).strip()
        with hyperfs.start("web", "--web-port", "0") as process:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            browser = Browser()
            assert browser.get(address).status == 200
            yield Web(hyperfs, address, key, browser)
            with stuck(Web(hyperfs, address, key, browser)):
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 0


@contextmanager
def stuck(web: Web) -> Iterator[None]:
    """Have somebody ask for a film and take nothing of it: the server ends all the same."""
    site = urlsplit(web.site())
    with socket.create_connection(("127.0.0.1", site.port or 0)) as connection:
        request = f"GET /film.mp4 HTTP/1.1\r\nHost: {site.netloc}\r\nCookie: {web.browser.cookies[site.netloc]}\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.recv(8) == b"HTTP/1.1"
        yield


def test_the_list_names_each_drive_and_leads_to_it(web: Web) -> None:
    web.hyperfs("name", web.key, "films")
    text = web.browser.get(web.home + "/").text
    assert ">films</a>" in text
    assert f"/open?drive={web.key}" in text
    folder = web.browser.get(f"{web.home}/open?drive=films")
    assert folder.status == 200
    assert folder.url == f"{web.site()}/"
    assert 'href="./film.mp4?page">film.mp4</a>' in folder.text


def test_the_state_is_told_to_the_page(web: Web) -> None:
    answer = web.browser.get(f"{web.home}/status.json")
    assert answer.headers["cache-control"] == "no-store"
    told = json.loads(answer.text)
    assert [drive["key"] for drive in told["listed"]] == [web.key]
    assert told["peers"] == []


def test_nobody_is_let_in_without_the_token(web: Web) -> None:
    site = web.site()
    stranger = Browser()
    for url in (web.home + "/", f"{web.home}/status.json", f"{web.home}/open?drive={web.key}", f"{site}/film.mp4"):
        for wrong in ("", "?token=" + "0" * 32):
            answer = stranger.get(url + wrong, follow=False)
            assert answer.status == 403
            assert web.key not in answer.text
    assert stranger.get(f"{web.home}/assets/style.css").status == 200


def test_the_token_of_a_drive_opens_nothing_else(web: Web) -> None:
    site = web.site()
    of_drive = web.browser.cookies[urlsplit(site).netloc]
    token = of_drive.partition("=")[2]
    stranger = Browser()
    assert stranger.get(f"{site}/film.mp4", Authorization=f"Bearer {token}").body == FILM
    assert stranger.get(f"{web.home}/status.json", Cookie=of_drive).status == 403
    other = Site(bytes(32), port=f":{urlsplit(web.home).port}").origin
    assert stranger.get(f"{other}/", Cookie=of_drive).status == 403


@pytest.mark.parametrize("host", ["example.com", "evil.localhost:{port}", "localhost.example.com:{port}"])
def test_another_host_name_gets_no_answer(web: Web, host: str) -> None:
    port = urlsplit(web.home).port
    cookie = web.browser.cookies[urlsplit(web.home).netloc]
    answer = Browser().get(f"{web.home}/status.json", Host=host.format(port=port), Cookie=cookie)
    assert answer.status == 421


def test_another_origin_changes_nothing_and_no_worker_stays(web: Web) -> None:
    site = web.site()
    assert web.browser.get(f"{web.home}/open", "POST", Origin=site).status == 403
    assert web.browser.get(f"{web.home}/open", "POST").status == 403
    assert web.browser.get(f"{web.home}/open", "POST", Origin=web.home).status == 405
    assert web.browser.get(f"{site}/page.html", Service_Worker="script").status == 403


def test_our_pages_run_no_script_but_ours(web: Web) -> None:
    for url in (f"{web.home}/", f"{web.site()}/", f"{web.site()}/page.html?page", f"{web.site()}/none"):
        answer = web.browser.get(url)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert f"script-src {web.home};" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert "&lt;script&gt;alert(1)" in web.browser.get(f"{web.site()}/page.html?page").text


def test_a_page_of_a_drive_is_kept_to_its_drive(web: Web) -> None:
    answer = web.browser.get(f"{web.site()}/page.html")
    assert answer.body == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]


def test_a_file_comes_whole_and_in_parts(web: Web) -> None:
    url = f"{web.site()}/film.mp4"
    whole = web.browser.get(url)
    assert (whole.status, whole.body) == (200, FILM)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    head = web.browser.get(url, "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(FILM)))
    part = web.browser.get(url, Range="bytes=1000-200000")
    assert (part.status, part.body) == (206, FILM[1000:200001])
    assert part.headers["content-range"] == f"bytes 1000-200000/{len(FILM)}"
    beyond = web.browser.get(url, Range=f"bytes={len(FILM)}-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(FILM)}")
    several = web.browser.get(url, Range="bytes=0-1,4-5")
    assert (several.status, several.body) == (200, FILM)
    empty = web.browser.get(f"{web.site()}/empty")
    assert (empty.status, empty.body, empty.headers["content-length"]) == (200, b"", "0")


def test_what_the_browser_has_is_not_sent_again(web: Web) -> None:
    url = f"{web.site()}/film.mp4"
    first = web.browser.get(url, "HEAD")
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    for condition in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = web.browser.get(url, If_None_Match=condition)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    assert web.browser.get(url, If_Modified_Since=modified).status == 304
    assert web.browser.get(url, If_None_Match='"other"', If_Modified_Since=modified).status == 200
    assert web.browser.get(url, If_Modified_Since="yesterday").status == 200
    assert web.browser.get(url, Range="bytes=0-1", If_Range=etag).status == 206
    assert web.browser.get(url, Range="bytes=0-1", If_Range=modified).status == 206
    assert web.browser.get(url, Range="bytes=0-1", If_Range='"other"').status == 200
    assert web.browser.get(f"{web.site()}/Makefile", "HEAD").headers["etag"] != etag


def test_odd_names_and_names_that_say_nothing(web: Web) -> None:
    folder = web.browser.get(f"{web.site()}/").text
    assert 'href="./%C3%BC%20%22odd%22%3F%23%2541%26%3Cb%3E.txt?page"' in folder
    assert "&lt;b&gt;" in folder
    assert "<b>" not in folder
    assert web.browser.get(f"{web.site()}/%C3%BC%20%22odd%22%3F%23%2541%26%3Cb%3E.txt").body == b"odd"
    assert web.browser.get(f"{web.site()}/Makefile").headers["content-type"] == "text/plain; charset=utf-8"
    kept = web.browser.get(f"{web.site()}/film.mp4?download")
    assert kept.headers["content-disposition"] == "attachment; filename*=UTF-8''film.mp4"


def test_a_folder_has_a_slash_and_a_link_leads_on(web: Web) -> None:
    moved = web.browser.get(f"{web.site()}/sub?sort=size", follow=False)
    assert (moved.status, moved.headers["location"]) == (308, "/sub/?sort=size")
    assert 'href="./deep/">deep</a>' in web.browser.get(f"{web.site()}/sub").text
    back = web.browser.get(f"{web.site()}/film.mp4/", follow=False)
    assert (back.status, back.headers["location"]) == (308, "/film.mp4")
    assert web.browser.get(f"{web.site()}/link").body == b"deep"


def test_a_folder_is_sorted_and_filtered_without_a_script(web: Web) -> None:
    def names(query: str) -> list[str]:
        text = web.browser.get(f"{web.site()}/?{query}").text
        return [each.partition("<")[0].partition(">")[2] for each in text.split('<td class="name"><a')[1:]]

    assert names("")[:2] == ["sub", "empty"]
    assert names("sort=size&down")[:3] == ["sub", "film.mp4", "page.html"]
    assert names("filter=FILM") == ["film.mp4"]
    assert names("filter=nothing") == []
    assert len(names("part=99&sort=nonsense")) == 7


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_folder_comes_as_one_file(web: Web, kind: str) -> None:
    answer = web.browser.get(f"{web.site()}/?{kind}")
    assert answer.headers["content-disposition"].endswith(f".{kind}")
    if kind == "tar":
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
            names = archive.getnames()
            film = archive.extractfile("film.mp4")
            assert film is not None
            assert film.read() == FILM
            assert archive.getmember("link").linkname == "sub/deep/a.txt"
    else:
        with zipfile.ZipFile(io.BytesIO(answer.body)) as packed:
            assert packed.testzip() is None
            names = [name.rstrip("/") for name in packed.namelist()]
            assert packed.read("film.mp4") == FILM
    assert set(names) == {
        "film.mp4",
        ODD,
        "Makefile",
        "page.html",
        "sub",
        "sub/deep",
        "sub/deep/a.txt",
        "empty",
        "link",
    }
    only = web.browser.get(f"{web.site()}/sub/?{kind}")
    assert f"filename*=UTF-8''sub.{kind}" in only.headers["content-disposition"]
    assert b"sub/deep/a.txt" in only.body


def test_the_past_has_sites_of_its_own(web: Web) -> None:
    newest = json.loads(web.browser.get(f"{web.home}/status.json").text)["listed"][0]["version"]
    old = web.site(2)
    assert urlsplit(old).hostname == f"2.{urlsplit(web.site()).hostname}"
    assert web.browser.get(f"{old}/film.mp4").status in (200, 404)
    assert f'max="{newest}" value="2"' in web.browser.get(f"{old}/").text
    there = web.browser.get(f"{old}/?go=3")
    assert urlsplit(there.url).hostname == f"3.{urlsplit(web.site()).hostname}"
    assert web.browser.get(f"{old}/?go=").url == f"{web.site()}/"
    log = web.browser.get(f"{web.site()}/?versions").text
    assert f'<a href="/?go={newest}">{newest}</a>' in log
    assert web.browser.get(f"{web.site()}/?go=x").status == 404
    assert "has no version 99" in web.browser.get(f"{web.site()}/?go=99").text


def test_what_is_wrong_is_said(web: Web) -> None:
    missing = web.browser.get(f"{web.site()}/no/such")
    assert missing.status == 404
    assert "no such file or directory" in missing.text
    assert web.browser.get(f"{web.home}/open?drive=nonsense!").status == 404
    assert web.browser.get(f"{web.home}/nonsense").status == 404
    nowhere = web.browser.get(f"{web.home}/open?drive={'0' * 63}1")
    assert nowhere.status == 504
    assert "no peer of it is known" in nowhere.text


def test_a_port_that_is_taken_is_said(web: Web) -> None:
    assert "choose another --web-port" in web.hyperfs.fails("web", "--web-port", str(urlsplit(web.home).port), status=2)
