"""What a record must be for its readers to rely on it, checked once, where it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["check_body", "check_numbers"]

_LARGEST = 2**63  # beyond it no count, byte or nanosecond of a run is
_SCORE = "test_accuracy"
_NOTHING = object()


# A number beyond 64 bits has 19 digits from where it begins, one that is not finite may have an
# exponent of three: few records have any, and only in those is every number looked at. With digits
# as 0 and what stands around numbers as a blank, both are found by a plain search.
_SHAPES = bytes.maketrans(b"123456789E \t\r\n[]{}:,-", b"000000000e" + b" " * 11)
_LONG = b" " + b"0" * 19
_STEEP = re.compile(rb"e000+ ")  # no hash in quotes


def _suspect(text: bytes) -> bool:
    if b"NaN" in text or b"Infinity" in text:
        return True
    shapes = text.translate(_SHAPES, b"+")
    return _LONG in shapes or _STEEP.search(shapes) is not None


def check_numbers(value: Any, text: bytes) -> None:
    """No number in a plain value, however deep, that arithmetic would stumble over.

    Args:
        value: as JSON has it.
        text: that it was read from.

    Raises:
        ValueError: one is not finite, or a whole number of more than 64 bits.
    """
    pending = [value] if _suspect(text) else []
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise ValueError(f"it holds the number {item}")
        elif isinstance(item, int) and abs(item) > _LARGEST:
            raise ValueError("it holds a whole number of more than 64 bits")


def check_body(status: str, body: Mapping[str, Any], epochs: int) -> None:
    """What is measured in a record, as every table, plan and command relies on it.

    Of a finished run: accuracies in percent that are those of the curve, sparsities, seconds. Of
    any: where it ran, and a curve whose epochs follow one another. What later versions add is
    left alone.

    Args:
        status: of the run.
        body: the record without its config.
        epochs: that the run has.

    Raises:
        ValueError: a sentence's end that says what is wrong.
        KeyError: something is missing.
    """
    where = _dictionary(body, "environment")
    _kind(where, "commit", (str, type(None)), needed=True)
    _kind(where, "dirty", (bool, type(None)), needed=True)
    for name in ("device", "device_type", "torch", "python", "engine", "arithmetic", "data"):
        _kind(where, name, (str,))
    for name in ("threads", "cores"):
        if where.get(name) is not None:
            _number(where, name, 1)
    _kind(body, "reason", (str, type(None)))
    for name in ("layer_densities", "flops", "memory", "speed", "sparsity", "method_facts"):
        if body.get(name) is not None:
            _dictionary(body, name)
    curve = _curve(body.get("curve", []), epochs)
    if status != "finished":
        return
    accuracy = _dictionary(body, "accuracy")
    last, best = (_number(accuracy, which, 0, 100, " accuracy") for which in ("last", "best"))
    if best < last:
        raise ValueError(f"its best accuracy {best} is below its last {last}")
    body["curve"]
    _number(_dictionary(body, "speed"), "seconds", 0)
    for name in ("masked_layers", "overall"):
        _number(_dictionary(body, "sparsity"), name, 0, 1, " sparsity")
    if body["sparsity"].get("missed") is not None:
        _number(body["sparsity"], "missed", -1, 1, " sparsity")
    _of_the_curve(last, best, curve)


def _curve(lines: Any, epochs: int) -> list[Mapping[str, Any]]:
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise ValueError("its curve is no list of epochs")
    before = 0
    for line in lines:
        # Curves are most of a record: what is a number in its range is seen here, at once.
        epoch = line.get("epoch", _NOTHING)
        if epoch is not _NOTHING:
            if not (type(epoch) is int and before < epoch <= epochs):
                epoch = _number(line, "epoch", before + 1, epochs, " in its curve")
            before = int(epoch)
        score = line.get(_SCORE)
        if score is not None and not (type(score) is float and 0 <= score <= 100):
            _number(line, _SCORE, 0, 100, " in its curve")
        sparsity = line.get("sparsity")
        if sparsity is not None and not (type(sparsity) is float and 0 <= sparsity <= 1):
            _number(line, "sparsity", 0, 1, " in its curve")
    return lines


def _of_the_curve(last: float, best: float, curve: list[Mapping[str, Any]]) -> None:
    scored = [line for line in curve if line.get(_SCORE) is not None]
    if not scored:
        return  # of another task, whose score has another name
    if scored[-1][_SCORE] != last:
        raise ValueError(f"its last accuracy is {last}, and {scored[-1][_SCORE]} in its curve")
    final = scored[-1].get("sparsity")
    found = max(line[_SCORE] for line in scored if line.get("sparsity") == final)
    if found != best:
        raise ValueError(f"its best accuracy is {best}, and {found} in its curve")


def _dictionary(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(body[name], dict):
        raise ValueError(f"its {name} is no dictionary")
    found: Mapping[str, Any] = body[name]
    return found


def _kind(
    body: Mapping[str, Any], name: str, kinds: tuple[type, ...], needed: bool = False
) -> None:
    value = body[name] if needed else body.get(name)
    if (needed or value is not None) and not isinstance(value, kinds):
        raise ValueError(f"its {name} is {value!r:.60}")


def _number(
    body: Mapping[str, Any], name: str, low: float, high: float = math.inf, of: str = ""
) -> float:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"its {name}{of} is {value!r:.60}")
    if not low <= value <= high:
        raise ValueError(f"its {name}{of} is {value}, which cannot be")
    return value
