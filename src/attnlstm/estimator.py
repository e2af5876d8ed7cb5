"""A scikit-learn estimator on Python objects, which trains as the command line does."""

import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from attnlstm.checkpoint.content import LABEL_TYPE_KEY, read_checkpoint
from attnlstm.checkpoint.find import find_checkpoint
from attnlstm.checkpoint.load import TrainedModel, load_checkpoint
from attnlstm.config.data import SOURCES, own_options
from attnlstm.config.schema import PredictConfig
from attnlstm.console import enumerate_names
from attnlstm.data.checks import BadRows
from attnlstm.data.containers import Values, read_values
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.memory import MemoryRows, read_labels
from attnlstm.errors import UserError
from attnlstm.files import replacing

DEFAULTS = {"baseline": "baseline=none", "callbacks": "callbacks.figures=null"}
"""What a fit leaves out, unless an override is about it."""

SAVED = ("best", "validated", "last")
"""The checkpoints that an interrupted training may have written, the best one first."""

DELEGATED = {*TrainedModel.__dataclass_fields__, "temperature"}


class DataError(UserError, ValueError):
    """A UserError, as the ValueError that scikit-learn expects."""


class AttentionLSTMClassifier(ClassifierMixin, BaseEstimator):
    """Classifies texts or time series; trains with the settings of `attnlstm train`.

        model = AttentionLSTMClassifier(overrides=["budget.minutes=2"]).fit(texts, labels)

    All rows are trained and validated on, and give the same weights as the same rows in files: as
    `data.train`, beside any `data.test`. The override `data.test_fraction=0.2` holds out test rows,
    as the command line does without `data.test`.

    Only a temporary folder is written to, unless an override names `runs_dir`: then there is a run
    folder, as on the command line.

    A fitted model also has the attributes of `TrainedModel`, such as `label_names` and `encoder`.

    Args:
        overrides: settings as on the command line, such as `"model.lstm.hidden_size=64"`.
        random_state: the seed, or a RandomState to draw it from; None: the setting `seed`, 0 unless
            overridden.

    Attributes:
        classes_: the labels `[class]`, sorted.
        n_features_in_: the number of steps, if X was a table `[row, time]`.
        feature_names_in_: the columns of this table, if they have names.
        metrics_: of the test rows, such as "test/accuracy"; empty if none were held out.
        trained_: the `TrainedModel`.
        checkpoint_: the content of the checkpoint file.
    """

    def __init__(self, overrides: Sequence[str] = (), random_state: Any = None) -> None:
        self.overrides = overrides
        self.random_state = random_state

    def fit(self, X: Any, y: Any, **unknown: Any) -> Self:
        """Train on rows and their labels, and return self.

        Ctrl-C ends the training early: the model is then the best so far, with a warning. Trainings
        in several threads take turns.

        Args:
            X: texts: a list or a column of strings, or a table with a column of texts. Or series:
                an array `[row, channel, time]`, an array or a table `[row, time]`, or a list of
                arrays `[time, channel]` of any lengths. NaN at the end of a series is padding.
            y: `[row]` labels: strings, integers or booleans.

        Raises:
            ValueError: something about the data or the settings; it is also a UserError.
        """
        for name in unknown:
            hint = "; loss.class_weights=balanced weights classes" if "weight" in name else ""
            raise TypeError(f"fit does not support {name}{hint}")
        if y is None:
            raise DataError("fit requires y to be passed, but the target y is None")
        with _as_value_error():
            values = self._read(X, reset=True)
            labels, label_type = read_labels(y)
            rows = MemoryRows(values, labels)
            if len(rows) != len(labels):
                raise UserError(f"X has {len(rows)} rows and y has {len(labels)}")
            self._train(rows, values, label_type)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return calibrated probabilities `[row, class]`, in the order of `classes_`."""
        rows = [prediction.probabilities for prediction in self._predict(X)]
        probabilities = np.array(rows, dtype=np.float64)[:, self._order]
        return probabilities / probabilities.sum(axis=1, keepdims=True)  # they are rounded

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
            self._text_column: str | None = values.text_column
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
        defaults = [
            default
            for section, default in DEFAULTS.items()
            if not any(key.partition(".")[0] == section for key in given)
        ]
        own = [text for text in self.overrides if not text.startswith("data=")]
        if self.random_state is not None:
            seed = self.random_state
            if not isinstance(seed, int | np.integer):
                seed = check_random_state(seed).randint(2**31 - 1)
            own.append(f"seed={seed}")
        return [f"data={source}", *defaults, *own]

    def _finish(self, checkpoint: Path, label_type: str) -> None:
        """Add the type of the labels to a checkpoint, and keep its content."""
        from attnlstm.training.checkpoint_io import WholeFileCheckpointIO

        loaded = read_checkpoint(checkpoint).loaded | {LABEL_TYPE_KEY: label_type}
        WholeFileCheckpointIO().save_checkpoint(loaded, checkpoint)
        self._adopt(checkpoint)

    def _adopt(self, checkpoint: Path, backend: str | None = None) -> None:
        """Become the model of a checkpoint."""
        self.trained_ = load_checkpoint(checkpoint, backend)
        self.checkpoint_ = checkpoint.read_bytes()
        self._backend = backend
        labels = np.array(self.trained_.classes)
        self._order = labels.argsort()
        self.classes_ = labels[self._order]

    def _predict(self, X: Any) -> list[Any]:
        """Return a `Prediction` for each row, all of which can be predicted."""
        from attnlstm.data.encoders.encoding import batches_of
        from attnlstm.inference.prediction import build_predictor

        check_is_fitted(self)
        with _as_value_error():
            values = self._read(X, reset=False)
            reads_texts = isinstance(self.encoder, TextEncoder)
            if reads_texts != (values.texts is not None):
                kinds = ("texts", "series") if reads_texts else ("series", "texts")
                raise UserError("this model reads {}, and X has {}".format(*kinds))
            with _same_threads():
                predictor = build_predictor(PredictConfig(ckpt="X"), self.trained_)
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
                self._adopt(path, self._backend)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.three_d_array = True
        return tags


def load(path: str | Path, backend: str | None = None) -> AttentionLSTMClassifier:
    """Return the fitted classifier of a checkpoint; nothing in the file is executed.

    It also has the attributes of the `TrainedModel`, such as `classifier` and `encoder`. The labels
    are strings, unless an estimator was fitted on others and saved.

    Args:
        path: a file that `attnlstm train` or `AttentionLSTMClassifier.save` has written, a run
            folder, or "last" for the newest run in runs/.
        backend: runs the LSTM; None: the one it was trained with.

    Raises:
        UserError: see `read_checkpoint`; or the backend cannot run this LSTM.
    """
    model = AttentionLSTMClassifier()
    model._text_column = None
    model._adopt(find_checkpoint(str(path), "runs"), backend)
    return model


@contextmanager
def _as_value_error() -> Iterator[None]:
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
