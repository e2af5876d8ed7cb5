"""How long a run trains, and what else the configuration leaves to the data.

The length of a run is counted in optimizer steps: an epoch of 24 rows is one step and an epoch of
100,000 rows is thousands, but a model needs hundreds of steps whatever the rows. The numbers here
weigh accuracy in cross-validation against time; see benchmarks/ACCURACY.md.
"""

import bisect
import copy
import math
import time
from typing import NamedTuple

import torch

from attnlstm.config.schema import BudgetConfig, TrainConfig, Validation
from attnlstm.console import counted
from attnlstm.data.batches import SequenceBatch
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.module import SequenceDataModule
from attnlstm.nn.random_convolutions import choose_dilations
from attnlstm.nn.stem import STEMS
from attnlstm.training.module import ClassificationModule
from attnlstm.training.optimization import build_optimizer
from attnlstm.training.preparation import EncodedDataset

VALIDATIONS = 25
"""About how many times a run is validated."""

TEXT_LENGTH = (7, 600, 20_000)
SHORT_SERIES_LENGTH = (30, 500, 4000)
LONG_SERIES_LENGTH = (50, 800, 4000)
"""Epochs of a run, and its fewest and most optimizer steps."""

LONG_SERIES = 48
"""Time steps from which series count as long."""

THRESHOLDS = 48
"""Thresholds of each fixed filter, over all dilations: about 4,000 features."""

MANY_ROWS = 10_000

TIMED_STEPS = 4


class Size(NamedTuple):
    """What the budget of a run depends on."""

    rows: int
    steps: float  # the median of the rows' time steps
    longest: int  # the largest number of time steps
    num_folds: int  # 0 without folds
    is_text: bool


def measure(encoded: EncodedDataset) -> Size:
    """Measure the training rows."""
    lengths, folds = encoded.splits["train"].lengths, encoded.dataset.folds
    return Size(
        rows=len(lengths),
        steps=float(lengths.float().median()),
        longest=int(lengths.max()),
        num_folds=0 if folds is None else int(folds.max()) + 1,
        is_text=isinstance(encoded.encoder, TextEncoder),
    )


def settle(config: TrainConfig, size: Size) -> TrainConfig:
    """Return the configuration with numbers, except epochs, where it leaves them to the data.

    config.yaml of a run holds the result, so that a resumed run does not decide again.
    """
    data, model, stem = config.data, config.model, config.model.stem
    fixed = model.random_convolutions
    if data.batch_size is None:
        data = data.model_copy(update={"batch_size": choose_batch_size(size)})
    if size.num_folds:
        model = model.model_copy(update={"ensemble_size": size.num_folds})
        config = config.model_copy(update={"num_folds": size.num_folds})
    if stem.name != "none":
        chosen = STEMS[stem.name].choose_options(size.steps)
        stem = stem.model_copy(update=chosen | stem.model_dump(exclude_none=True))
    if fixed is not None:
        dilations = fixed.dilations or choose_dilations(size.longest)
        thresholds = fixed.num_thresholds or max(1, THRESHOLDS // len(dilations))
        settled = {"dilations": dilations, "num_thresholds": thresholds}
        fixed = fixed.model_copy(update=settled)
    model = model.model_copy(update={"stem": stem, "random_convolutions": fixed})
    validation = "folds" if size.num_folds else "holdout"
    return config.model_copy(update={"validation": validation, "data": data, "model": model})


def choose_validation(config: TrainConfig) -> Validation:
    """Return `holdout` instead of `auto` for a refit or an ensemble, which rule out folds."""
    is_auto = config.validation == "auto"
    if is_auto and (config.refit is True or config.model.ensemble_size > 1):
        return "holdout"
    return config.validation


def choose_batch_size(size: Size) -> int:
    """Return the number of rows of a training batch: 16, fewer for few rows and more for many.

    Few rows are divided into four batches: the batch statistics of a single one would never vary.
    """
    if size.rows > MANY_ROWS:
        return 64 if size.rows > 5 * MANY_ROWS else 32
    return min(16, max(4, math.ceil(size.rows / 4)))


def choose_steps(size: Size) -> int:
    """Return the number of optimizer steps of a run."""
    series_length = SHORT_SERIES_LENGTH if size.steps < LONG_SERIES else LONG_SERIES_LENGTH
    epochs, fewest, most = TEXT_LENGTH if size.is_text else series_length
    batches = math.ceil(size.rows / choose_batch_size(size))
    return min(most, max(fewest, epochs * batches))


def count_steps(config: TrainConfig, batches: int) -> int:
    """Return the optimizer steps of an epoch of `batches`, which `trainer` may limit."""
    trainer = config.trainer
    limit = trainer.overfit_batches or trainer.limit_train_batches
    if isinstance(limit, float):
        batches = int(limit * batches)
    elif limit is not None:
        batches = min(limit, batches)
    return max(1, math.ceil(batches / trainer.accumulate_grad_batches))


def settle_length(
    config: TrainConfig,
    size: Size,
    batches: int,
    seconds: float,
    validation_seconds: float = 0.0,
    refits: bool = False,
) -> TrainConfig:
    """Return the configuration with the epochs of its budget, which is null afterwards.

    An epoch has `batches` in one process, an optimizer step takes `seconds`, and a validation
    `validation_seconds`. A refit takes as many steps again.
    """
    steps = config.budget.steps or choose_steps(size)
    if config.budget.minutes is not None:

        def duration(steps: int) -> float:
            """Return the seconds for training, validations and calibration, which is one more."""
            trainer = settle_epochs(config, batches, steps).trainer
            assert trainer.max_epochs is not None
            validations = 1 + trainer.max_epochs // (trainer.check_val_every_n_epoch or 1)
            return (1 + refits) * steps * seconds + validations * validation_seconds

        allowed = 60 * config.budget.minutes
        steps = max(1, bisect.bisect_right(range(1, steps + 1), allowed, key=duration))
    config = settle_epochs(config, batches, steps)
    return config.model_copy(update={"budget": BudgetConfig()})


def settle_epochs(config: TrainConfig, batches: int, num_steps: int) -> TrainConfig:
    """Return the configuration with as many epochs of `batches` as take about `num_steps` steps.

    About `VALIDATIONS` of them end in a validation, unless `trainer.check_val_every_n_epoch` is not
    1, its default, or `trainer.val_check_interval` is set. If the steps are fewer than those of an
    epoch, the only epoch is shorter.
    """
    steps_of_epoch = count_steps(config, batches)
    epochs = max(1, math.ceil(num_steps / steps_of_epoch))
    every = config.trainer.check_val_every_n_epoch
    if every == 1 and config.trainer.val_check_interval is None:
        every = max(1, epochs // VALIDATIONS)
    epochs = math.ceil(epochs / (every or 1)) * (every or 1)  # so that the last one is validated
    settled = {"max_epochs": epochs, "check_val_every_n_epoch": every}
    if num_steps < steps_of_epoch and not config.trainer.overfit_batches:
        settled["limit_train_batches"] = num_steps * config.trainer.accumulate_grad_batches
    return config.model_copy(update={"trainer": config.trainer.model_copy(update=settled)})


def time_step(
    module: ClassificationModule, datamodule: SequenceDataModule, device: torch.device
) -> float:
    """Return about how many seconds an optimizer step takes, measured on a copy of the model."""
    state = torch.get_rng_state()
    twin = copy.deepcopy(module).to(device).train()
    optimizer = build_optimizer(twin.parameters(), twin.config["optimizer"])
    split, batches = datamodule.splits["train"], list(datamodule.sampler("train", shuffle=True))
    started = time.monotonic()
    for number in range(1 + TIMED_STEPS):  # the first one warms up
        if number == 1:
            started = time.monotonic()
        batch = split.collate(batches[number * len(batches) // (1 + TIMED_STEPS)])
        optimizer.zero_grad()
        loss = twin.training_loss(SequenceBatch(*(tensor.to(device) for tensor in batch)))
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
    torch.set_rng_state(state)
    return (time.monotonic() - started) / TIMED_STEPS


def time_validation(
    module: ClassificationModule, datamodule: SequenceDataModule, device: torch.device
) -> float:
    """Return about how many seconds a validation takes, measured on a batch of middling length."""
    batches = list(datamodule.sampler("validation", shuffle=False))
    batch = datamodule.splits["validation"].collate(batches[len(batches) // 2])
    twin = copy.deepcopy(module.classifier).to(device).eval()
    for _ in range(2):  # the first one warms up
        started = time.monotonic()
        with torch.inference_mode():
            twin(batch.inputs.to(device), batch.lengths).logits.cpu()
    seconds = len(batches) * (time.monotonic() - started)
    # With folds, each row is classified by one member only.
    return seconds if module.folds is None else seconds / len(module.members)


def describe_length(config: TrainConfig, batches: int, seconds: float) -> str | None:
    """Describe the steps, epochs and duration of a settled run; None if nothing limits it."""
    steps_of_epoch, options = count_steps(config, batches), config.trainer
    limits = [options.max_steps, steps_of_epoch * (options.max_epochs or 0)]
    limits = [limit for limit in limits if limit > 0]  # others are none
    if not limits or options.fast_dev_run:
        return None
    steps, epochs = min(limits), math.ceil(min(limits) / steps_of_epoch)
    duration = describe_duration(steps * seconds)
    return (
        f"training takes {counted(steps, 'step')} in {counted(epochs, 'epoch')}, about {duration}"
    )


def describe_duration(seconds: float) -> str:
    """Return a short text for a time that is known roughly."""
    if seconds < 90:
        return f"{max(1, round(seconds)):d} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
