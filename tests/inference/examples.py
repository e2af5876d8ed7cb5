"""Rows of texts and series that models learn."""

import csv
import random
from pathlib import Path

import numpy as np

TOPICS = {
    "sport": ["match", "goal", "team", "coach", "season", "striker"],
    "money": ["market", "shares", "profit", "bank", "merger", "investor"],
    "film": ["actor", "scene", "director", "cinema", "premiere", "script"],
}
FILLERS = ["the", "a", "was", "of", "said", "and", "on", "after", "new", "in"]


def make_texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Return texts with a few words of one topic each, and the topics."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        topic = list(TOPICS)[number % len(TOPICS)]
        words = generator.choices(FILLERS, k=generator.randint(2, 12))
        words += generator.choices(TOPICS[topic], k=generator.randint(1, 3))
        generator.shuffle(words)
        rows.append((" ".join(words), topic))
    return rows


def write_csv(path: Path, header: list[str], rows: list) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def make_series(count: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Return noisy rising or falling lines of 5 to 12 steps in two channels, and their labels."""
    generator = np.random.default_rng(seed)
    series, labels = [], []
    for number in range(count):
        steps = np.arange(generator.integers(5, 13))
        slope = 1 if number % 2 else -1
        rising = slope * steps + generator.normal(size=len(steps))
        series.append(np.stack([rising, generator.normal(size=len(steps))], axis=1))
        labels.append("up" if number % 2 else "down")
    return series, labels


def write_long_table(path: Path, series: list[np.ndarray], labels: list[str]) -> Path:
    rows = [
        [f"s{number}", step, values[0], values[1], label]
        for number, (steps, label) in enumerate(zip(series, labels, strict=True))
        for step, values in enumerate(steps)
    ]
    return write_csv(path, ["id", "time", "height", "noise", "label"], rows)


def make_unsure_texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Return texts of three words of one topic; four in ten have the label of a random topic."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        topic = generator.choice(list(TOPICS))
        words = " ".join(generator.choices(TOPICS[topic], k=3))
        rows.append((words, generator.choice(list(TOPICS)) if generator.random() < 0.4 else topic))
    return rows
