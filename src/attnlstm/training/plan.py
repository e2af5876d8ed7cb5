"""The length of a run: what the data asks for, how many epochs that is, and about how long."""

import logging
import math

import lightning

from attnlstm.config.data import TextConfig
from attnlstm.config.schema import BudgetConfig, TrainConfig
from attnlstm.data.splits import LabelledParts
from attnlstm.training.budget import (
    Size,
    choose_steps,
    count_steps,
    describe_duration,
    is_left_to_the_data,
    settle_epochs,
    time_step,
)
from attnlstm.training.preparation import Encoded, build_data, build_module

logger = logging.getLogger(__name__)


def plan(
    config: TrainConfig, rows: LabelledParts, encoded: Encoded, trainer: lightning.Trainer
) -> TrainConfig:
    """Say how long the run takes, and choose its epochs where they are left to the data.

    Of several processes, each takes its share of the batches.
    """
    data, module = build_data(config, rows, encoded), build_module(config, rows, encoded)
    if (line := describe_reading(config, encoded)) is not None:
        logger.info("%s", line)
    sampler = data.sampler("train", shuffle=True)
    logger.info("%d batches, %.1f %% padding", len(sampler), 100 * sampler.padding_share())
    seconds = time_step(module, data, trainer.strategy.root_device)
    batches = math.ceil(len(sampler) / trainer.world_size)
    if is_left_to_the_data(config):
        steps = config.budget.steps or choose_steps(measure(config, rows, encoded))
        if config.budget.minutes is not None:
            steps = max(1, min(steps, int(60 * config.budget.minutes / seconds)))
        config = settle_epochs(config, batches, steps)
    elif config.budget != BudgetConfig():
        logger.warning("budget is not used: trainer.max_epochs or max_steps says how long to train")
    steps_of_epoch, options = count_steps(config, batches), config.trainer
    limits = [options.max_steps, steps_of_epoch * (options.max_epochs or 0)]
    limits = [limit for limit in limits if limit > 0]  # others are none
    if limits and not options.fast_dev_run:
        logger.info(
            "training takes %d steps in %d epochs, about %s",
            min(limits),
            math.ceil(min(limits) / steps_of_epoch),
            describe_duration(min(limits) * seconds),
        )
    return config


def describe_reading(config: TrainConfig, encoded: Encoded) -> str | None:
    """How many training rows the LSTM reads a part of; None where it reads all in full."""
    most, lengths = config.model.max_steps, encoded.splits["train"].lengths
    longer = 0 if most is None else int((lengths > most).sum())
    if not longer:
        return None
    data, end = config.data, "first"
    is_texts = isinstance(data, TextConfig)
    if isinstance(data, TextConfig) and data.truncation == "tail":
        end = "last"
    units, rows = ("tokens", "texts") if is_texts else ("steps", "series")
    line = f"the LSTM reads the {end} {most:,} {units} of {longer:,} longer {rows}"
    is_alone = config.model.ngrams is None and config.model.random_convolutions is None
    expert = "n-grams" if is_texts else "fixed convolutions"
    return line if is_alone else f"{line}; the {expert} read all"


def measure(config: TrainConfig, rows: LabelledParts, encoded: Encoded) -> Size:
    """What a budget depends on."""
    lengths = encoded.splits["train"].lengths
    return Size(
        rows=len(lengths),
        steps=float(lengths.float().median()),
        longest=int(lengths.max()),
        num_folds=0 if rows.folds is None else int(rows.folds.max()) + 1,
        is_text=isinstance(config.data, TextConfig),
    )
