"""Requests and their answers. What a request names is looked up in tables; none of it ever becomes a path."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from segadapt.core.text import one_printable_line
from segadapt.errors import RequestError, RunError, one_line
from segadapt.serve.results import KINDS, Result
from segadapt.serve.uploads import sent_name

if TYPE_CHECKING:
    from segadapt.serve.server import Server

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer: nothing comes from elsewhere, nothing is kept, nobody frames the page."""
_RESULT = re.compile(r"results/([A-Za-z0-9_-]{22})/([a-z]+)(?:-([a-z]+))?\.(png|jpg)")
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_LIST = 1 << 16
"""Bytes of the largest list of results."""
_DRAIN = 1.0
"""Seconds for which what a refused request still sends is read, so that its sender sees the answer."""


class Refused(Exception):
    """A request that is not answered as it wants.

    Args:
        status: of the answer.
        line: why.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class _Timed(io.RawIOBase):
    """Bytes that come over a connection, until a moment; a sender that trickles does not move the moment.

    Attributes:
        until: the moment, as of ``time.monotonic``.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self.until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """Answers one request; HTTP/1.0, so that a connection has no second one."""

    server: Server
    protocol_version = default_request_version = "HTTP/1.0"
    server_version, sys_version = "segadapt", ""

    def setup(self) -> None:
        """Bound the time for the head of the request."""
        super().setup()
        self._timed = _Timed(self.connection, self.server.limits.head)
        self.rfile = io.BufferedReader(self._timed)

    def do_GET(self) -> None:
        """Answer with the page, a file of it, a picture or a download."""
        self._answer(self._get)

    def do_HEAD(self) -> None:
        """Answer as to GET, without content."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Predict an image that is sent, or pack results."""
        self._answer(self._post)

    def _other(self) -> None:
        self._answer(self._refuse_method)

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _other

    # ---- routes ----

    def _get(self, route: str) -> None:
        if (file := self.server.files.get(route)) is not None:
            self._send(200, file.content, file.kind)
            return
        named = _RESULT.fullmatch(route)
        if named is None:
            raise Refused(404, "there is nothing at this address")
        key, what, kind, ending = named.groups()
        result = self._kept(key)
        if kind is None and (content := result.drawn.get(f"{what}.{ending}")) is not None:
            self._send(200, content, "image/png" if ending == "png" else "image/jpeg")
        elif what in result.predicted and kind in KINDS and ending == "png":
            content = result.download(self.server.served, what, kind)
            self._send(200, content, "image/png", {"Content-Disposition": "attachment"})
        else:
            raise Refused(404, "there is nothing at this address")

    def _post(self, route: str) -> None:
        if route not in ("predict", "archive"):
            raise Refused(405 if route in self.server.files else 404, "nothing can be sent to this address")
        if (line := self.server.access.wrong_origin(self._fields())) is not None:
            raise Refused(403, line)
        with self.server.place():
            if route == "predict":
                self._predict()
            else:
                self._pack()

    def _predict(self) -> None:
        name = sent_name(self.headers.get("X-File-Name", "image"))
        content = self._body(self.server.limits.upload)
        started = time.monotonic()
        try:
            key, result = self.server.predict(name, content)
        except (RequestError, RunError) as problem:
            self.server.say(str(problem))
            raise
        facts = result.facts
        self.server.say(f"{name}: {facts['width']}x{facts['height']} in {time.monotonic() - started:.1f} s")
        self._send_json(200, {"id": key, **facts})

    def _pack(self) -> None:
        try:
            wanted = json.loads(self._body(_LIST))
        except (ValueError, RecursionError):
            wanted = None
        if not isinstance(wanted, list) or not 0 < len(wanted) <= self.server.limits.results:
            raise Refused(400, "send a JSON list of the ids of results")
        if not all(isinstance(key, str) and _ID.fullmatch(key) for key in wanted):
            raise Refused(400, "an id of a result is 22 letters, digits, - and _")
        with self.server.archive([self._kept(key) for key in dict.fromkeys(wanted)]) as path, path.open("rb") as file:
            self._start(200, "application/zip", path.stat().st_size, {"Content-Disposition": "attachment"})
            while block := file.read(1 << 20):
                self.wfile.write(block)

    def _refuse_method(self, route: str) -> None:
        raise Refused(405, f"{self.command} is not answered here; GET and POST are")

    # ---- parts ----

    def _kept(self, key: str) -> Result:
        result = self.server.store.get(key)
        if result is None:
            raise Refused(404, "this result is no longer kept; send its image again")
        return result

    def _fields(self) -> Mapping[str, list[str]]:
        """Return the values of each header by its name in small letters."""
        fields: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            fields.setdefault(name.lower(), []).append(value.strip())
        return fields

    def _body(self, most: int) -> bytes:
        """Return what the request sends; Refused where it does not say how much, sends too much, or takes too long."""
        fields = self._fields()
        lengths = fields.get("content-length", [])
        if "transfer-encoding" in fields or not lengths:
            raise Refused(411, "say with Content-Length how many bytes are sent, and send them in one piece")
        if len(lengths) > 1 or re.fullmatch(r"[0-9]{1,18}", lengths[0]) is None:
            raise Refused(400, "Content-Length is no number of bytes")
        length = int(lengths[0])
        if length > most:
            raise Refused(413, f"{length:,} bytes are too many, {most:,} are taken; see the option --max-mb")
        self._timed.until = time.monotonic() + self.server.limits.body
        try:
            content = self.rfile.read(length)
        except TimeoutError:
            raise Refused(408, "sending took too long") from None
        if len(content) < length:
            raise Refused(400, f"{length:,} bytes were announced and {len(content):,} came")
        return content

    def _answer(self, work: Callable[[str], None]) -> None:
        """Do the work of a request, or answer in one line why not."""
        access = self.server.access
        try:
            if (line := access.wrong_host(self._fields())) is not None:
                raise Refused(403, line)
            route = access.route(self.path)
            if route is None:
                raise Refused(403 if access.token else 404, "use the whole address that the command printed")
            work(route)
        except Refused as problem:
            self._complain(problem.status, str(problem))
        except RequestError as problem:
            self._complain(422, str(problem))
        except RunError as problem:
            self._complain(507, str(problem))
        except OSError:  # whoever asked is gone
            self.close_connection = True
        except Exception as problem:
            self.server.say(f"a request failed: {one_line(problem)}")
            self._complain(500, f"this image cannot be predicted: {one_line(problem)}")

    def _complain(self, status: int, line: str) -> None:
        more = {503: {"Retry-After": "1"}, 405: {"Allow": "GET, HEAD, POST"}}.get(status, {})
        with contextlib.suppress(OSError):
            self._send_json(status, {"error": one_printable_line(line)}, more)
            self.wfile.flush()
            if self.command == "POST":
                self._drain()

    def _drain(self) -> None:
        """Read what is still sent, for a while: closed at once, the connection would be lost with the answer in it."""
        self.connection.shutdown(socket.SHUT_WR)
        self._timed.until = time.monotonic() + _DRAIN
        while self.rfile.read1(1 << 16):
            pass

    def _send_json(self, status: int, value: Any, more: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", more)

    def _send(self, status: int, content: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
        self._start(status, kind, len(content), more)
        if self.command != "HEAD":
            self.wfile.write(content)

    def _start(self, status: int, kind: str, length: int, more: Mapping[str, str] | None = None) -> None:
        """Send the head of an answer."""
        self.connection.settimeout(self.server.limits.body)
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(length), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is none, in one line like all others."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or ""
        self._complain(code, message or "this is no request that is understood")

    def log_message(self, *args: Any, **named: Any) -> None:
        """Say nothing: what is worth a line is said where it happens."""
