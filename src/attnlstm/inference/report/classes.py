"""The classes of a report's rows, among them labels that the model does not know."""

NAMED_UNKNOWN_LABELS = 50  # further ones are counted together


class Classes:
    """Numbers the model's classes, and after them the labels unknown to the model.

    names: by number.
    num_known: how many of them the model knows.
    """

    def __init__(self, label_names: list[str]) -> None:
        self.names = list(label_names)
        self.num_known = len(label_names)
        self._numbers = {name: number for number, name in enumerate(label_names)}

    def number(self, label: str) -> int:
        """Return the number of a class, which may be a new one."""
        if label in self._numbers:
            return self._numbers[label]
        last = self.num_known + NAMED_UNKNOWN_LABELS
        number = min(len(self.names), last)
        if number < last:
            self._numbers[label] = number
            self.names.append(label)
        elif len(self.names) == last:
            self.names.append("(other labels)")
        return number
