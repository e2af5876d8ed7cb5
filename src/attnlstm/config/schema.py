"""The typed schema of conf/: every setting, its type and its limits.

Defaults are neutral here (PyTorch's, Lightning's, or "off"); the values of a run are in conf/.
Hydra composes those files with the command line, and `attnlstm.config.checks` validates the result
with these models, as it does the configuration in a checkpoint. Importing this module imports
neither torch nor lightning.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from attnlstm.config.checks import list_settings
from attnlstm.config.data import (
    DEFAULT_SOURCE,
    SOURCES,
    AnySource,
    Arrays,
    DataConfig,
    Layout,
    OnBadRow,
    SeriesColumns,
    TableFormat,
    Task,
    TaskChoice,
    TextColumns,
    TextConfig,
    Windowing,
    WithSourceOptions,
    source_name,
)
from attnlstm.config.lightning import (
    Accelerator,
    CallbacksConfig,
    LoggerConfig,
    Precision,
    TrainerConfig,
)
from attnlstm.config.model import Backend, ModelConfig
from attnlstm.config.section import (
    Amount,
    BatchSize,
    Files,
    Fraction,
    Name,
    Number,
    NumThreads,
    NumWorkers,
    Positive,
    Section,
    Share,
)
from attnlstm.errors import UserError

Validation = Literal["auto", "holdout", "folds"]
Split = Literal["train", "validation", "test"]


class LossConfig(Section):
    """Cross entropy, or for a regression the Huber loss, and their options."""

    label_smoothing: Share = 0.0
    """label smoothing of the training loss"""
    focal_gamma: Amount = 0.0
    """above 0: focal loss, which gives easy rows less weight"""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weights inversely proportional to class frequencies"""
    huber_delta: Positive | None = 1.0
    """error, in standard deviations of the target, from which it counts linearly; null: squared"""


class BudgetConfig(Section):
    """How long a run trains unless `trainer` says so; None is chosen from the data."""

    steps: Annotated[int, Field(ge=1, le=10_000_000), Number] | None = None
    """optimizer steps; null: chosen from the number of rows"""
    minutes: Positive | None = None
    """most minutes for training, validation and refit together, roughly"""


class TrainConfig(Section, defer_build=True):
    """conf/train.yaml.

    `optimizer` and `scheduler` hold the `name` of a class of torch.optim and its keyword arguments,
    which `attnlstm.training.optimization` checks; "keys" are the ones that `--help` explains.
    """

    task: TaskChoice = "classification"
    """what to predict; auto: what the labels are plainly for"""
    seed: Annotated[int, Field(ge=0, le=4294967295), Number] = 0
    """seed of all random numbers: splits, weights, batches, dropout"""
    budget: BudgetConfig = BudgetConfig()
    """training time, unless trainer.max_epochs or trainer.max_steps is set"""
    validation: Validation = "holdout"
    """folds: one model per fold, validated on rows held out from it; holdout: one fixed split"""
    num_folds: Annotated[int, Field(ge=2, le=20), Number] = 5
    """number of folds with validation=folds; the models are averaged"""
    refit: bool | Literal["auto"] = False
    """with validation=holdout: train again on all rows, for the best number of steps"""
    baseline: Literal["auto", "none"] = "none"
    """auto: compare with TF-IDF + logistic regression, or MiniRocket + ridge regression"""
    data: Annotated[DataConfig, AnySource()] = Field(
        default_factory=lambda: SOURCES[DEFAULT_SOURCE]()
    )
    """the rows, and how they are batched"""
    model: ModelConfig = ModelConfig()
    """the classifier"""
    loss: LossConfig = LossConfig()
    """the training loss"""
    optimizer: dict[str, Any] = Field(
        default={"name": "AdamW"},
        json_schema_extra={
            "keys": {
                "name": "a class of torch.optim; the other keys are its arguments",
                "lr": "the learning rate; with scheduler=one_cycle, the highest",
                "weight_decay": "weight decay",
                "momentum": "momentum",
                "betas": "decay rates of the running means of gradients and their squares",
            }
        },
    )
    """a class of torch.optim and its arguments"""
    scheduler: dict[str, Any] = Field(
        default={"name": None},
        json_schema_extra={
            "keys": {
                "name": "a class of torch.optim.lr_scheduler; the other keys are its arguments",
                "interval": "epoch or step: when the learning rate changes",
                "monitor": "the metric that ReduceLROnPlateau watches",
            }
        },
    )
    """a class of torch.optim.lr_scheduler and its arguments"""
    trainer: TrainerConfig = TrainerConfig()
    """arguments of lightning.Trainer"""
    callbacks: CallbacksConfig = CallbacksConfig()
    """checkpointing, early stopping and figures"""
    logger: LoggerConfig = LoggerConfig()
    """loggers in addition to the files of the run folder"""
    num_threads: NumThreads = "auto"
    """CPU threads; auto: OMP_NUM_THREADS, else as many as the processors that the run may use"""
    max_memory: Positive | None = None
    """GB of memory that training may take; null: what is available"""
    runs_dir: Name = "runs"
    """folder for the run folders"""
    resume: Name | None = None
    """folder of an interrupted run to continue; last: the newest run"""
    overwrite: bool = False
    """whether to use a run folder that has files in it already"""

    @model_validator(mode="after")
    def _check_combinations(self) -> Any:
        self._check_task()
        model, size = self.model, self.model.ensemble_size
        if self.validation == "folds" and size not in (1, self.num_folds):
            raise UserError(
                f"model.ensemble_size={size} and validation=folds, which trains num_folds models: "
                "set num_folds instead, or choose validation=holdout"
            )
        if isinstance(self.data, TextConfig):
            if model.random_convolutions is not None:
                raise UserError("model.random_convolutions are of series: set it to null")
            if model.stem.name != "none":
                raise UserError(f"model/stem={model.stem.name} is for series: choose none")
        else:
            if model.embedding.vectors:
                raise UserError("model.embedding.vectors are for texts: choose data=text_files")
            if model.ngrams is not None:
                raise UserError("model.ngrams are of texts: set model.ngrams=null")
        return self

    def _check_task(self) -> None:
        if self.task in ("regression", "multilabel") and self.data.sampler == "balanced":
            raise UserError(
                f"data.sampler=balanced is for rows of one class each, and not for "
                f"task={self.task}: choose shuffled"
            )
        if self.task in ("regression", "multilabel") and self.loss.class_weights != "none":
            raise UserError(
                f"loss.class_weights={self.loss.class_weights} is for rows of one class each, and "
                f"not for task={self.task}: leave it out"
            )
        if self.task == "regression" and self.loss.focal_gamma:
            raise UserError(
                f"loss.focal_gamma={self.loss.focal_gamma:g} is for classes, and not for "
                "task=regression: leave it out"
            )

    def for_task(self, task: Task) -> Self:
        """Return this configuration with the task that the labels are for.

        Raises:
            UserError: a setting does not apply to the task.
        """
        settled = self.model_copy(update={"task": task})
        settled._check_task()
        return settled


class EvaluateDataConfig(Section, defer_build=True):
    """The rows to evaluate on; None is as in training. The options of the sources are added."""

    split: Split = "test"
    """the part of the data to evaluate on"""
    on_bad_row: OnBadRow | None = None
    """rows that cannot be used: stop, drop, drop! or a share; null: as in training"""
    batch_size: BatchSize | None = None
    """rows per batch"""
    num_workers: NumWorkers | None = None
    """processes that load batches"""


class EvaluateLSTMConfig(Section):
    """What may differ from training; None is as in training."""

    backend: Backend | None = None
    """what runs the recurrence; null: as in training"""


class EvaluateModelConfig(Section):
    """What may differ from training."""

    lstm: EvaluateLSTMConfig = EvaluateLSTMConfig()
    """the LSTM"""


class EvaluateTrainerConfig(Section):
    """The arguments of lightning.Trainer that matter here; None is as in training."""

    accelerator: Accelerator = "auto"
    """the kind of device"""
    precision: Precision | None = None
    """numeric precision, such as bf16-mixed; null: as in training"""


class InferenceConfig(Section):
    """What an evaluation and a prediction share."""

    ckpt: Name
    """a checkpoint, a run folder (its best.ckpt, else last.ckpt), or last: the newest run"""
    keep: Name | list[Name] | None = None
    """columns of the input to write too: all, none or a list; null: the text or the series' id"""
    model: EvaluateModelConfig = EvaluateModelConfig()
    """the classifier"""
    trainer: EvaluateTrainerConfig = EvaluateTrainerConfig()
    """device and precision"""
    runs_dir: Name = "runs"
    """folder for the run folders"""
    overwrite: bool = False
    """whether to replace files that exist, and use a folder that has files in it already"""


class EvaluateConfig(InferenceConfig, defer_build=True):
    """conf/evaluate.yaml."""

    data: Annotated[EvaluateDataConfig, WithSourceOptions()] = Field(
        default_factory=EvaluateDataConfig
    )
    """the rows; null: as in training"""


class PredictDataConfig(TextColumns, SeriesColumns, Arrays, Windowing, TableFormat):
    """How to read the input; None is as in training."""

    layout: Layout | None = None
    """what a line is: a step of a series (long) or a series (wide)"""
    batch_size: BatchSize = 64
    """rows per batch"""


class PredictConfig(InferenceConfig):
    """conf/predict.yaml."""

    text: str | None = None
    """a single text to classify"""
    input: Files = None
    """a file, a glob or a list of them; "-": one text per line of standard input"""
    output: Name | None = None
    """.csv, .jsonl or .parquet; "-": CSV on standard output; null: in the run folder"""
    report: Name | None = None
    """an HTML page of the most interesting rows and their attention"""
    report_examples: Annotated[int, Field(ge=1, le=100_000), Number] = 300
    """number of rows in the report"""
    attention: bool = False
    """whether to write the attention of each token or time step"""
    prediction_sets: Fraction | None = None
    """coverage of sets of labels or intervals of numbers; 0.9: 9 of 10 contain the true one"""
    data: PredictDataConfig = PredictDataConfig()
    """how to read the input; null: as in training"""
    num_threads: NumThreads = "auto"
    """CPU threads; auto: OMP_NUM_THREADS, else as many as the processors that it may use"""


Source = TypeVar("Source", bound=DataConfig)


def register_source(model: type[Source]) -> type[Source]:
    """Have `data.source` choose a model by the only value that its field `source` can have."""
    SOURCES[source_name(model)] = model
    for config in (TrainConfig, EvaluateConfig):
        if config.__pydantic_complete__:  # otherwise it is built when it is first used
            config.model_rebuild(force=True)
            list_settings.cache_clear()
    return model
