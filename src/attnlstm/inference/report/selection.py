"""Which rows a report shows as examples."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush, nlargest
from typing import Generic, TypeVar


@dataclass(order=True)
class Example:
    """A row that the page may show.

    rank: larger is more interesting; its last item, minus the number of rows before, is unique.
    kind: rows of the same kind compete with each other first.
    card: the row as it is shown.
    """

    rank: tuple[float, ...]
    kind: Hashable = field(compare=False)
    card: str = field(compare=False, default="")


E = TypeVar("E", bound=Example)


class Selection(Generic[E]):
    """The most interesting row of each kind, and the most interesting of the other rows."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._first: dict[Hashable, E] = {}
        self._rest: list[E] = []  # a heap, the least interesting on top

    def __len__(self) -> int:
        return len(self._first) + len(self._rest)

    def add(self, example: E) -> E | None:
        """Add a row, and return the row that is dropped for it: maybe itself, or None."""
        first = self._first.setdefault(example.kind, example)
        if example is not first:
            self._first[example.kind] = max(example, first)
            heappush(self._rest, min(example, first))
        if len(self) <= self._room:
            return None
        dropped = heappop(self._rest) if self._rest else min(self._first.values())
        if self._first[dropped.kind] is dropped:
            del self._first[dropped.kind]
        return dropped

    def best(self, number: int) -> list[E]:
        """Return at most `number` rows, the most interesting first."""
        first = nlargest(number, self._first.values())
        return sorted(first + nlargest(number - len(first), self._rest), reverse=True)


def choose_halves(errors: Selection[E], others: Selection[E], number: int) -> list[E]:
    """Return `number` rows: half of them errors, unless there are too few rows of one kind."""
    half = (number + 1) // 2
    chosen = errors.best(max(half, number - len(others)))
    return chosen + others.best(number - len(chosen))
