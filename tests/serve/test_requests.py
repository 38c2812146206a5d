"""Requests that nobody who means well sends: each is refused in one line, and opens no file."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segadapt.core.limits import limit_pixels
from segadapt.errors import Stopped
from segadapt.serve import Access, Limits, Server
from tests.serve.making import ask, get, head, png, post, serving

_OPENED: list[str] | None = None


def _listen(event: str, arguments: Any) -> None:
    if _OPENED is not None and event in ("open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir"):
        _OPENED.append(str(arguments[0]))


sys.addaudithook(_listen)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(Limits(upload=1 << 16, head=0.8, body=0.8)) as server:
        assert post(server, png())[0] == 200  # libraries open files of their own when they are first used
        yield server


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths of all files that are opened, listed, moved or removed meanwhile."""
    global _OPENED
    _OPENED = []
    yield _OPENED
    _OPENED = None


def one_line(content: bytes) -> str:
    line = json.loads(content)["error"]
    assert line
    assert "\n" not in line
    return str(line)


PATHS = [
    *("/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/etc/passwd"),
    *("/page/serve.js", "/serve.js/", "/serve.js?x", "/./serve.js", "/serve.js%00.png", "/serve.js\0", "/\\..\\x"),
    *("/results/../../x.png", "/results/AAAAAAAAAAAAAAAAAAAAAA/image.jpg", "/results/A/labels.png", "/results/"),
    *("/results/AAAAAAAAAAAAAAAAAAAAAA/../x.png", "file:///etc/passwd", "http://127.0.0.1/serve.js", "serve.js", "*"),
    *("/café", "/" + "a" * 60_000, "/predict", "/archive", "/C:\\Windows\\win.ini", "/__init__.py", "/models.py"),
]


def test_no_path_of_a_request_is_opened(server: Server, opened: list[str]) -> None:
    for path in PATHS:
        status, _, content = get(server, path)
        assert status == 404, path[:40]
        one_line(content)
    assert get(server, "/")[0] == get(server, "/serve.js")[0] == 200  # from memory, too
    assert opened == []


def test_the_name_of_an_image_is_never_a_path(server: Server, opened: list[str]) -> None:
    """What is opened lies in the folder of the server, under names of its own."""
    folder = server._folder.name
    names = ("../../../evil", "/etc/evil", "%00evil", "%2e%2e%2fevil.png", "C:%5Cevil", "~evil", "CON", "%ff%fe", "")
    for name in names:
        assert post(server, png(), name=name)[0] == 200
    assert len(opened) >= len(names)
    assert {str(Path(path).parent) for path in opened if folder in path and path != folder} == {folder}
    assert not [path for path in opened if "evil" in path or "passwd" in path]
    assert list(Path(folder).iterdir()) == []


def test_other_names_of_this_machine_are_refused(server: Server) -> None:
    port = server.server_port
    wrong = ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "a@127.0.0.1", "127.0.0.1:x", " ", "")
    for host in wrong:
        status, _, content = get(server, "/", host=host)
        assert status == 403, host
        one_line(content)
    assert get(server, "/", "Host: evil.example")[0] == 403
    for host in ("localhost:9", "[::1]:1", "127.0.0.1", "LOCALHOST"):  # a port may be forwarded
        assert get(server, "/", host=host)[0] == 200


@pytest.mark.parametrize(
    "fields",
    [(), ("Origin: null",), ("Origin: http://evil.example",), ("Origin: https://{host}",), ("Origin: http://{host}/",)],
)
def test_other_sites_can_send_nothing(server: Server, fields: tuple[str, ...]) -> None:
    host = f"127.0.0.1:{server.server_port}"
    kept = len(server.store)
    request = head(server, "POST /predict", "Content-Length: 3", *(field.format(host=host) for field in fields))
    status, _, content = ask(server, request + b"abc")
    assert status == 403
    assert "Origin" in one_line(content)
    assert post(server, png(), "Sec-Fetch-Site: cross-site")[0] == 403
    assert post(server, png(), "Origin: http://evil.example")[0] == 403
    assert len(server.store) == kept


def length(value: str | None, content: bytes = b"abc", *more: str, end: bool = False) -> Any:
    def of(server: Server) -> tuple[int, str]:
        fields = [f"Origin: http://127.0.0.1:{server.server_port}", *more]
        request = head(server, "POST /predict", *fields, *([f"Content-Length: {value}"] if value is not None else []))
        status, _, answer = ask(server, request + content, end=end)
        return status, one_line(answer)

    return of


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (length(None), 411, "Content-Length"),
        (length("3", b"3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 411, "in one piece"),
        (length("-1"), 400, "no number"),
        (length("+3"), 400, "no number"),
        (length("3 000"), 400, "no number"),
        (length("٣"), 400, "no number"),
        (length("9" * 30), 400, "no number"),
        (length("3", b"abc", "Content-Length: 4"), 400, "no number"),
        (length("99999999999999"), 413, "65,536 are taken"),
        (length("65537", bytes(65537)), 413, "--max-mb"),
        (length("900000", bytes(900000)), 413, "--max-mb"),
        (length("9", b"abc", end=True), 400, "3 came"),
        (length("9"), 408, "too long"),
    ],
)
def test_lengths_are_looked_at_first(server: Server, request_: Any, status: int, words: str) -> None:
    assert (found := request_(server))[0] == status
    assert words in found[1]


def test_slow_heads_and_heads_without_end_are_cut_off(server: Server) -> None:
    started = time.monotonic()
    assert ask(server, b"GET / HTTP/1.1\r\nHost: 127.0.0.1")[0] == 0
    assert time.monotonic() - started < 3.5
    with socket.create_connection(("127.0.0.1", server.server_port), 5) as connection:  # a byte now and then
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 4:
                connection.sendall(b"G")
                time.sleep(0.05)
    assert time.monotonic() - started < 3.5
    assert ask(server, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n")[0] == 414
    assert get(server, "/", *(f"X-{n}: y" for n in range(200)))[0] == 431
    assert get(server, "/", "X-Long: " + "y" * 70_000)[0] == 431
    assert ask(server, b"nonsense\r\n\r\n")[0] == 400
    assert ask(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")[0] in (0, 400)  # https
    assert get(server, "/")[0] == 200


def test_other_methods_are_refused(server: Server) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"):
        status, headers, content = ask(server, head(server, f"{method} /", "Content-Length: 0"))
        assert (status, headers["Allow"]) == (405, "GET, HEAD, POST")
        one_line(content)
    assert ask(server, head(server, "BREW /"))[0] == 501
    assert post(server, b"", path="/")[0] == 405
    assert post(server, b"", path="/elsewhere")[0] == 404
    status, headers, content = ask(server, head(server, "HEAD /serve.js"))
    assert (status, content) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


def test_every_answer_says_that_nothing_comes_from_elsewhere(server: Server) -> None:
    answers = [get(server, "/"), get(server, "/x"), get(server, "/", host="evil.example"), ask(server, b"x\r\n\r\n")]
    for _, headers, _ in answers:
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "http" not in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Server"].strip() == "segadapt"


def damaged() -> bytes:
    content = bytearray(png())
    content[60] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"hello", "notes.txt is not an image"),
        ("a.png", b"", "a.png is empty"),
        ("a.png", png()[:-20], "a.png is cut off"),
        ("a.png", damaged(), "a.png is cut off, damaged"),
        ("clip.mp4", b"\0\0\0\x18ftypisom" + bytes(80), "clip.mp4 is a video"),
        ("big.png", png()[:16] + (60_000).to_bytes(4, "big") * 2 + png()[24:], "big.png "),
        ("scan.dcm", bytes(128) + b"DICM" + bytes(20), 'ReadImage("scan.dcm")'),
        ("a%24(x)%0A%1b[31m%3Cb%3E.dcm", bytes(128) + b"DICM" + bytes(20), r"a$(x) \x1b[31m<b>.dcm is"),
        ("art.svg", b"<svg/>", "art.svg is a kind of picture that is not read"),
        ("page.png", b"<!doctype html><p>", "page.png is a web page"),
    ],
)
def test_what_is_no_image_is_one_line(server: Server, name: str, content: bytes, words: str) -> None:
    status, answer = post(server, content, name=name)
    assert status == 422
    assert words in answer["error"]
    assert "\n" not in answer["error"]
    assert server._folder.name not in answer["error"]
    assert server.said[-1] == answer["error"]  # type: ignore[attr-defined]
    if "DICM" in str(content) and "x" in name:
        assert 'ReadImage("IMAGE")' in answer["error"]  # commands hold no name that a shell could take for one


def test_an_image_of_too_many_pixels_is_refused_by_its_head(server: Server) -> None:
    limit_pixels(48 * 32 - 1)
    try:
        status, answer = post(server, png(), name="large.png")
    finally:
        limit_pixels(None)
    assert status == 422
    assert answer["error"].startswith("large.png has 48 x 32 pixels")
    assert "--max-pixels" in answer["error"]


def until(places: Any, free: int) -> None:
    """Wait until so many places are free."""
    for _ in range(1000):
        if places._value == free:
            return
        time.sleep(0.005)
    raise AssertionError(f"{places._value} places are free, not {free}")


def test_who_cannot_wait_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Limits(waiting=2, connections=3)) as server:
        going, inside = threading.Event(), threading.Semaphore(0)
        together: list[int] = []
        real = server._predicted

        def slow(*given: Any) -> Any:
            together.append(1)
            inside.release()
            going.wait(5)
            assert len(together) == 1  # one image at a time
            together.pop()
            return real(*given)

        monkeypatch.setattr(server, "_predicted", slow)
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(post(server, png())[0])) for _ in range(2)]
        for thread in threads:
            thread.start()
        inside.acquire(timeout=5)
        until(server._waiting, 0)
        status, answer = post(server, png())
        assert (status, answer["error"]) == (503, "2 images wait already; try again in a second")
        until(server._connections, 1)
        with socket.create_connection(("127.0.0.1", server.server_port), 5):  # a third one that says nothing
            until(server._connections, 0)
            assert get(server, "/")[0] == 503
        going.set()
        for thread in threads:
            thread.join()
        assert found == [200, 200]


def test_what_fails_is_one_line_and_the_next_image_is_predicted(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(problem: Exception) -> Any:
        def failing(*_: Any) -> Any:
            raise problem

        return failing

    for problem, status, words in (
        (ValueError("a\nb"), 500, "ValueError: a b"),
        (RuntimeError("CUDA out of memory. Tried to allocate 3 GiB"), 507, "the memory is not enough"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("segadapt.serve.server.result_of", fail(problem))
            found, answer = post(server, png())
        assert found == status
        assert words in answer["error"]
    assert post(server, png())[0] == 200


def test_beyond_this_machine_an_address_needs_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried on the loopback, as if it was another interface."""
    monkeypatch.setattr("segadapt.serve.access.is_loopback", lambda host: False)
    with serving() as server:
        token = server.access.token
        assert len(token) >= 20
        assert server.address == f"http://127.0.0.1:{server.server_port}/{token}/"
        for path in ("/", "/serve.js", f"/{token[:-1]}x/", f"/{token}", "/results/"):
            assert get(server, path)[0] == 403
        assert get(server, f"/{token}/")[0] == get(server, f"/{token}/serve.js")[0] == 200
        assert post(server, png())[0] == 403
        assert post(server, png(), path=f"/{token}/predict")[0] == 200


def test_hosts_and_their_names() -> None:
    for host in ("127.0.0.1", "localhost", "127.3.2.1", "::1"):
        assert Access.to(host).root == "/"
    for host in ("0.0.0.0", "::", "192.168.0.7", "machine.local"):
        assert len(Access.to(host).root) > 20
    assert Access.to("0.0.0.0").token != Access.to("0.0.0.0").token
    own, everywhere = Access("192.168.0.7", "t"), Access("0.0.0.0", "t")
    assert own.wrong_host({"host": ["192.168.0.7:8000"]}) is None
    assert own.wrong_host({"host": ["192.168.0.8"]}) is not None
    assert everywhere.wrong_host({"host": ["10.0.0.3:1"]}) is None
    assert everywhere.wrong_host({"host": [f"{socket.gethostname()}:8000"]}) is None
    assert everywhere.wrong_host({"host": ["rebound.example"]}) is not None


def test_nothing_is_left_behind() -> None:
    with serving() as server:
        folder = Path(server._folder.name)
        assert folder.parent == Path(tempfile.gettempdir())
        assert folder.stat().st_mode & 0o077 == 0
        assert post(server, png())[0] == 200
    assert not folder.exists()


def test_a_second_signal_leaves_nothing_behind_either(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = tempfile.TemporaryDirectory.cleanup, []

    def interrupted(folder: Any) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise Stopped("again")
        real(folder)

    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", interrupted)
    with pytest.raises(Stopped), serving() as server:
        folder = Path(server._folder.name)
    assert not folder.exists()
