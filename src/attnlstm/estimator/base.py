"""What the estimators share: they train on Python objects as the command line does on files."""

import tempfile
import warnings
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from attnlstm.checkpoint.content import LABEL_TYPE_KEY, read_checkpoint
from attnlstm.checkpoint.load import TrainedModel, load_checkpoint
from attnlstm.config.data import SOURCES, Task, own_options
from attnlstm.config.schema import PredictConfig
from attnlstm.console import enumerate_names
from attnlstm.data.checks import BadRows
from attnlstm.data.containers import Values, read_values
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.memory import MemoryRows
from attnlstm.errors import UserError
from attnlstm.files import replacing

DEFAULTS = {"baseline": "baseline=none", "callbacks": "callbacks.figures=null"}
"""What a fit leaves out, unless an override is about it."""

SAVED = ("best", "validated", "last")
"""The checkpoints that an interrupted training may have written, the best one first."""

ESTIMATORS: Mapping[str, str] = {
    "classification": "AttentionLSTMClassifier",
    "ordinal": "AttentionLSTMClassifier",
    "multilabel": "AttentionLSTMMultilabelClassifier",
    "regression": "AttentionLSTMRegressor",
}
"""The estimator of each task."""

DELEGATED = {*TrainedModel.__dataclass_fields__, "task", "temperature"}


class DataError(UserError, ValueError):
    """A UserError, as the ValueError that scikit-learn expects."""


class AttentionLSTMEstimator(BaseEstimator):
    """What the estimators of all tasks share; see `AttentionLSTMClassifier` for the arguments."""

    TASKS: ClassVar[tuple[Task, ...]]
    """What `task` may be; the first is the default."""

    _text_column: str | None = None

    def __init__(self, overrides: Sequence[str] = (), random_state: Any = None) -> None:
        self.overrides = overrides
        self.random_state = random_state

    def fit(self, X: Any, y: Any, **unknown: Any) -> Self:
        """Train on rows and what is to be predicted of them, and return self.

        Ctrl-C ends the training early: the model is then the best so far, with a warning. Trainings
        in several threads take turns.

        Args:
            X: texts: a list or a column of strings, or a table with a column of texts. Or series:
                an array `[row, channel, time]`, an array or a table `[row, time]`, or a list of
                arrays `[time, channel]` of any lengths. NaN at the end of a series is padding.
            y: see the class.

        Raises:
            ValueError: something about the data or the settings; it is also a UserError.
        """
        for name in unknown:
            can_weight = "weight" in name and self.TASKS[0] == "classification"
            hint = "; loss.class_weights=balanced weights classes" if can_weight else ""
            raise TypeError(f"fit does not support {name}{hint}")
        if y is None:
            raise DataError("fit requires y to be passed, but the target y is None")
        with as_value_error():
            values = self._read(X, reset=True)
            rows, label_type = self._read_rows(values, y)
            self._train(rows, values, label_type)
        return self

    @abstractmethod
    def _read_rows(self, values: Values, y: Any) -> tuple[MemoryRows, str]:
        """Return the rows to train on and the type of their labels, a key of `LABEL_TYPES`."""

    def attention(self, X: Any) -> list[np.ndarray]:
        """Return the attention on each step or token that the LSTM has read, `[time]` a row.

        The tokens of a text are `model.encoder.tokens(text)`.

        Raises:
            ValueError: the model's pooling has no attention; it is also a UserError.
        """
        weights = [prediction.attention for prediction in self._predict(X)]
        if any(row is None for row in weights):
            raise DataError(f"model.pooling={self.config.model.pooling} has no attention")
        return weights

    def save(self, path: str | Path) -> None:
        """Write the checkpoint, which `attnlstm.load` and the command line read.

        Raises:
            OSError: it cannot be written.
        """
        check_is_fitted(self)
        with replacing(Path(path)) as partial:
            partial.write_bytes(self.checkpoint_)

    def _read(self, X: Any, reset: bool) -> Values:
        """Read X; a table must have the columns that were fitted, or sets them if `reset`."""
        if reset:
            values = read_values(X, self._overridden().get("data.text_column"))
        else:
            values = read_values(X, usual=self._text_column)
        if reset:
            self._text_column = values.text_column
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
            if values.left_out:
                warnings.warn(
                    f"the texts are those of column {values.text_column!r}; left out: "
                    f"{enumerate_names(values.left_out)}",
                    stacklevel=3,
                )
        if values.table is None:
            return values
        table = validate_data(self, values.table, reset=reset, ensure_all_finite="allow-nan")
        if values.steps is None:
            return Values(series=list(table[:, :, None]))
        return Values(series=list(np.swapaxes(table[:, values.steps], 1, 2)))

    def _overridden(self) -> dict[str, str]:
        """Return the values of the overrides by their keys."""
        if isinstance(self.overrides, str):
            raise UserError(f"overrides={self.overrides!r}: give a list of strings")
        pairs = [text.lstrip("+").partition("=") for text in self.overrides]
        return {key: value for key, _, value in pairs}

    def _train(self, rows: MemoryRows, values: Values, label_type: str) -> None:
        # Not at the top: importing these takes seconds, and prediction does without.
        from attnlstm.cli.in_process import compose_job, interruptible, logged
        from attnlstm.data.encoders.encoding import caching_in
        from attnlstm.training.process import undisturbed_process
        from attnlstm.training.run import train

        given = self._overridden()
        overrides = self._complete("series_files" if values.texts is None else "text_files")
        is_interrupted, metrics = False, {}
        with (
            tempfile.TemporaryDirectory(prefix="attnlstm_", ignore_cleanup_errors=True) as folder,
            undisturbed_process(),
            caching_in(Path(folder) / "cache"),
        ):
            job = compose_job(overrides)
            with (
                logged(job) if "runs_dir" in given else nullcontext(Path(folder) / "run") as run_dir
            ):
                try:
                    with interruptible():
                        carves_test = "data.test_fraction" in given
                        result = train(job.config, run_dir, {"train": rows}, carves_test)
                    metrics, checkpoint = result.metrics, result.checkpoint
                except KeyboardInterrupt:
                    checkpoints = [run_dir / "checkpoints" / f"{name}.ckpt" for name in SAVED]
                    checkpoint = next((path for path in checkpoints if path.is_file()), None)
                    if checkpoint is None:
                        raise
                    is_interrupted = True
                if checkpoint is None:
                    raise UserError(
                        "the training wrote no checkpoint: leave callbacks.checkpoint and "
                        "trainer.enable_checkpointing on, and trainer.fast_dev_run off"
                    )
                self._finish(checkpoint, label_type)
        self.metrics_ = metrics
        if is_interrupted:
            warnings.warn(
                "the training was interrupted: the model is the best so far", stacklevel=3
            )

    def _complete(self, source: str) -> list[str]:
        """Return the overrides of a command line that trains on files of such rows."""
        given = self._overridden()
        of_files = {f"data.{name}" for name in own_options(SOURCES[source])} - {"data.text_column"}
        wrong = [key for key in given if key in {*of_files, "data.source", "resume"}]
        if given.get("data", source) != source:
            wrong.append(f"data={given['data']}")
        if "hydra.run.dir" in given:
            raise UserError(
                "overrides: hydra.run.dir: name runs_dir, in which each fit has a folder"
            )
        if wrong:
            what = "series" if source == "series_files" else "texts"
            raise UserError(f"overrides: {', '.join(wrong)}: the rows are the {what} given to fit")
        self._check_task(given.get("task"))
        defaults = [
            default
            for section, default in (DEFAULTS | {"task": f"task={self.TASKS[0]}"}).items()
            if not any(key.partition(".")[0] == section for key in given)
        ]
        own = [text for text in self.overrides if not text.startswith("data=")]
        if self.random_state is not None:
            seed = self.random_state
            if not isinstance(seed, int | np.integer):
                seed = check_random_state(seed).randint(2**31 - 1)
            own.append(f"seed={seed}")
        return [f"data={source}", *defaults, *own]

    def _check_task(self, task: str | None) -> None:
        """Raise a UserError if the overrides ask for a task of another estimator."""
        if task is not None and task not in self.TASKS:
            advice = f"use {ESTIMATORS[task]}" if task in ESTIMATORS else "leave it out"
            raise UserError(
                f"overrides: task={task} is not for {type(self).__name__}, whose task is "
                f"{' or '.join(self.TASKS)}: {advice}"
            )

    def _finish(self, checkpoint: Path, label_type: str) -> None:
        """Add the type of the labels to a checkpoint, and keep its content."""
        from attnlstm.training.checkpoint_io import WholeFileCheckpointIO

        loaded = read_checkpoint(checkpoint).loaded | {LABEL_TYPE_KEY: label_type}
        WholeFileCheckpointIO().save_checkpoint(loaded, checkpoint)
        self._adopt(load_checkpoint(checkpoint), checkpoint.read_bytes())

    def _adopt(self, trained: TrainedModel, checkpoint: bytes, backend: str | None = None) -> None:
        """Become the model of a checkpoint with this content."""
        self.trained_ = trained
        self.checkpoint_ = checkpoint
        self._backend = backend

    def _predict(self, X: Any, coverage: float | None = None) -> list[Any]:
        """Return a `Prediction` for each row, all of which can be predicted.

        coverage: of the intervals that the predictions have; None: they have none.
        """
        from attnlstm.data.encoders.encoding import batches_of
        from attnlstm.inference.prediction import build_predictor

        check_is_fitted(self)
        config = PredictConfig(ckpt="X", prediction_sets=coverage)
        with as_value_error():
            values = self._read(X, reset=False)
            reads_texts = isinstance(self.encoder, TextEncoder)
            if reads_texts != (values.texts is not None):
                kinds = ("texts", "series") if reads_texts else ("series", "texts")
                raise UserError("this model reads {}, and X has {}".format(*kinds))
            with _same_threads():
                predictor = build_predictor(config, self.trained_)
                chunks = predictor.predict_chunks(batches_of(MemoryRows(values)))
                predictions = list(chain.from_iterable(chunks))
            bad: dict[str, BadRows] = defaultdict(BadRows)
            for prediction in predictions:
                if prediction.error is not None:
                    bad[prediction.error].add(prediction.row)
            if bad:
                problems = [f"{problem} in X, {rows}" for problem, rows in bad.items()]
                raise UserError(f"{'; '.join(problems)}. Rows and channels count from 0")
        return predictions

    def __getattr__(self, name: str) -> Any:
        if name in DELEGATED and "trained_" in self.__dict__:
            return getattr(self.trained_, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("trained_", None)  # which the checkpoint holds, in a form for other versions
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "checkpoint_" in state:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                path = Path(folder) / "model.ckpt"
                path.write_bytes(self.checkpoint_)
                self._adopt(load_checkpoint(path, self._backend), self.checkpoint_, self._backend)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.three_d_array = True
        return tags


@contextmanager
def as_value_error() -> Iterator[None]:
    """Raise a `DataError` where a UserError is raised."""
    try:
        yield
    except DataError:
        raise
    except UserError as error:
        raise DataError(str(error)) from error


@contextmanager
def _same_threads() -> Iterator[None]:
    """Restore torch's number of threads, which a `Predictor` needs to be 1."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
