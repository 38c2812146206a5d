"""Model files that know whether they are whole, and that are equal where the models are.

A safetensors file keeps texts beside its tensors, in an order that differs from write to write, and no checksum. Here
the texts are put in order, and one of them is a hash of the tensors and of all other texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from segadapt.errors import RequestError
from segadapt.models.digest import tensors_digest

_SEAL = "sha256"
_SIZE = 8
"""Bytes in front of the head of a file, which say how long it is."""


def save_sealed(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Write tensors and texts with their hash; equal ones give equal bytes.

    Args:
        path: the file, which is not kept where this fails.
        tensors: on the CPU, contiguous, none of them a view of another.
        texts: by name.
    """
    sealed = {**texts, _SEAL: _seal(tensors, texts)}
    save_file(dict(tensors), path, sealed)
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(_SIZE), "little")
        head = json.loads(file.read(length))
        metadata = {"__metadata__": dict(sorted(sealed.items()))}
        rest = {name: value for name, value in head.items() if name not in metadata}
        ordered = json.dumps({**metadata, **rest}, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) > length:
            raise RuntimeError(f"the head of '{path}' has {length} bytes, and in order {len(ordered)}")
        file.seek(_SIZE)
        file.write(ordered.ljust(length))


def require_whole(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Refuse a file whose tensors or texts are not those that were written; 1.5 GB/s.

    Files without a hash, which other programs wrote, are taken as they are.

    Raises:
        RequestError: it was damaged.
    """
    rest = {name: text for name, text in texts.items() if name != _SEAL}
    if _SEAL in texts and texts[_SEAL] != _seal(tensors, rest):
        raise RequestError(
            f"'{path}' is damaged: its checksum does not match; put it back from a copy, or remove the folder of its "
            "stage to train that again"
        )


def _seal(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    return tensors_digest(tensors, *(word for pair in sorted(texts.items()) for word in pair))
