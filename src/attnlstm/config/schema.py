"""The typed schema of conf/: what can be set, of which type, and within which limits.

The defaults here are neutral ones (PyTorch's, Lightning's, or "off"); the values of a run stand in
conf/. Hydra composes those files and the command line, `attnlstm.config.checks` validates the
result by these models, and the configuration in a checkpoint likewise. Importing this module
imports neither torch nor lightning.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

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
    ShareAboveZero,
    ShareBelowOne,
)
from attnlstm.errors import UserError

OnBadRow = Literal["stop", "drop"]
Truncation = Literal["head", "tail"]
Backend = Literal["auto", "naive", "fused", "torch", "native"]
Activation = Literal["tanh", "sigmoid", "relu", "hard_sigmoid"]
PoolingName = Literal["hn_query", "learned_query", "last_state", "mean", "max"]
SkipPoolingName = Literal["mean", "max"]
StemName = Literal["none", "conv", "inception"]
Validation = Literal["auto", "holdout", "folds"]
Split = Literal["train", "validation", "test"]


class TokenizerConfig(Section):
    """How texts become tokens."""

    kind: Literal["word", "bpe", "unigram", "character"] = "word"
    """what a text is cut into"""
    vocab_size: Annotated[int, Field(ge=2), Number] = 30000
    """the most frequent tokens that are kept"""
    min_frequency: Count = 1
    """tokens that are rarer in the training texts are unknown"""
    lowercase: bool = True
    """whether capitals count as small letters"""
    file: Name | None = None
    """a tokenizer.json instead of one that is trained here"""


class DataConfig(Section):
    """What all sources have: a name for the run, and how rows are split and become batches."""

    name: str = ""
    """the set, and the folder of its runs"""
    val_fraction: Fraction = 0.2
    """share of the training rows for validation, where they have no file of their own"""
    test_fraction: Fraction = 0.2
    """share of the training rows for the test, where it has no file of its own"""
    on_bad_row: OnBadRow = "stop"
    """what to do about rows that cannot be used"""
    crop: ShareAboveZero | None = None
    """training reads random pieces of at least this share of a row; null: whole rows"""
    batch_size: Count | None = 16
    """rows in training, four times as many in evaluation; null: from the number of rows"""
    batch_tokens: Count | None = None
    """steps of a batch, padding included, instead of batch_size"""
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    """how an epoch's rows are drawn: each once, or every class equally often"""
    num_workers: Natural = 0
    """processes that load batches; 0: none besides the training itself"""


class TextConfig(DataConfig):
    """What sources of texts have in common."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    """how texts become tokens"""
    max_length: Count | None = None
    """tokens that are kept of a text; null: all"""
    truncation: Truncation = "head"
    """the end of a text that is kept"""


class SeriesConfig(DataConfig):
    """What sources of time series have in common."""

    normalize: bool = True
    """normalise each channel by the mean and deviation of the training rows"""
    noise: Amount = 0.0
    """standard deviation of the Gaussian noise that is added in training"""


class FileParts(Section):
    """Files of rows."""

    train: Files = None
    """training rows: a file, a glob or a list of them"""
    validation: Files = None
    """validation rows; null: a part of train"""
    test: Files = None
    """test rows; null: a part of train"""


class LabelColumn(Section):
    """The column that tables of texts and of series both have."""

    label_column: Name | None = None
    """column of the labels; null: the one with a usual name"""


class TextColumns(LabelColumn):
    """The columns of tables of texts."""

    text_column: Name | None = None
    """column of the texts; null: the one with a usual name"""


class SeriesColumns(LabelColumn):
    """The columns of long tables of series."""

    id_column: Name | None = None
    """column that says which series a line belongs to; null: the one with a usual name"""
    time_column: Name | None = None
    """column that says the order of the steps; null: as they come"""
    channel_columns: list[str] | None = None
    """columns of the values; null: all others"""


class Delimiter(Section):
    """How lines of CSV files are parted."""

    delimiter: str | None = None
    """what parts the columns of CSV and TSV files; null: found out"""


class HubName(Section):
    """A data set of the Hugging Face Hub."""

    path: Name | None = None
    """name on the Hub, such as stanfordnlp/imdb, or a folder laid out like one"""
    subset: str | None = None
    """one of the data set, where it has some"""


class ArchiveConfig(SeriesConfig):
    """Sets of the UCR and UEA archives of time series."""

    source: Literal["archive"] = "archive"
    """where the rows come from"""
    name: str = "JapaneseVowels"
    """the set, and the folder of its runs"""


class SeriesFilesConfig(SeriesColumns, Delimiter, FileParts, SeriesConfig):
    """Files of series: .ts, .npz, and long tables."""

    source: Literal["series_files"] = "series_files"
    """where the rows come from"""


class BBCNewsConfig(TextConfig):
    """2,225 news articles of 5 topics, in a Python package."""

    source: Literal["bbc_news"] = "bbc_news"
    """where the rows come from"""


class TextFilesConfig(TextColumns, Delimiter, FileParts, TextConfig):
    """Tables of texts: CSV, TSV, JSON lines, Parquet, folders saved by datasets."""

    source: Literal["text_files"] = "text_files"
    """where the rows come from"""


class HubTextConfig(TextColumns, HubName, TextConfig):
    """Texts of the Hugging Face Hub."""

    source: Literal["hub_text"] = "hub_text"
    """where the rows come from"""


DATA_CONFIGS: dict[str, type[DataConfig]] = {
    "archive": ArchiveConfig,
    "bbc_news": BBCNewsConfig,
    "text_files": TextFilesConfig,
    "hub_text": HubTextConfig,
    "series_files": SeriesFilesConfig,
}
"""The model of each source."""


def drop_keys_of_other_sources(values: dict[str, Any]) -> None:
    """What the section `data` of checkpoints and config.yaml has held for any source, up to 0.1."""
    model = DATA_CONFIGS[values["source"]]
    for name in ("tokenizer", "truncation", "normalize"):
        if name not in model.model_fields:
            values.pop(name, None)


def _prepare(values: Any) -> Any:
    """Without a source it is the archive; another source's key that is empty is left out."""
    if not isinstance(values, dict):
        return values
    values = {"source": "archive"} | values
    model = DATA_CONFIGS.get(str(values["source"]))
    if model is None:
        return values
    known = {name for other in DATA_CONFIGS.values() for name in other.model_fields}
    needless = known - model.model_fields.keys()
    return {
        name: value
        for name, value in values.items()
        if name not in needless or value not in (None, 0, []) or value is False
    }


AnyDataConfig = Annotated[
    Annotated[
        ArchiveConfig | BBCNewsConfig | TextFilesConfig | HubTextConfig | SeriesFilesConfig,
        Field(discriminator="source"),
    ],
    BeforeValidator(_prepare),
]


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

    name: StemName = "none"
    """convolutions that read a series before the LSTM does"""
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
    pooling: list[PoolingName] | PoolingName = Field(default=["hn_query"])
    """how a sequence becomes one vector: one, or several side by side"""
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


class TrainConfig(Section):
    """conf/train.yaml.

    `optimizer` and `scheduler` hold the `name` of a class of torch.optim and its keyword arguments,
    which `attnlstm.training.optimization` checks; "keys" are those that an unknown key may mean.
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
    data: AnyDataConfig = ArchiveConfig()
    """which rows, and how they become batches"""
    model: ModelConfig = ModelConfig()
    """the classifier"""
    loss: LossConfig = LossConfig()
    """what training minimises"""
    optimizer: dict[str, Any] = Field(
        default={"name": "AdamW"},
        json_schema_extra={"keys": ["name", "lr", "weight_decay", "momentum", "betas"]},
    )
    """a class of torch.optim and its arguments"""
    scheduler: dict[str, Any] = Field(
        default={"name": None}, json_schema_extra={"keys": ["name", "interval", "monitor"]}
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


class EvaluateDataConfig(TextColumns, FileParts, HubName):
    """Which rows to evaluate on; None is as in the checkpoint."""

    split: Split = "test"
    """the part of the data"""
    name: str | None = None
    """another set of the archive"""
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


class EvaluateConfig(Section):
    """conf/evaluate.yaml."""

    ckpt: Name
    """a checkpoint of train.py"""
    data: EvaluateDataConfig = EvaluateDataConfig()
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
