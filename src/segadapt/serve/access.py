"""Who may ask the page for something: pages of other sites may not, nor strangers on the network.

A browser sends requests for any page that is open in it, also to servers of the own machine. Two tricks of such pages
are known: a form or script that sends to an address of ours (told by ``Origin``), and a name of theirs that is made to
lead to this machine (told by ``Host``). Whoever listens beyond this machine also needs a token that only the one who
started the command has seen.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?")


@dataclass(frozen=True)
class Access:
    """The rule by which requests are let in.

    Attributes:
        host: name or number of the network interface that is listened to.
        token: first part of every address; empty where only this machine can ask.
    """

    host: str
    token: str

    @classmethod
    def to(cls, host: str) -> Access:
        """Return the rule for a host: with a new token unless only this machine can reach it."""
        return cls(host, "" if is_loopback(host) else secrets.token_urlsafe(16))

    @property
    def root(self) -> str:
        """Path of the page itself, e.g. ``/``."""
        return f"/{self.token}/" if self.token else "/"

    def route(self, path: str) -> str | None:
        """Return what is behind the root in a path, as it was sent; None where it does not begin with the root."""
        root = self.root.encode()
        sent = path.encode(errors="replace")
        same = hmac.compare_digest(sent[: len(root)], root)  # takes as long for nearly right tokens as for wrong ones
        return path[len(self.root) :] if same else None

    def wrong_host(self, headers: Mapping[str, list[str]]) -> str | None:
        """Return a line where a request was not sent to this host by a name that it has; None where it was.

        Args:
            headers: values of each header, by its name in small letters.
        """
        names = headers.get("host", [])
        found = _HOST.fullmatch(names[0]) if len(names) == 1 else None
        if found is None or not self._is_ours(found[1].strip("[]").lower()):
            return "this address is not answered here; use the one that the command printed"
        return None

    def wrong_origin(self, headers: Mapping[str, list[str]]) -> str | None:
        """Return a line where a request was not sent by the page itself; None where it was; see :meth:`wrong_host`."""
        (host,) = headers["host"]
        site = headers.get("sec-fetch-site", ["same-origin"])
        if headers.get("origin") != [f"http://{host}"] or site not in (["same-origin"], ["none"]):
            return f"only the page itself may send images; a program says so with the header 'Origin: http://{host}'"
        return None

    def _is_ours(self, name: str) -> bool:
        if name in LOOPBACK or name == self.host.lower():
            return True
        # Who listens everywhere has many numbers. A name of another site is none of them.
        return _is_everywhere(self.host) and (_is_number(name) or name == socket.gethostname().lower())


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    return host == "localhost" or (_is_number(host) and ipaddress.ip_address(host).is_loopback)


def shown_host(host: str) -> str:
    """Return how a host is written in an address; the name of this machine for all of its interfaces."""
    name = socket.gethostname() if _is_everywhere(host) else host
    return f"[{name}]" if ":" in name else name


def _is_everywhere(host: str) -> bool:
    return _is_number(host) and ipaddress.ip_address(host).is_unspecified


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
