"""Compare whole epochs of `python train.py` with a plain nn.LSTM loop, and time parts of a step.

    python -m benchmarks.training
    python -m benchmarks.training --sets JapaneseVowels --backends native --seeds 0 1 2
    python -m benchmarks.training --epochs 3 --output training.json

The plain loop is the straightforward implementation: nn.LSTM on packed batches, attention with h_n,
a DataLoader that shuffles and pads, and no framework. It uses the sizes, dropout, ensemble, batch
size, optimizer, schedule, threads and epochs of the configuration, and validates after each epoch.
It does not support dropout of the recurrent weights, because nn.LSTM does not, and writes no
checkpoints, logs or figures.

Both train on the same rows and take turns, epoch by epoch; the first epoch of each is a warm-up. An
epoch of train.py is everything from its beginning to the beginning of the next. "x plain" is the
median over the epochs of the speedup; "x in all" compares the total times, including the epochs
that draw figures. The accuracies are those of the weights after the last epoch.

A step is divided into data, forward pass, backward pass and optimizer, which includes the schedule
and gradient clipping. The framework is everything else between the beginning of an epoch and its
validation.
"""

import argparse
import json
import logging
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader

from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig
from attnlstm.console import print_table
from attnlstm.data.module import SequenceDataModule
from attnlstm.data.sources.source import open_sources
from attnlstm.data.splits import split_sources
from attnlstm.training.budget import measure as measure_data
from attnlstm.training.budget import settle
from attnlstm.training.fit import fit
from attnlstm.training.module import ClassificationModule
from attnlstm.training.optimization import build_optimizer, build_scheduler
from attnlstm.training.preparation import build_datamodule, build_module, encode
from attnlstm.training.threads import limit_threads
from attnlstm.training.trainer import build_trainer, silence_known_warnings
from benchmarks.lstm import spread
from benchmarks.machine import describe_machine
from benchmarks.plain_classifier import PlainClassifier, collate_plainly, to_rows
from benchmarks.recipes import CONF

SETS = {
    "JapaneseVowels": [],
    "BasicMotions": ["data.name=BasicMotions"],
    "bbc_news": ["data=bbc_news"],
}
"""The overrides of `python train.py` for each set."""

PLAIN = [
    *("model/stem=none", "model.pooling=[hn_query]", "model.skip_pooling=[]", "model.ngrams=null"),
    *("validation=holdout", "data.batch_size=16", "trainer.max_epochs=30"),
]
"""Overrides that match the plain classifier and its loop."""

PARTS = ("data", "forward", "backward", "optimizer", "framework")

ACTIONS = {
    "[_TrainingEpochLoop].train_dataloader_next": "data",
    "[LightningDataModule]SequenceDataModule.on_after_batch_transfer": "data",  # the noise
    "[Strategy]SingleDeviceStrategy.training_step": "forward",
    "[Strategy]SingleDeviceStrategy.backward": "backward",
    "[LightningModule]ClassificationModule.optimizer_zero_grad": "optimizer",
    "[LightningModule]ClassificationModule.configure_gradient_clipping": "optimizer",
    "[LightningModule]ClassificationModule.lr_scheduler_step": "optimizer",
}
"""Maps the action names of Lightning's profilers to the parts of a step."""

Epoch = dict[str, float]
"""The seconds of each part, summed over the steps, and of the whole as "epoch"."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["JapaneseVowels", "bbc_news"])
    parser.add_argument("--backends", nargs="+", default=["fused", "torch", "native"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="override the configuration; at least 3")
    parser.add_argument("--threads", type=int, help="override the configuration")
    parser.add_argument("--output", type=Path, help="JSON file for all measurements")
    options = parser.parse_args()
    if options.epochs is not None and options.epochs < 3:
        parser.error("--epochs: at least 3, because the first is a warm-up")
    logging.basicConfig(level=logging.WARNING)
    silence_known_warnings()
    # The same number of epochs for both: no early stopping and no refit.
    overrides = ["callbacks.early_stopping=null", "refit=false", "baseline=none", *PLAIN]
    if options.epochs is not None:
        overrides.append(f"trainer.max_epochs={options.epochs}")
    if options.threads is not None:
        overrides.append(f"num_threads={options.threads}")
    results = []
    for name in options.sets:
        for backend in options.backends:
            choices = [*SETS[name], f"model.lstm.backend={backend}", *overrides]
            runs = [
                measure(compose_config(CONF, "train", TrainConfig, [*choices, f"seed={seed}"]))
                for seed in options.seeds
            ]
            result = {"name": f"{name}, {backend}", "threads": torch.get_num_threads()}
            results.append(result | summarize(runs))
    print_epochs(results)
    print_steps(results)
    if options.output is not None:
        content = {"machine": describe_machine(), "results": results}
        options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure(config: TrainConfig) -> dict[str, Any]:
    """Train both in turns; return their epochs, without the first, and their test accuracies."""
    limit_threads(config.num_threads)
    dataset = split_sources(open_sources(config.data), config.data, config.seed)
    config = config.for_task(dataset.task)
    encoded = encode(config, dataset)
    config = settle(config, measure_data(encoded))
    module, data = build_module(config, encoded), build_datamodule(config, encoded)
    plain = PlainTraining(config, module, data)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, Path(folder))
        turns = Turns(plain)
        trainer.profiler = turns.clock
        trainer.callbacks.insert(0, turns)  # first, so that the time of the others is counted
        fit(trainer, module, data)
        tested = trainer.test(module, data, verbose=False)
    return {
        "batches": len(data.sampler("train", shuffle=True)),
        "ours": {"epochs": turns.ours[1:], "accuracy": tested[0]["test/accuracy"]},
        "plain": {"epochs": turns.plain[1:], "accuracy": plain.accuracy("test")},
    }


class Clock(Profiler):
    """Sums the time of each part of the steps; the time of an inner part counts only there."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Begin an epoch, in the part "framework"."""
        self.seconds: Epoch = defaultdict(float)
        self.parts = ["framework"]
        self.since = time.perf_counter()

    def enter(self, part: str) -> None:
        self._count()
        self.parts.append(part)

    def leave(self) -> None:
        self._count()
        self.parts.pop()

    def read(self) -> Epoch:
        """Return the seconds of each part since the last reset."""
        self._count()
        return {part: self.seconds[part] for part in PARTS}

    def start(self, action_name: str) -> None:
        if action_name in ACTIONS:
            self.enter(ACTIONS[action_name])

    def stop(self, action_name: str) -> None:
        if action_name in ACTIONS:
            self.leave()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its calls count for the part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return call

    def _count(self) -> None:
        now = time.perf_counter()
        self.seconds[self.parts[-1]] += now - self.since
        self.since = now


class Turns(Callback):
    """Lets the plain loop train an epoch before each epoch of Lightning, and times both."""

    def __init__(self, plain: "PlainTraining") -> None:
        self.clock = Clock()
        self.plain_training = plain
        self.plain: list[Epoch] = []
        self.ours: list[Epoch] = []
        self.steps: Epoch | None = None  # of the current epoch

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Time the parts for which Lightning has no action names."""
        module.log = self.clock.timed("framework", module.log)
        (optimizer,) = trainer.optimizers

        def begin(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.clock.enter("optimizer")
            # Lightning calls the closure, with the forward and backward pass, within the step.
            return args, kwargs | {"closure": self.clock.timed("framework", kwargs["closure"])}

        optimizer.register_step_pre_hook(begin)
        optimizer.register_step_post_hook(lambda *_: self.clock.leave())

    def on_train_epoch_start(self, *_: Any) -> None:
        self._finish()
        self.plain.append(self.plain_training.train_epoch())
        self.started = time.perf_counter()
        self.clock.reset()

    def on_validation_start(self, *_: Any) -> None:
        self.steps = self.clock.read()

    def on_train_end(self, *_: Any) -> None:
        self._finish()

    def _finish(self) -> None:
        if self.steps is not None:
            self.ours.append(self.steps | {"epoch": time.perf_counter() - self.started})


class PlainTraining:
    """The plain loop, on the rows of `data` and with the options of the configuration."""

    def __init__(
        self, config: TrainConfig, module: ClassificationModule, data: SequenceDataModule
    ) -> None:
        self.config = config
        self.noise = config.data.noise
        size = config.data.batch_size
        self.loaders = {
            name: DataLoader(
                to_rows(split), size, shuffle=name == "train", collate_fn=collate_plainly
            )
            for name, split in data.splits.items()
        }
        with torch.random.fork_rng():  # here and below: keeps the random state of train.py
            torch.manual_seed(config.seed)
            self.models = nn.ModuleList(
                PlainClassifier(config, module) for _ in range(config.model.ensemble_size)
            )
            self.random_state = torch.get_rng_state()
        options = config.model_dump()
        self.optimizer = build_optimizer(self.models.parameters(), options["optimizer"])
        steps = len(self.loaders["train"]) * int(config.trainer.max_epochs or 0)
        self.scheduler = build_scheduler(self.optimizer, options["scheduler"], steps)

    def train_epoch(self) -> Epoch:
        """Train one epoch and validate."""
        deterministic = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)  # a plain loop would not pay their cost
        with torch.random.fork_rng():
            torch.set_rng_state(self.random_state)
            started = time.perf_counter()
            epoch = self._train_steps()
            self.accuracy("validation")
            epoch["epoch"] = time.perf_counter() - started
            self.random_state = torch.get_rng_state()
        torch.use_deterministic_algorithms(deterministic)
        return epoch

    def _train_steps(self) -> Epoch:
        self.models.train()
        clock = Clock()
        clock.enter("data")
        for inputs, lengths, targets in self.loaders["train"]:
            if self.noise:
                inputs = inputs + self.noise * torch.randn_like(inputs)
            clock.leave()
            clock.enter("forward")
            losses = [
                F.cross_entropy(
                    model(inputs, lengths),
                    targets,
                    label_smoothing=self.config.loss.label_smoothing,
                )
                for model in self.models
            ]
            loss = torch.stack(losses).mean()
            clock.leave()
            clock.enter("backward")
            loss.backward()
            clock.leave()
            clock.enter("optimizer")
            nn.utils.clip_grad_norm_(
                self.models.parameters(), self.config.trainer.gradient_clip_val
            )
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            clock.leave()
            clock.enter("data")
        clock.leave()
        return clock.read()

    @torch.no_grad()
    def accuracy(self, name: str) -> float:
        """Return the accuracy of the models' mean probabilities."""
        self.models.eval()
        correct = total = 0
        for inputs, lengths, targets in self.loaders[name]:
            answers = [model(inputs, lengths).softmax(dim=1) for model in self.models]
            predictions = torch.stack(answers).mean(dim=0).argmax(dim=1)
            correct += int((predictions == targets).sum())
            total += len(targets)
        return correct / total


def summarize(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over all epochs of all seeds, in milliseconds, and the test accuracies."""
    result: dict[str, Any] = {}
    for name in ("ours", "plain"):
        epochs = [epoch for run in runs for epoch in run[name]["epochs"]]
        seconds = [epoch["epoch"] for epoch in epochs]
        steps = {
            part: 1e3 * median(epoch[part] for epoch in epochs) / runs[0]["batches"]
            for part in PARTS
        }
        result[name] = {
            "epoch": 1e3 * median(seconds),
            "spread": spread(seconds),
            "step": steps,
            "accuracies": [run[name]["accuracy"] for run in runs],
        }
    pairs = [
        plain["epoch"] / ours["epoch"]
        for run in runs
        for ours, plain in zip(run["ours"]["epochs"], run["plain"]["epochs"], strict=True)
    ]
    ours, plain = (
        sum(epoch["epoch"] for run in runs for epoch in run[name]["epochs"])
        for name in ("ours", "plain")
    )
    result |= {
        "times_plain": median(pairs),
        "times_plain_spread": spread(pairs),
        "times_plain_in_all": plain / ours,
    }
    return result


def print_epochs(results: Sequence[dict[str, Any]]) -> None:
    times, accuracies = [], []
    for result in results:
        name, ours, plain = result["name"], result["ours"], result["plain"]
        times.append(
            [
                name,
                f"{ours['epoch']:.0f}",
                f"{plain['epoch']:.0f}",
                f"{result['times_plain']:.2f}",
                f"{result['times_plain_spread']:.0%}",
                f"{result['times_plain_in_all']:.2f}",
            ]
        )
        accuracies.append([name, *(f"{mean(found['accuracies']):.4f}" for found in (ours, plain))])
    columns = ["", "ms", "plain ms", "x plain", "spread", "x in all"]
    print_table("an epoch of train.py, compared with the plain loop", columns, times)
    print_table("test accuracy", ["", "train.py", "plain loop"], accuracies)


def print_steps(results: Sequence[dict[str, Any]]) -> None:
    rows = []
    for result in results:
        for name in ("ours", "plain"):
            step = result[name]["step"]
            total = sum(step.values())
            shares = [f"{step[part] / total:.0%}" for part in PARTS]
            label = result["name"] if name == "ours" else "its plain loop"
            rows.append([label, f"{total:.2f}", *shares])
    print_table("a step, in milliseconds, and the share of each part", ["", "ms", *PARTS], rows)


if __name__ == "__main__":
    main()
