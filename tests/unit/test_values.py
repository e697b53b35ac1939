"""core/values: what a quick maker makes cannot be told from what the class makes."""

import copy
import dataclasses
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from cryptosvc.core.values import quickly


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    kind: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived(Base):
    size: int


point = quickly(Point)
derived = quickly(Derived)


def test_it_is_of_the_class_with_the_fields_and_defaults_of_the_class():
    assert (point(1), point(1, y=2), point(y=3, x=4)) == (Point(1), Point(1, 2), Point(4, 3))
    made = derived(kind="a", size=2)
    assert type(made) is Derived
    assert made == Derived(kind="a", size=2, notes=())
    assert hash(made) == hash(Derived(kind="a", size=2))
    assert repr(made) == repr(Derived(kind="a", size=2))


@pytest.mark.parametrize("made", [point(1), derived(kind="a", size=2)])
def test_it_is_closed(made):
    name = dataclasses.fields(made)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(made, name, 9)
    with pytest.raises(FrozenInstanceError):
        delattr(made, name)
    assert not hasattr(made, "__dict__")


def test_it_can_be_replaced_and_copied():
    made = derived(kind="a", size=2)
    assert dataclasses.replace(made, size=4) == Derived(kind="a", size=4)
    assert copy.deepcopy(made) == made


def test_what_the_class_does_not_take_is_not_taken():
    with pytest.raises(TypeError, match="'size'"):
        derived(kind="a")
    with pytest.raises(TypeError, match="'z'"):
        point(1, z=2)
    with pytest.raises(TypeError, match="positional"):
        derived("a", 2)


def test_a_class_that_computes_while_it_is_made_has_no_quick_maker():
    @dataclass(frozen=True, slots=True)
    class Collects:
        rows: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Checks:
        row: int

        def __post_init__(self) -> None:
            raise ValueError

    for computes in (Collects, Checks):
        with pytest.raises(TypeError, match="computes while it is made"):
            quickly(computes)
