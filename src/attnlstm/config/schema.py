"""The typed schema of conf/: what can be set, of which type, and within which limits.

The defaults here are neutral ones (PyTorch's, Lightning's, or "off"); the values of a run stand in
conf/. Hydra composes those files and the command line, `attnlstm.config.checks` validates the
result by these models, and the configuration in a checkpoint likewise. Importing this module
imports neither torch nor lightning.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from attnlstm.config.checks import list_settings
from attnlstm.config.data import (
    DEFAULT_SOURCE,
    SOURCES,
    AnySource,
    DataConfig,
    Delimiter,
    OnBadRow,
    SeriesColumns,
    TextColumns,
    TextConfig,
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
from attnlstm.config.section import (
    Amount,
    Count,
    Files,
    Fraction,
    Name,
    Natural,
    Number,
    Positive,
    Section,
    Share,
    ShareBelowOne,
)
from attnlstm.errors import UserError

Backend = Literal["auto", "naive", "fused", "torch", "native"]
Activation = Literal["tanh", "sigmoid", "relu", "hard_sigmoid"]
SkipPoolingName = Literal["mean", "max"]
Validation = Literal["auto", "holdout", "folds"]
Split = Literal["train", "validation", "test"]


class LSTMConfig(Section):
    """The keyword arguments of `attnlstm.nn.LSTM`."""

    hidden_size: Count = 128
    """features of the hidden state, in each direction"""
    num_layers: Count = 1
    """LSTMs one above the other"""
    bias: bool = True
    """whether the gates have biases"""
    dropout: Share = 0.0
    """between layers, drawn at each step"""
    bidirectional: bool = True
    """whether a second LSTM reads from the end"""
    proj_size: Natural = 0
    """features that the hidden state is projected to; 0: no projection"""
    backend: Backend = "auto"
    """what runs the recurrence; auto: the fastest that can"""
    layer_norm: bool = False
    """whether gates and cell state are normalised"""
    activation: Activation = "tanh"
    """of the candidate and the output"""
    recurrent_activation: Activation = "sigmoid"
    """of the gates"""
    recurrent_dropout: Share = 0.0
    """of the hidden-to-hidden weights"""
    variational_dropout: Share = 0.0
    """between layers, drawn once for each sequence"""
    forget_bias: Annotated[float, Number] | None = None
    """first value of the forget gate's bias; null: as torch.nn.LSTM"""

    @model_validator(mode="after")
    def _check_combinations(self) -> Any:
        if self.proj_size >= self.hidden_size:
            raise UserError(
                f"model.lstm.proj_size={self.proj_size} must be smaller than "
                f"model.lstm.hidden_size={self.hidden_size}"
            )
        if self.forget_bias is not None and not self.bias:
            raise UserError("model.lstm.forget_bias needs model.lstm.bias=true")
        return self


class StemConfig(Section):
    """The stem of series and its options; None is an option that it does not have."""

    name: str = "none"
    """convolutions that read a series before the LSTM does, as registered in attnlstm.nn.stem"""
    stride: Annotated[int, Field(ge=1, le=65536), Number] | None = None
    """original steps for each step that is left, a power of 2; null: so that about 64 are left"""
    num_filters: Annotated[int, Field(ge=1, le=4096), Number] | None = None
    """features of a step that is left"""
    bottleneck: Annotated[int, Field(ge=1, le=4096), Number] | None = None
    """features that the wide convolutions of inception read"""
    kernel_sizes: list[Annotated[int, Number]] | None = None
    """odd widths of the convolutions of inception; null: from the number of steps"""


class EmbeddingConfig(Section):
    """The vectors of the tokens of texts."""

    size: Count = 128
    """numbers of a vector"""
    vectors: Name | None = None
    """glove-6b-50d beside the trained vectors, or a file from which these start"""
    freeze: bool = False
    """keep the vectors of that file as they are"""
    word_dropout: ShareBelowOne = 0.0
    """tokens made unknown"""
    embedding_dropout: ShareBelowOne = 0.0
    """word types left out, for a batch"""
    variational_dropout: ShareBelowOne = 0.0
    """features of the vectors, the same at each step of a text"""


class NgramsConfig(Section):
    """The classifier of n-grams of texts."""

    num_buckets: Annotated[int, Field(ge=1, le=1048576), Number] = 65536
    """rows of weights that pairs of words share"""
    sublinear_tf: bool = False
    """whether a word that occurs c times counts 1 + log(c)"""


class RandomConvolutionsConfig(Section):
    """The classifier of fixed convolutions of series; None is left to the data."""

    dilations: list[Annotated[int, Number]] | None = None
    """steps between the weights of a filter; null: the powers of 2 that fit"""
    num_thresholds: Annotated[int, Field(ge=1, le=64), Number] | None = None
    """thresholds of each filter; null: so that there are about 4,000 features"""


class ModelConfig(Section):
    """What each member consists of, from the embedding of texts or stem of series to the head."""

    embedding: EmbeddingConfig = EmbeddingConfig()
    """the vectors of the tokens of texts"""
    lstm: LSTMConfig = LSTMConfig()
    """the LSTM"""
    stem: StemConfig = StemConfig()
    """what reads a series before the LSTM does"""
    pooling: list[str] | str = Field(default=["hn_query"])
    """how a sequence becomes one vector: one or more of those registered in attnlstm.nn.pooling"""
    scaled_attention: bool = False
    """whether hn_query divides its scores by sqrt(features)"""
    skip_pooling: list[SkipPoolingName] | SkipPoolingName = Field(default=[])
    """how the LSTM's inputs become one vector, past the LSTM"""
    ngrams: NgramsConfig | None = None
    """a classifier of words and pairs of words beside the LSTM, of texts only; null: none"""
    random_convolutions: RandomConvolutionsConfig | None = None
    """a classifier of fixed filters beside the LSTM, of series only; null: none"""
    max_steps: Count | None = None
    """steps that the LSTM reads; null: all"""
    dropout: Share = 0.0
    """of the pooled vector, before the head"""
    ensemble_size: Count = 1
    """models trained side by side, whose mean is the answer"""

    @model_validator(mode="after")
    def _check_poolings(self) -> Any:
        for key in ("pooling", "skip_pooling"):
            names = getattr(self, key)
            if isinstance(names, list) and len(set(names)) < len(names):
                raise UserError(f"model.{key}=[{','.join(names)}] names one twice: leave it out")
        if self.pooling == []:
            raise UserError("model.pooling=[] pools nothing: name one, such as [hn_query]")
        return self


class LossConfig(Section):
    """Options of the cross entropy; with a gamma it is the focal loss."""

    label_smoothing: Share = 0.0
    """of the training targets"""
    focal_gamma: Amount = 0.0
    """above 0: focal loss, the easier a row, the less it counts"""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: the rarer a class, the more each of its rows counts"""


class BudgetConfig(Section):
    """How long a run trains where `trainer` does not say; None: as long as the data asks for."""

    steps: Annotated[int, Field(ge=1, le=10_000_000), Number] | None = None
    """optimizer steps; null: from the number of rows"""
    minutes: Positive | None = None
    """at most about this long"""


class TrainConfig(Section, defer_build=True):
    """conf/train.yaml.

    `optimizer` and `scheduler` hold the `name` of a class of torch.optim and its keyword arguments,
    which `attnlstm.training.optimization` checks; "keys" are those that an unknown key may mean,
    and what they do.
    """

    seed: Annotated[int, Field(ge=0, le=4294967295), Number] = 0
    """of everything that is drawn: splits, weights, batches, dropout"""
    budget: BudgetConfig = BudgetConfig()
    """how long to train where trainer.max_epochs and trainer.max_steps do not say"""
    validation: Validation = "holdout"
    """folds: each training row is held out by one of several models; holdout: a part of the rows"""
    num_folds: Annotated[int, Field(ge=2, le=20), Number] = 5
    """of validation=folds, as many models, which answer together"""
    refit: bool | Literal["auto"] = False
    """of validation=holdout: train anew on all rows, for the steps that were best"""
    baseline: Literal["auto", "none"] = "none"
    """auto: compare with TF-IDF and logistic regression, or MiniRocket and ridge regression"""
    data: Annotated[DataConfig, AnySource()] = Field(
        default_factory=lambda: SOURCES[DEFAULT_SOURCE]()
    )
    """which rows, and how they become batches"""
    model: ModelConfig = ModelConfig()
    """the classifier"""
    loss: LossConfig = LossConfig()
    """what training minimises"""
    optimizer: dict[str, Any] = Field(
        default={"name": "AdamW"},
        json_schema_extra={
            "keys": {
                "name": "a class of torch.optim; the other keys are its arguments",
                "lr": "the learning rate; with scheduler=one_cycle, the highest",
                "weight_decay": "how strongly weights are pulled to 0",
                "momentum": "share of the last step that is kept in the next",
                "betas": "the same of the running means of gradients and of their squares",
            }
        },
    )
    """a class of torch.optim and its arguments"""
    scheduler: dict[str, Any] = Field(
        default={"name": None},
        json_schema_extra={
            "keys": {
                "name": "a class of torch.optim.lr_scheduler; the other keys are its arguments",
                "interval": "when the learning rate changes: after each epoch, or optimizer step",
                "monitor": "the metric that ReduceLROnPlateau watches",
            }
        },
    )
    """a class of torch.optim.lr_scheduler and its arguments"""
    trainer: TrainerConfig = TrainerConfig()
    """arguments of lightning.Trainer"""
    callbacks: CallbacksConfig = CallbacksConfig()
    """checkpoints, early stopping and figures"""
    logger: LoggerConfig = LoggerConfig()
    """what is logged to besides the run folder"""
    num_threads: Count | None = None
    """of an operation on the CPU; more pay for large hidden sizes only; null: all cores"""
    runs_dir: Name = "runs"
    """folder of the folders of runs"""
    resume: Name | None = None
    """folder of a run that was stopped, or last: the newest; it goes on there"""

    @model_validator(mode="after")
    def _check_combinations(self) -> Any:
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


class EvaluateDataConfig(Section, defer_build=True):
    """Which rows to evaluate on; None is as in the checkpoint. Options of the sources are added."""

    split: Split = "test"
    """the part of the data"""
    on_bad_row: OnBadRow | None = None
    """what to do about rows that cannot be used"""
    batch_size: Count | None = None
    """rows that are evaluated together"""
    num_workers: Natural | None = None
    """processes that load batches"""


class EvaluateLSTMConfig(Section):
    """What may differ from training; None is as in the checkpoint."""

    backend: Backend | None = None
    """what runs the recurrence; null: as in training"""


class EvaluateModelConfig(Section):
    """What may differ from training."""

    lstm: EvaluateLSTMConfig = EvaluateLSTMConfig()
    """the LSTM"""


class EvaluateTrainerConfig(Section):
    """The arguments of lightning.Trainer that matter here; None is as in the checkpoint."""

    accelerator: Accelerator = "auto"
    """the kind of device"""
    precision: Precision | None = None
    """number format, such as bf16-mixed; null: as in training"""


class EvaluateConfig(Section, defer_build=True):
    """conf/evaluate.yaml."""

    ckpt: Name
    """a checkpoint of train.py"""
    data: Annotated[EvaluateDataConfig, WithSourceOptions()] = Field(
        default_factory=EvaluateDataConfig
    )
    """which rows; null is as in training"""
    model: EvaluateModelConfig = EvaluateModelConfig()
    """the classifier"""
    trainer: EvaluateTrainerConfig = EvaluateTrainerConfig()
    """the device and its numbers"""
    runs_dir: Name = "runs"
    """folder of the folders of runs"""


class PredictDataConfig(TextColumns, SeriesColumns, Delimiter):
    """How to read the input; None is as in the checkpoint."""

    batch_size: Count = 64
    """rows that are predicted together"""


class PredictConfig(Section):
    """conf/predict.yaml."""

    ckpt: Name
    """a checkpoint of train.py"""
    text: str | None = None
    """one text on the command line"""
    input: Files = None
    """a file, a glob or a list of them; "-": lines of text from standard input"""
    output: Name | None = None
    """.csv, .jsonl or .parquet; "-": CSV on standard output; null: in the run folder"""
    report: Name | None = None
    """an HTML page with the most interesting rows and what was attended to"""
    report_examples: Count = 300
    """rows on that page"""
    attention: bool = False
    """also write the weight of each token or time step"""
    prediction_sets: Fraction | None = None
    """0.9: also write sets of labels that have the true one in 9 of 10 rows"""
    data: PredictDataConfig = PredictDataConfig()
    """how to read the input; null is as in training"""
    model: EvaluateModelConfig = EvaluateModelConfig()
    """the classifier"""
    trainer: EvaluateTrainerConfig = EvaluateTrainerConfig()
    """the device and its numbers"""
    num_threads: Count | None = None
    """cores that work on batches; null: all"""
    runs_dir: Name = "runs"
    """folder of the folders of runs"""


Source = TypeVar("Source", bound=DataConfig)


def register_source(model: type[Source]) -> type[Source]:
    """Have `data.source` choose a model by the only value that its field `source` can have."""
    SOURCES[source_name(model)] = model
    for config in (TrainConfig, EvaluateConfig):
        if config.__pydantic_complete__:  # otherwise it is built when it is first used
            config.model_rebuild(force=True)
            list_settings.cache_clear()
    return model
