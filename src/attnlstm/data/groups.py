"""Which groups of rows, such as the rows of one user, are for which part of the data."""

import warnings
from operator import itemgetter

import numpy as np

ORDERS = 10


def connect(contents: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return a number for each row, equal for rows that must stay together, `[row]`.

    These are rows of the same group, rows with the same content, and rows that are connected by
    such rows. Numbers are in the order of the first rows.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = np.arange(len(contents))
    links = []
    for values in (contents, groups):
        _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        links.append(first[inverse])  # each row is linked to the first one with the same value
    graph = coo_matrix(
        (np.ones(2 * len(rows), bool), (np.tile(rows, 2), np.concatenate(links))),
        (len(rows), len(rows)),
    )
    _, component = connected_components(graph, directed=False)
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def choose_groups(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose whole groups with about a fraction of each class, the same for the same seed.

    The groups are gone through in random order. One is chosen if that brings the shares of the
    classes, the squared differences from `fraction` summed, closer to it; but never the last rows
    of a class. The best of `ORDERS` such choices counts. If all groups are too large, the one that
    comes closest is chosen.

    Args:
        labels: class numbers, `[row]`.
        groups: group numbers, `[row]`.

    Returns:
        Which rows are chosen, `[row]` bool; none if each group has all rows of a class.
    """
    counts = count_classes(labels, groups)  # [group, class]
    totals = counts.sum(axis=0)
    counts, totals = counts[:, totals > 0], totals[totals > 0]
    generator = np.random.default_rng(seed)

    def distance(taken: np.ndarray) -> float:
        return float(((taken / totals - fraction) ** 2).sum())

    best: tuple[float, list[int]] = (distance(0 * totals), [])
    for order in (generator.permutation(len(counts)) for _ in range(ORDERS)):
        chosen, taken = [], 0 * totals
        for group in order:
            more = taken + counts[group]
            if (more < totals).all() and distance(more) < distance(taken):
                chosen.append(group)
                taken = more
        best = min(best, (distance(taken), chosen), key=itemgetter(0))
    if not best[1]:
        possible = [group for group in order if (counts[group] < totals).all()]
        best = (0, [min(possible, key=lambda group: distance(counts[group]))] if possible else [])
    return np.isin(groups, best[1])


def deal_groups(labels: np.ndarray, groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row, `[row]`: scikit-learn's StratifiedGroupKFold.

    There are fewer folds if there are fewer groups; at least two groups are needed.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    num_folds = min(num_folds, int(groups.max()) + 1)
    if np.bincount(labels).max() < num_folds:  # which StratifiedGroupKFold refuses
        return groups % num_folds
    folds = np.zeros(len(labels), np.int64)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes with fewer rows than folds
        for fold, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
            folds[rows] = fold
    return np.unique(folds, return_inverse=True)[1]  # without folds that have no rows


def count_classes(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the number of rows by group and class, `[group, class]`."""
    counts = np.zeros((int(groups.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (groups, labels), 1)
    return counts
