"""A page in front of two networks whose answers can be written down, and requests of any kind to it."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from segadapt.data.masks.mask_format import mask_format
from segadapt.labels import LabelSpace
from segadapt.models.store import LoadedModel
from segadapt.serve import Limits, Served, Server
from segadapt.serve.models import Choice
from tests.evaluation.tiny import GreyLevels

SPACE = LabelSpace(
    "grey", ("dark", "<b>middle</b>", "light"), ((10, 20, 200), (200, 60, 50), (240, 230, 90)), ids=(7, 50, 255)
)
WIDTH, HEIGHT = 48, 32


class Shifted(GreyLevels):
    """Sees everything darker than :class:`GreyLevels` does."""

    def network(self, x: Any) -> Any:
        return super().network(x * 0.6)


def served(*models: Any, ids: str = "own", **provenance: Any) -> Served:
    """Return what :func:`segadapt.serve.served_models` makes of a run, of two networks without files."""
    networks = models or (GreyLevels(3, 20.0), Shifted(3, 20.0))
    keys = ("source", "adapted") if len(networks) > 1 else ("model",)
    titles = {"source": "Source only", "adapted": "CBST", "model": "model.safetensors"}
    choices = [
        Choice.of(key, titles[key], LoadedModel(network.eval(), SPACE, {"run": "r", "stage": key, **provenance}))
        for key, network in zip(keys, networks, strict=True)
    ]
    why = "adaptation probably helped; recommended: the model of stage 'adapt'" if len(networks) > 1 else ""
    return Served("toy/cbst", tuple(choices), "adapted" if why else "", why, mask_format(SPACE, ids))


@contextmanager
def serving(limits: Limits | None = None, of: Served | None = None, **options: Any) -> Iterator[Server]:
    """Serve at a free port, in a thread; what it says is in ``server.said``."""
    said: list[str] = []
    with Server(of or served(), port=0, limits=limits, say=said.append, **options) as server:
        server.said = said  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def picture(seed: int = 0) -> np.ndarray:
    """Grey blocks of three brightnesses [H, W, 3]; each model sees other classes in them."""
    blocks = np.random.default_rng(seed).choice([30, 120, 165, 220], (HEIGHT // 8, WIDTH // 8)).astype(np.uint8)
    return np.repeat(blocks.repeat(8, 0).repeat(8, 1)[..., None], 3, axis=2)


def png(image: np.ndarray | None = None, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture() if image is None else image).save(content, kind, **options)
    return content.getvalue()


def ask(server: Server, request: bytes, end: bool = False, wait: float = 5.0) -> tuple[int, dict[str, str], bytes]:
    """Send bytes and return status, headers and content of the answer; status 0 where there is none."""
    with socket.create_connection(("127.0.0.1", server.server_port), wait) as connection:
        try:
            connection.sendall(request)
            if end:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused before all was sent; the answer is there all the same
        answer = b""
        while block := connection.recv(1 << 16):
            answer += block
    head, _, content = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]) if answer.startswith(b"HTTP/") else 0, headers, content


def head(server: Server, line: str, *more: str, host: str | None = None) -> bytes:
    """Return the head of a request."""
    where = f"Host: {host or f'127.0.0.1:{server.server_port}'}"
    return "\r\n".join([f"{line} HTTP/1.1", *([where] if host != "" else []), *more, "", ""]).encode("utf-8")


def get(server: Server, path: str, *more: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    return ask(server, head(server, f"GET {path}", *more, host=host))


def post(server: Server, content: bytes, *more: str, path: str = "/predict", name: str = "a.png") -> tuple[int, Any]:
    """Send content as the page does; return the status and the parsed answer."""
    origin = f"Origin: http://127.0.0.1:{server.server_port}"
    fields = (origin, f"Content-Length: {len(content)}", f"X-File-Name: {name}", *more)
    status, _, answer = ask(server, head(server, f"POST {path}", *fields) + content)
    return status, json.loads(answer) if answer.startswith((b"{", b"[")) else answer
