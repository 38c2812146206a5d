"""A page on this machine that shows what the models of a run make of images that somebody drops on it.

>>> from segadapt.serve import Server, served_models
>>> with Server(served_models("run")) as server:  # doctest: +SKIP
...     print(server.address)
...     server.serve_forever()
http://127.0.0.1:8000/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

if TYPE_CHECKING:
    from segadapt.serve.access import Access
    from segadapt.serve.models import Served, served_models
    from segadapt.serve.server import Limits, Server

_MODULES = {
    "Access": "access",
    "Limits": "server",
    "Served": "models",
    "Server": "server",
    "served_models": "models",
}

__all__ = ["Access", "Limits", "Served", "Server", "served_models"]

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
