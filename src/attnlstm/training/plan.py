"""The length of a run: what the data asks for, how many epochs that is, and about how long."""

import logging
import math

import lightning

from attnlstm.checkpoint.classifier import describe_reading
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
    longest = config.model.max_steps
    num_longer = 0 if longest is None else int((encoded.splits["train"].lengths > longest).sum())
    if num_longer:
        logger.info("%s", describe_reading(config, num_longer))
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
