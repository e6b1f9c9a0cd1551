"""The operations that the compiled kernels run, and how Python hands them over."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum

from torch import Tensor

__all__ = ["Call", "Kind", "Mode", "Op", "Program", "at"]


class Kind(IntEnum):
    """An operation; what each reads is said in ``native/``."""

    IMAGES = 0
    CONV = 1
    WGRAD = 2
    COEF_TRAIN = 3
    COEF_EVAL = 4
    NORM_RELU = 5
    COEF_BACK = 6
    NORM_BACK = 7
    DOT = 8
    POOL = 9
    POOL_BACK = 10
    MAXPOOL = 11
    MAXPOOL_BACK = 12
    GATHER = 13
    WGRAD_SUM = 14


class Mode(IntEnum):
    """What a convolution does with its sums."""

    STORE = 0
    STATS = 1
    RELU_BACK = 2


class Op(ctypes.Structure):
    """``struct Op`` of ``native/op.h``."""

    _fields_ = (
        ("kind", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("x", "o", "a", "y", "r")),
        *((name, ctypes.c_void_p) for name in ("ptr", "off", "w", "stats")),
        ("f", ctypes.c_void_p * 10),
        ("n", ctypes.c_int64 * 20),
    )


class Call(ctypes.Structure):
    """``struct Call`` of ``native/op.h``."""

    _fields_ = (
        ("batch", ctypes.c_int),
        ("blocks", ctypes.c_int),
        ("threads", ctypes.c_int),
        ("momentum", ctypes.c_float),
        ("eps", ctypes.c_float),
    )


def at(tensor: Tensor, element: int = 0) -> int:
    """The address of an element of a tensor's memory, counted from its first."""
    return tensor.data_ptr() + element * tensor.element_size()


class Program:
    """Operations in order. The tensors whose addresses they hold must live as long."""

    def __init__(self) -> None:
        self._ops: list[Op] = []
        self._array: ctypes.Array[Op] | None = None

    def add(
        self,
        kind: Kind,
        n: Sequence[int],
        f: Sequence[int] = (),
        **pointers: int,
    ) -> Op:
        """Append an operation; returns it."""
        op = Op(kind=kind, **pointers)
        op.n[: len(n)] = list(n)
        op.f[: len(f)] = list(f)
        self._ops.append(op)
        self._array = None
        return op

    def __len__(self) -> int:
        return len(self._ops)

    def __add__(self, other: Program) -> Program:
        both = Program()
        both._ops = self._ops + other._ops
        return both

    def first(self) -> Op:
        """The first operation, to be changed in place."""
        self._seal()
        return self._ops[0]

    def _seal(self) -> ctypes.Array[Op]:
        if self._array is None:
            self._array = (Op * len(self._ops))(*self._ops)
            self._ops = list(self._array)  # what is changed later is changed where it counts
        return self._array

    def run(self, library: ctypes.CDLL, storage: int, call: Call) -> None:
        """Run all operations; Python's lock is released meanwhile."""
        library.engine_run(
            self._seal(), ctypes.c_int64(len(self._ops)), ctypes.c_int(storage), ctypes.byref(call)
        )
