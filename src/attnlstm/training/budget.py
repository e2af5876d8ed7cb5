"""How long and on what a run trains where the configuration leaves it to the data.

Length is counted in optimizer steps: an epoch of 24 rows is one step, and one of 100,000 rows is
thousands, but a model needs hundreds of steps to learn anything whatever the rows. The numbers
here weigh accuracy in cross-validation against time; benchmarks/ACCURACY.md says which is which.
"""

import copy
import logging
import math
import time
from typing import NamedTuple

import torch

from attnlstm.config.schema import BudgetConfig, TrainConfig, Validation
from attnlstm.data.batches import SequenceBatch
from attnlstm.data.module import SequenceDataModule
from attnlstm.nn.random_convolutions import choose_dilations
from attnlstm.nn.stem import choose_kernel_sizes, choose_stride
from attnlstm.training.module import ClassificationModule
from attnlstm.training.optimization import build_optimizer

logger = logging.getLogger(__name__)

VALIDATIONS = 25
"""About how many times a run is validated."""

SERIES_PASSES = 50
SHORT_SERIES_PASSES = 30
TEXT_PASSES = 7
"""How often a run goes through the training rows, within the bounds of its optimizer steps."""

SERIES_STEPS = (800, 4000)
SHORT_SERIES_STEPS = (500, 4000)
TEXT_STEPS = (600, 20_000)
"""The fewest and the most optimizer steps of a run that is left to the data."""

LONG_SERIES = 48
"""Steps from which series count as long: they take more steps of training, and wider kernels."""

THRESHOLDS = 48
"""Of each fixed filter at all dilations together: about 4,000 features."""

MANY_ROWS = 10_000

TIMED_STEPS = 4


class Size(NamedTuple):
    """What of the data a budget depends on.

    rows: to train on.
    steps: of a row, the median.
    longest: the most steps of a row.
    num_folds: 0 without folds.
    """

    rows: int
    steps: float
    longest: int
    num_folds: int
    is_text: bool


def settle(config: TrainConfig, size: Size) -> TrainConfig:
    """The configuration with numbers where it leaves them to the data, but for the epochs.

    It is what config.yaml of a run holds, so that a resumed run does not decide anew.
    """
    data, model = config.data, config.model
    if data.batch_size is None:
        data = data.model_copy(update={"batch_size": choose_batch_size(size)})
    if size.num_folds:
        model = model.model_copy(update={"ensemble_size": size.num_folds})
        config = config.model_copy(update={"num_folds": size.num_folds})
    stem = model.stem
    if stem.name != "none" and stem.stride is None:
        stem = stem.model_copy(update={"stride": choose_stride(size.steps)})
    if stem.name == "inception" and stem.kernel_sizes is None:
        stem = stem.model_copy(update={"kernel_sizes": choose_kernel_sizes(size.steps)})
    model = model.model_copy(update={"stem": stem})
    if model.random_convolutions is not None:
        fixed = model.random_convolutions
        dilations = fixed.dilations or choose_dilations(size.longest)
        thresholds = fixed.num_thresholds or max(1, THRESHOLDS // len(dilations))
        settled = {"dilations": dilations, "num_thresholds": thresholds}
        fixed = fixed.model_copy(update=settled)
        model = model.model_copy(update={"random_convolutions": fixed})
    validation = "folds" if size.num_folds else "holdout"
    return config.model_copy(update={"validation": validation, "data": data, "model": model})


def choose_validation(config: TrainConfig) -> Validation:
    """`auto`, or a part held out where a refit or an ensemble is asked for, which fit no folds."""
    is_open = config.validation == "auto"
    if is_open and (config.refit is True or config.model.ensemble_size > 1):
        return "holdout"
    return config.validation


def settle_epochs(config: TrainConfig, batches: int, num_steps: int) -> TrainConfig:
    """The configuration with as many epochs of `batches` as take about `num_steps` steps.

    There are `VALIDATIONS` of them that end in a validation, or fewer where there are fewer, unless
    `trainer.check_val_every_n_epoch` is another number than 1, its default. Of
    rows that are too many for one epoch, it is an epoch of as many batches as there are steps for.
    """
    steps_of_epoch = count_steps(config, batches)
    epochs = max(1, math.ceil(num_steps / steps_of_epoch))
    every = config.trainer.check_val_every_n_epoch
    if every == 1:
        every = max(1, epochs // VALIDATIONS)
    epochs = math.ceil(epochs / (every or 1)) * (every or 1)  # so that the last one is validated
    settled = {"max_epochs": epochs, "check_val_every_n_epoch": every}
    if num_steps < steps_of_epoch and not config.trainer.overfit_batches:
        settled["limit_train_batches"] = num_steps * config.trainer.accumulate_grad_batches
    trainer = config.trainer.model_copy(update=settled)
    # the budget is settled by that
    return config.model_copy(update={"trainer": trainer, "budget": BudgetConfig()})


def is_left_to_the_data(config: TrainConfig) -> bool:
    """Whether the length of the run is; Lightning's own limits come first."""
    trainer = config.trainer
    return trainer.max_epochs is None and trainer.max_steps == -1


def count_steps(config: TrainConfig, batches: int) -> int:
    """Optimizer steps of an epoch of `batches`, of which `trainer` may use a part."""
    trainer = config.trainer
    limit = trainer.overfit_batches or trainer.limit_train_batches
    if isinstance(limit, float):
        batches = int(limit * batches)
    elif limit is not None:
        batches = min(limit, batches)
    return max(1, math.ceil(batches / trainer.accumulate_grad_batches))


def choose_batch_size(size: Size) -> int:
    """Rows of a training batch: 16, fewer of few rows and more of many.

    Of few rows, so that an epoch has four batches: with one, batch statistics are always the same.
    """
    if size.rows > MANY_ROWS:
        return 64 if size.rows > 5 * MANY_ROWS else 32
    return min(16, max(4, math.ceil(size.rows / 4)))


def choose_steps(size: Size) -> int:
    """Optimizer steps of a run."""
    passes, (fewest, most) = SERIES_PASSES, SERIES_STEPS
    if size.is_text:
        passes, (fewest, most) = TEXT_PASSES, TEXT_STEPS
    elif size.steps < LONG_SERIES:
        passes, (fewest, most) = SHORT_SERIES_PASSES, SHORT_SERIES_STEPS
    batches = math.ceil(size.rows / choose_batch_size(size))
    return min(most, max(fewest, passes * batches))


def time_step(
    module: ClassificationModule, data: SequenceDataModule, device: torch.device
) -> float:
    """Seconds that an optimizer step takes about, on a copy of the model, which stays as it is."""
    state = torch.get_rng_state()
    twin = copy.deepcopy(module).to(device).train()
    optimizer = build_optimizer(twin.parameters(), twin.config["optimizer"])
    split, batches = data.splits["train"], list(data.sampler("train", shuffle=True))
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


def describe_duration(seconds: float) -> str:
    """A few words for a time that is known roughly."""
    if seconds < 90:
        return f"{max(1, round(seconds)):d} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
