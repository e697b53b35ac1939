"""Values made quickly: the same frozen, slotted dataclasses, for the places where one signature makes a dozen of them.

A frozen dataclass sets every field through `object.__setattr__`, at four times the cost of an assignment. `quickly`
gives a maker that assigns the fields while the object is still of an open twin of the class, and closes it before
anybody sees it. What it makes cannot be told from what the class itself makes.

Example:
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, slots=True)
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> point = quickly(Point)(1)
    >>> point, point == Point(1), type(point) is Point
    (Point(x=1, y=0), True, True)
    >>> point.x = 2
    Traceback (most recent call last):
    dataclasses.FrozenInstanceError: cannot assign to field 'x'
"""

from collections.abc import Callable
from dataclasses import MISSING, field, fields, make_dataclass
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def quickly(value: Callable[P, T]) -> Callable[P, T]:
    """Give the maker of a frozen, slotted dataclass that takes what the class takes; TypeError for any other class."""
    closed = cast("type[T]", value)
    own = fields(closed)  # type: ignore[arg-type]  # a dataclass; the type variable cannot say so
    if hasattr(closed, "__post_init__") or any(one.default_factory is not MISSING for one in own):
        raise TypeError(f"{closed.__name__} computes while it is made")

    def close(self: object) -> None:
        self.__class__ = closed

    plain = make_dataclass(
        closed.__name__,
        [(one.name, object, field(default=one.default, kw_only=one.kw_only)) for one in own],
        namespace={"__post_init__": close},
    )
    twin = {
        # the same layout, so that an object can pass from one class to the other
        "__slots__": vars(closed)["__slots__"],
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
        "__init__": vars(plain)["__init__"],
        "__post_init__": close,
    }
    return cast("Callable[P, T]", type(closed.__name__, closed.__bases__, twin))
