"""The server of the page: bounded in images that wait, in results that it keeps, in connections, bytes and seconds."""

from __future__ import annotations

import os
import secrets
import socket
import socketserver
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from segadapt.core.faults import told_fault
from segadapt.errors import RequestError, Stopped
from segadapt.serve.access import Access, shown_host
from segadapt.serve.handler import Handler, Refused
from segadapt.serve.models import Served
from segadapt.serve.pages import page_files
from segadapt.serve.results import Result, Store, result_of, write_archive
from segadapt.serve.uploads import kept_for_reading

_FULL = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Limits:
    """Limits of what the server takes.

    Attributes:
        upload: bytes of an image.
        waiting: images that are received, wait or are predicted; one at a time is predicted.
        results: results that are kept; ``kept``: bytes that they take together.
        connections: that are open at a time.
        head: seconds in which the head of a request comes; ``body``: in which its image comes, or an answer is taken.
    """

    upload: int = 64 << 20
    waiting: int = 8
    results: int = 200
    kept: int = 512 << 20
    connections: int = 32
    head: float = 10.0
    body: float = 60.0


class Server(ThreadingHTTPServer):
    """Serves the page until it is closed; a context manager. Each connection has a thread, and all share one network.

    Args:
        served: the models.
        host: name or number of the network interface to listen to. Beyond this machine, addresses have a token.
        port: to listen to; 0 for any that is free.
        limits: what it takes at most.
        say: called with a line for each image, from threads.

    Raises:
        RequestError: the port is taken, or there is no such host.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32
    allow_reuse_address = os.name == "posix"  # elsewhere it would let two programs listen to one port

    def __init__(
        self,
        served: Served,
        host: str = "127.0.0.1",
        port: int = 8000,
        limits: Limits | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.served, self.limits, self.say = served, limits or Limits(), say
        self.access = Access.to(host)
        self.store = Store(self.limits.results, self.limits.kept)
        self.files = page_files(served, self.limits.upload, self.limits.results)
        self._waiting = threading.BoundedSemaphore(self.limits.waiting)
        self._connections = threading.BoundedSemaphore(self.limits.connections)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as problem:
            raise RequestError(_of_address(host, port, problem)) from None
        self._network = ThreadPoolExecutor(1, "segadapt-serve")  # one thread: torch keeps threads of its own for each
        self._folder = tempfile.TemporaryDirectory(prefix="segadapt-serve-", ignore_cleanup_errors=True)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{shown_host(self.access.host)}:{self.server_port}{self.access.root}"

    # ---- what the handler asks for ----

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take one of the places of those who wait; Refused where there is none."""
        if not self._waiting.acquire(blocking=False):
            raise Refused(503, f"{self.limits.waiting} images wait already; try again in a second")
        try:
            yield
        finally:
            self._waiting.release()

    def predict(self, name: str, content: bytes) -> tuple[str, Result]:
        """Predict an image with each model and keep the result; return its id, too.

        Args:
            name: as it was sent.
            content: of the image file.

        Raises:
            RequestError: it cannot be read, or does not fit a network.
            RunError: the memory is not enough, or the disk is full.
        """
        return self._network.submit(self._predicted, name, content).result()

    def _predicted(self, name: str, content: bytes) -> tuple[str, Result]:
        try:
            with kept_for_reading(content, name, Path(self._folder.name)) as path:
                image, predictions = self.served.predict(path)
            result = result_of(name, image, predictions, self.served)
        except Exception as problem:
            told = told_fault(problem, name, {})
            if told is None:
                raise
            raise told from problem
        return self.store.add(result), result

    @contextmanager
    def archive(self, results: list[Result]) -> Iterator[Path]:
        """Yield a ZIP file of results, which is gone after the block; RunError where it cannot be written."""
        path = Path(self._folder.name) / f"{secrets.token_hex(16)}.zip"
        try:
            write_archive(path, results, self.served)
            yield path
        finally:
            path.unlink(missing_ok=True)

    # ---- the connections ----

    def server_bind(self) -> None:
        """Listen, without asking the network for a name of this machine as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.access.host, int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread, or turn it away where too many are open."""
        if not self._connections.acquire(blocking=False):
            request.settimeout(0.2)
            with suppress(OSError):
                request.sendall(_FULL)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell in a line of what failed while a connection was answered; those that ended are nothing to tell."""
        problem = sys.exc_info()[1]
        if not isinstance(problem, OSError):
            self.say(f"a request failed: {type(problem).__name__}: {problem}")

    def server_close(self) -> None:
        """Stop listening, and forget everything."""
        super().server_close()
        if not hasattr(self, "_folder"):  # the port was taken
            return
        self._network.shutdown(wait=False, cancel_futures=True)
        try:
            self._folder.cleanup()
        except Stopped:  # a second signal; what was sent is not left behind for that
            self._folder.cleanup()
            raise


def _of_address(host: str, port: int, problem: Exception) -> str:
    """Return a line about a host and port that cannot be listened to."""
    if isinstance(problem, socket.gaierror):
        return f"--host '{host}' is no name or number of this machine; leave it out to serve this machine alone"
    said = problem.strerror if isinstance(problem, OSError) else str(problem)
    return f"port {port} of {host} cannot be listened to ({said}); name another one, or --port 0 for any that is free"
