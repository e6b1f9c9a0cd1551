"""Named families (datasets, optimizers, sparse methods, ...), each filled by a package's files.

A member registers itself where it is defined, so that adding one is adding one file:

    @METHODS.register("rigl")
    class RigL(...): ...

A member is named in a run's config by a :class:`Spec`, which holds *every* option, those left at
their defaults too: two runs that differ in anything have different fingerprints.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType
from typing import Any, Generic, TypeVar, get_args

from paper_repro.errors import UserError

__all__ = ["Registry", "Spec", "checked"]

T = TypeVar("T", bound=Callable[..., Any])
Scalar = str | int | float | bool | None
_REMEMBERED = 10_000  # specs of a family
_NAMES = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
    NoneType: "none",
}


def checked(what: str, value: Any, annotation: Any) -> Any:
    """``value`` as the annotation has it; a whole number where a float is due becomes one.

    So ``rho=1`` and ``rho=1.0`` are one run with one fingerprint, and a word where a number
    belongs is found before anything is trained.

    Args:
        what: whose value it is, in the words of an error message.
        value: as given.
        annotation: a type, or a union of types; one with none of str, int, float, bool and None
            among them accepts everything.

    Raises:
        UserError: it is of another type, or a number that is not finite.
    """
    kinds = _kinds(annotation)
    if not kinds or (type(value) in kinds and not isinstance(value, float)):
        return value
    if float in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UserError(f"{what} must be finite, not {value}")
        return float(value)
    wanted = " or ".join(_NAMES[kind] for kind in kinds)
    raise UserError(f"{what} must be {wanted}, not {value!r}")


@functools.cache
def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The scalar types that an annotation names; thousands of configs ask for the same few."""
    return tuple(kind for kind in get_args(annotation) or (annotation,) if kind in _NAMES)


@dataclass(frozen=True)
class Spec:
    """The name of a registered member and all of its options, sorted by name."""

    name: str
    options: tuple[tuple[str, Scalar], ...] = ()

    def __getitem__(self, option: str) -> Any:
        return dict(self.options)[option]

    def get(self, option: str, default: Any = None) -> Any:
        return dict(self.options).get(option, default)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **dict(self.options)}


class Registry(Mapping[str, T], Generic[T]):
    """The members of one family by name.

    Args:
        kind: what a member is, in the words of an error message ("sparse method").
        package: the package whose modules define the members; imported at first use.
        runtime: constructor arguments that the training loop supplies and that therefore are
            no options of a member (the model, the number of steps, ...).
    """

    def __init__(self, kind: str, package: str, runtime: frozenset[str] = frozenset()) -> None:
        self.kind = kind
        self.package = package
        self.runtime = runtime
        self._members: dict[str, T] = {}
        self._defaults: dict[T, Mapping[str, Scalar]] = {}
        self._types: dict[T, Mapping[str, Any]] = {}
        self._checked: dict[Any, Spec] = {}
        self._loaded = False
        self._complete = False
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        def add(member: T) -> T:
            if name in self._members:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._members[name] = member
            return member

        return add

    def _load(self) -> dict[str, T]:
        if self._complete:  # without the lock: reading records asks hundreds of thousands of times
            return self._members
        with self._lock:  # of threads, the second waits until the family is complete
            if not self._loaded:
                self._loaded = True  # before the imports, which may ask for members themselves
                try:
                    package = importlib.import_module(self.package)
                    for module in pkgutil.iter_modules(package.__path__):
                        importlib.import_module(f"{self.package}.{module.name}")
                except BaseException:
                    self._loaded = False  # or the family would silently be incomplete
                    raise
                self._complete = True
        return self._members

    def __getitem__(self, name: str) -> T:
        members = self._load()
        if name not in members:
            raise UserError(f"unknown {self.kind} {name!r}; known are {', '.join(sorted(members))}")
        return members[name]

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())

    def defaults(self, name: str) -> Mapping[str, Scalar]:
        """Every option of a member with its default, ``inspect.Parameter.empty`` if it has none."""
        member = self[name]
        if member not in self._defaults:  # every fingerprint asks, and inspection is slow
            self._defaults[member] = MappingProxyType(
                {
                    p.name: p.default
                    for p in inspect.signature(member).parameters.values()
                    if p.name not in self.runtime
                    and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
                }
            )
        return self._defaults[member]

    def before(self, name: str) -> Mapping[str, Scalar]:
        """Options that a member got after runs of it were recorded, and what those runs did.

        A member says so in an attribute ``OPTION_BEFORE = {"option": value}``. Records that lack
        the option are read with that value, and a run that asks for it has their fingerprint; the
        option's default may be another.
        """
        before: Mapping[str, Scalar] = getattr(self[name], "OPTION_BEFORE", {})
        if not before:
            return before
        known = self.defaults(name)
        return {option: value for option, value in before.items() if option in known}

    def spec(self, name: str, **options: Scalar) -> Spec:
        """A member's name with all of its options, the given ones over the defaults.

        Raises:
            UserError: for an unknown member or option, an option that is needed and missing, or
                a value of the wrong type.
        """
        # Thousands of records ask for the same few. By what they look like: 1, 1.0 and True differ.
        key = (name, tuple((k, type(v), repr(v)) for k, v in sorted(options.items())))
        if key in self._checked:
            return self._checked[key]
        known = self.defaults(name)
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise UserError(
                f"{self.kind} {name!r} has no option {unknown[0]!r}; "
                f"its options are {', '.join(sorted(known)) or 'none'}"
            )
        full = {**known, **options}
        missing = sorted(k for k, v in full.items() if v is inspect.Parameter.empty)
        if missing:
            raise UserError(f"{self.kind} {name!r} needs a value for {missing[0]!r}")
        types = self._annotations(name)
        spec = Spec(
            name,
            tuple(
                (option, checked(f"{option} of {self.kind} {name!r}", value, types[option]))
                for option, value in sorted(full.items())
            ),
        )
        if len(self._checked) < _REMEMBERED:
            self._checked[key] = spec
        return spec

    def _annotations(self, name: str) -> Mapping[str, Any]:
        member = self[name]
        if member not in self._types:
            parameters = inspect.signature(member, eval_str=True).parameters
            self._types[member] = {p.name: p.annotation for p in parameters.values()}
        return self._types[member]

    def build(self, spec: Spec, **runtime: Any) -> Any:
        """Construct the member from its spec, with those runtime arguments that it asks for."""
        member = self[spec.name]
        wanted = inspect.signature(member).parameters
        return member(**{k: v for k, v in runtime.items() if k in wanted}, **dict(spec.options))
