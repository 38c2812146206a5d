"""A training step never waits for the device, and sends it nothing from ordinary memory.

Everywhere a step runs on the device ``meta``; where there is a GPU, on it too, with CUDA's own detector::

    python -m pytest tests/engine/test_no_waiting.py -k cuda
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import segadapt
from segadapt.core.moving import sent
from segadapt.data.augmentations import register_augmentation
from segadapt.engine.runtime import Runtime
from segadapt.methods.registry import METHODS
from tests.stepping import CASES, Watched, moved_to_meta, stepping, steps, waiting_is_an_error

META = torch.device("meta")
PACKAGE = Path(segadapt.__file__).parent
DEVICE_SIDE = [PACKAGE / "data" / f"{name}.py" for name in ("augment", "colour_transfer", "photometric", "strong")]
"""What augments batches on the device."""


@register_augmentation("half", draws=1)
def half(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    return images * (1 - draws[:, :, None, None] / 2)


def test_every_implementation_is_among_the_cases() -> None:
    stepping_ones = {METHODS[name].method for name in METHODS if name != "given"}
    assert {METHODS[name].method for name, _ in CASES.values()} == stepping_ones


@pytest.mark.parametrize("case", CASES)
def test_steps_ask_the_device_for_nothing(tmp_path: Path, case: str) -> None:
    made = moved_to_meta(stepping(case, Runtime("cpu"), tmp_path))
    with Watched(META):
        steps(made, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("case", CASES)
def test_steps_on_cuda_never_wait(tmp_path: Path, case: str, precision: str) -> None:
    runtime = Runtime("cuda", precision)  # type: ignore[arg-type]
    made = stepping(case, runtime, tmp_path)
    steps(made, 2)  # kernels are chosen, first clusters are found
    with waiting_is_an_error(), Watched(runtime.device):
        steps(made, 3)


@pytest.mark.parametrize(
    ("name", "waits"),
    [
        ("item", lambda x: x.sum().item()),
        ("mask", lambda x: x[x > 0]),
        ("put", lambda x: x.index_put_((x > 0,), torch.zeros((), device=META))),
        ("ordinary memory", lambda x: torch.ones(3).to(META, non_blocking=True)),
        ("beside", lambda x: x + torch.ones(3)),
        ("cholesky", lambda x: torch.linalg.cholesky(x.expand(3, 3))),
    ],
)
def test_what_waits_is_found(name: str, waits: object) -> None:
    x = torch.zeros(3, device=META)
    with Watched(META), pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        waits(x)  # type: ignore[operator]
    with Watched(META):
        assert sent(torch.ones(3), META).shape == (3,), f"{name}: what is sent as it should be is let through"


def test_no_line_of_a_step_writes_a_number_into_one_place() -> None:
    """``x[0] = 1`` sends the number from ordinary memory, ``x[:1].fill_(1)`` does not; ``meta`` does not see it."""
    found = []
    for path in [*(PACKAGE / "methods").glob("*.py"), *(PACKAGE / "pieces").glob("*.py"), *DEVICE_SIDE]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript) and _number(node.value):
                places = node.targets[0].slice
                single = places.elts if isinstance(places, ast.Tuple) else [places]
                if not any(isinstance(one, (ast.Slice, ast.Constant)) and _open(one) for one in single):
                    found.append(f"{path.name}:{node.lineno}")
    assert not [place for place in found if not place.startswith("next_labels.py")]  # which is part of no step


def _number(value: ast.expr) -> bool:
    """Return whether an expression is a number: written out, or a constant of a module."""
    if isinstance(value, ast.UnaryOp):
        return _number(value.operand)
    return (isinstance(value, ast.Constant) and not isinstance(value.value, str)) or (
        isinstance(value, ast.Name) and value.id.isupper()
    )


def _open(place: ast.expr) -> bool:
    """Return whether a place in brackets stands for several, so that a number is filled in and not sent."""
    return isinstance(place, ast.Slice) or (isinstance(place, ast.Constant) and place.value is Ellipsis)


def test_no_line_of_a_step_makes_tensors_of_lists_on_the_device() -> None:
    """The device ``meta`` does not see it: such a tensor is made on the CPU and sent from ordinary memory."""
    found = []
    for room in ("data", "methods", "pieces"):
        for path in sorted((PACKAGE / room).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    keywords = {keyword.arg for keyword in node.keywords}
                    of_list = node.func.attr in ("tensor", "as_tensor") and "device" in keywords
                    if of_list or node.func.attr == "new_tensor":
                        found.append(f"{room}/{path.name}:{node.lineno}")
    assert not found
