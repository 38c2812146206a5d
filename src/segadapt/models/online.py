"""A quick look for downloads: libraries retry for a minute where there is no network, this answers in seconds."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import timm
import torch
import torchvision

WAIT = 3.0
"""Seconds in which a host has to answer."""


def timm_weights_reachable(encoder: str) -> bool:
    """Return whether timm's weights of an encoder lie on this machine, or their host answers."""
    stated = timm.get_pretrained_cfg(encoder)
    if stated is None or stated.file or not (stated.hf_hub_id or stated.url):
        return True  # nothing to download; timm says what is wrong
    if timm_weights_here(encoder):
        return True
    if stated.hf_hub_id:
        from huggingface_hub import constants

        return not constants.HF_HUB_OFFLINE and answers(constants.ENDPOINT)
    return answers(_url(stated.url))


def timm_weights_here(encoder: str) -> bool:
    """Return whether timm's weights of an encoder lie on this machine; False for one that timm does not know."""
    stated = timm.get_pretrained_cfg(encoder)
    if stated is None:
        return False
    if stated.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        names = ("model.safetensors", "pytorch_model.bin", *filter(None, [stated.hf_hub_filename]))
        return any(isinstance(try_to_load_from_cache(stated.hf_hub_id, name), str) for name in names)
    return bool(stated.url) and _in_torch_cache(_url(stated.url))


def _url(stated: object) -> str:
    """Return the address that timm states, the first of several."""
    return stated if isinstance(stated, str) else str((stated or ("",))[0])  # type: ignore[index]


def torchvision_weights_reachable(network: str) -> bool:
    """Return whether torchvision's ImageNet weights of a network lie on this machine, or their host answers."""
    url = torchvision.models.get_model_weights(network)["IMAGENET1K_V1"].url
    return _in_torch_cache(url) or answers(url)


def _in_torch_cache(url: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name).exists()


def answers(url: str) -> bool:
    """Return whether the host of an address, or the proxy that leads to it, takes a connection within :data:`WAIT`.

    Resolving a name has no time limit of its own, so it runs in a thread that is left behind.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(parts.netloc):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    connected = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection((parts.hostname or "", port), WAIT):
                connected.set()
        except OSError:
            pass
        finally:
            done.set()

    done = threading.Event()
    threading.Thread(target=connect, daemon=True).start()
    done.wait(WAIT + 1)
    return connected.is_set()
