"""The typed schema of conf/: what can be set, of which type, and within which limits.

The defaults here are neutral ones (PyTorch's, Lightning's, or "off"); the values of a run stand in
conf/. Hydra checks names and types while it composes conf/, `attnlstm.config.checks` does the rest.
Importing this module imports neither torch nor lightning.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hydra.core.config_store import ConfigStore


def within(interval: str, default: Any, fractions: str | None = None) -> Any:
    """A number in an interval such as "[0, 1)"; in the interval `fractions`, if it is a float."""
    return field(default=default, metadata={"interval": interval, "fractions": fractions})


def one_of(*choices: Any, default: Any) -> Any:
    """One of some values that are no Python names, as the members of an Enum must be."""
    return field(default=default, metadata={"choices": choices})


DEVICES = {
    "hint": int | str | list[int],
    "interval": "[-1, inf)",
    "pattern": (r"auto|-?\d+(,\d+)*", "auto, or numbers with commas"),
}
"""Limits of Lightning's `devices`: OmegaConf has no union with a list in it."""

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")

STRATEGIES = (
    "auto",
    *(
        f"ddp{start}{unused}"
        for start in ("", "_fork", "_notebook", "_spawn")
        for unused in ("", "_find_unused_parameters_false", "_find_unused_parameters_true")
    ),
    *("deepspeed", "deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_2_offload"),
    *("deepspeed_stage_3", "deepspeed_stage_3_offload", "deepspeed_stage_3_offload_nvme"),
    *("fsdp", "fsdp_cpu_offload", "single_device", "single_tpu", "single_xla", "xla", "xla_debug"),
)

PRECISIONS = (
    *(16, 32, 64, "bf16", "16-mixed", "16-true", "32-true", "64-true", "bf16-mixed", "bf16-true"),
    *("transformer-engine", "transformer-engine-float16"),
)


TEXT_SOURCES = ("bbc_news", "text_files", "hub_text")

DATA_OPTIONS = {
    "path": ("hub_text",),
    "subset": ("hub_text",),
    "train": ("text_files", "series_files"),
    "validation": ("text_files", "series_files"),
    "test": ("text_files", "series_files"),
    "text_column": ("text_files", "hub_text"),
    "label_column": ("text_files", "hub_text", "series_files"),
    "id_column": ("series_files",),
    "time_column": ("series_files",),
    "channel_columns": ("series_files",),
    "delimiter": ("text_files", "series_files"),
    "max_length": TEXT_SOURCES,
    "noise": ("archive", "series_files"),
}
"""The options of `DataConfig` that only some sources have; the others leave them empty."""

METRICS = ("accuracy", "macro_f1", "auroc", "calibration_error")

MONITORED = ("val/loss", *(f"val/{name}" for name in METRICS), "train/loss")
"""What callbacks and schedulers can watch: the values that every run logs."""


LOWER_IS_BETTER = ("loss", "calibration_error")


FILES = {"hint": str | list[str] | None}
"""One file, a glob, or several: OmegaConf has no union with a list in it."""


class DataSource(StrEnum):
    """Where the rows come from."""

    archive = "archive"
    bbc_news = "bbc_news"
    text_files = "text_files"
    hub_text = "hub_text"
    series_files = "series_files"


class OnBadRow(StrEnum):
    """What to do about rows that cannot be used."""

    stop = "stop"
    drop = "drop"


class TokenizerKind(StrEnum):
    """What a text is cut into."""

    word = "word"
    bpe = "bpe"
    unigram = "unigram"
    character = "character"


class Truncation(StrEnum):
    """Which end of a text is kept."""

    head = "head"
    tail = "tail"


class SamplerName(StrEnum):
    """How an epoch's rows are drawn: each once, or every class equally often."""

    shuffled = "shuffled"
    balanced = "balanced"


class Backend(StrEnum):
    """Which implementation runs the recurrence."""

    auto = "auto"
    naive = "naive"
    fused = "fused"
    torch = "torch"
    native = "native"


class Activation(StrEnum):
    """A function inside the LSTM cell."""

    tanh = "tanh"
    sigmoid = "sigmoid"
    relu = "relu"
    hard_sigmoid = "hard_sigmoid"


class PoolingName(StrEnum):
    """How a sequence becomes one vector."""

    hn_query = "hn_query"
    learned_query = "learned_query"
    last_state = "last_state"
    mean = "mean"
    max = "max"


class StemName(StrEnum):
    """What reads a series before the LSTM does."""

    none = "none"
    conv = "conv"
    inception = "inception"


class SkipPoolingName(StrEnum):
    """How the LSTM's inputs become one vector, past the LSTM."""

    mean = "mean"
    max = "max"


class Validation(StrEnum):
    """Which rows a run is watched on: a part of them, or by turns all."""

    auto = "auto"
    holdout = "holdout"
    folds = "folds"


class ClassWeights(StrEnum):
    """How much the loss of a row counts: the same for all, or inversely to its class's rows."""

    none = "none"
    balanced = "balanced"


class BaselineChoice(StrEnum):
    """What a run is compared with: what suits the kind of its rows, or nothing."""

    auto = "auto"
    none = "none"


class Mode(StrEnum):
    """Whether a lower or a higher value of the monitored metric is better."""

    min = "min"
    max = "max"


class Split(StrEnum):
    """A part of the data."""

    train = "train"
    validation = "validation"
    test = "test"


@dataclass
class TokenizerConfig:
    """How texts become tokens; a file holds one that is trained already."""

    kind: TokenizerKind = TokenizerKind.word
    vocab_size: int = within("[2, inf)", 30000)
    min_frequency: int = within("[1, inf)", 1)
    lowercase: bool = True
    file: str | None = None


@dataclass
class DataConfig:
    """Which rows, and how they become batches; None is what a source does not have."""

    source: DataSource = DataSource.archive
    name: str = "JapaneseVowels"
    path: str | None = None
    subset: str | None = None
    train: Any = field(default=None, metadata=FILES)
    validation: Any = field(default=None, metadata=FILES)
    test: Any = field(default=None, metadata=FILES)
    text_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    time_column: str | None = None
    channel_columns: list[str] | None = None
    delimiter: str | None = None
    on_bad_row: OnBadRow = OnBadRow.stop
    val_fraction: float = within("(0, 1)", 0.2)
    test_fraction: float = within("(0, 1)", 0.2)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    max_length: int | None = within("[1, inf)", None)
    truncation: Truncation = Truncation.head
    normalize: bool = True
    noise: float = within("[0, inf)", 0.0)
    crop: float | None = within("(0, 1]", None)
    batch_size: int | None = within("[1, inf)", 16)
    batch_tokens: int | None = within("[1, inf)", None)
    sampler: SamplerName = SamplerName.shuffled
    num_workers: int = within("[0, inf)", 0)


@dataclass
class LSTMConfig:
    """The keyword arguments of `attnlstm.nn.LSTM`."""

    hidden_size: int = within("[1, inf)", 128)
    num_layers: int = within("[1, inf)", 1)
    bias: bool = True
    dropout: float = within("[0, 1]", 0.0)
    bidirectional: bool = True
    proj_size: int = within("[0, inf)", 0)
    backend: Backend = Backend.auto
    layer_norm: bool = False
    activation: Activation = Activation.tanh
    recurrent_activation: Activation = Activation.sigmoid
    recurrent_dropout: float = within("[0, 1]", 0.0)
    variational_dropout: float = within("[0, 1]", 0.0)
    forget_bias: float | None = within("(-inf, inf)", None)


@dataclass
class StemConfig:
    """The stem of series and its options; None is an option that it does not have."""

    name: StemName = StemName.none
    stride: int | None = within("[1, 65536]", None)
    num_filters: int | None = within("[1, 4096]", None)
    bottleneck: int | None = within("[1, 4096]", None)
    kernel_sizes: list[int] | None = None


POOLINGS = {"hint": list[PoolingName] | PoolingName}
SKIP_POOLINGS = {"hint": list[SkipPoolingName] | SkipPoolingName}
"""One, or several side by side: OmegaConf has no union with a list in it."""


@dataclass
class EmbeddingConfig:
    """The vectors of the tokens of texts."""

    size: int = within("[1, inf)", 128)
    vectors: str | None = None
    freeze: bool = False
    word_dropout: float = within("[0, 1)", 0.0)
    embedding_dropout: float = within("[0, 1)", 0.0)
    variational_dropout: float = within("[0, 1)", 0.0)


@dataclass
class NgramsConfig:
    """The classifier of n-grams of texts."""

    num_buckets: int = within("[1, 1048576]", 65536)
    sublinear_tf: bool = False


@dataclass
class RandomConvolutionsConfig:
    """The classifier of fixed convolutions of series; None is left to the data."""

    dilations: list[int] | None = None
    num_thresholds: int | None = within("[1, 64]", None)


@dataclass
class ModelConfig:
    """What each member consists of, from the embedding of texts or stem of series to the head."""

    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    lstm: LSTMConfig = field(default_factory=LSTMConfig)
    stem: StemConfig = field(default_factory=StemConfig)
    pooling: Any = field(default_factory=lambda: [PoolingName.hn_query], metadata=POOLINGS)
    scaled_attention: bool = False
    skip_pooling: Any = field(default_factory=list, metadata=SKIP_POOLINGS)
    ngrams: NgramsConfig | None = None
    random_convolutions: RandomConvolutionsConfig | None = None
    max_steps: int | None = within("[1, inf)", None)
    dropout: float = within("[0, 1]", 0.0)
    ensemble_size: int = within("[1, inf)", 1)


@dataclass
class LossConfig:
    """Options of the cross entropy; with a gamma it is the focal loss."""

    label_smoothing: float = within("[0, 1]", 0.0)
    focal_gamma: float = within("[0, inf)", 0.0)
    class_weights: ClassWeights = ClassWeights.none


@dataclass
class TrainerConfig:
    """The arguments of lightning.Trainer that YAML can hold, with Lightning's defaults."""

    accelerator: str = one_of(*ACCELERATORS, default="auto")
    strategy: str = one_of(*STRATEGIES, default="auto")
    devices: Any = field(default="auto", metadata=DEVICES)
    num_nodes: int = within("[1, inf)", 1)
    precision: int | str | None = one_of(*PRECISIONS, default=None)
    fast_dev_run: bool | int = within("[0, inf)", False)
    max_epochs: int | None = within("[-1, inf)", None)
    min_epochs: int | None = within("[0, inf)", None)
    max_steps: int = within("[-1, inf)", -1)
    min_steps: int | None = within("[0, inf)", None)
    max_time: str | None = field(
        default=None, metadata={"pattern": (r"\d+:\d\d:\d\d:\d\d", "DD:HH:MM:SS")}
    )
    limit_train_batches: int | float | None = within("[0, inf)", None, fractions="[0, 1]")
    limit_val_batches: int | float | None = within("[0, inf)", None, fractions="[0, 1]")
    limit_test_batches: int | float | None = within("[0, inf)", None, fractions="[0, 1]")
    limit_predict_batches: int | float | None = within("[0, inf)", None, fractions="[0, 1]")
    overfit_batches: int | float = within("[0, inf)", 0.0, fractions="[0, 1]")
    val_check_interval: int | float | None = within("[1, inf)", None, fractions="(0, 1]")
    check_val_every_n_epoch: int | None = within("[1, inf)", 1)
    num_sanity_val_steps: int | None = within("[-1, inf)", None)
    log_every_n_steps: int | None = within("[0, inf)", None)
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None
    accumulate_grad_batches: int = within("[1, inf)", 1)
    gradient_clip_val: int | float | None = within("[0, inf)", None)
    gradient_clip_algorithm: str | None = one_of("norm", "value", default=None)
    deterministic: bool | str | None = one_of(True, False, "warn", default=None)
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: str | None = one_of("simple", "advanced", "pytorch", "xla", default=None)
    detect_anomaly: bool = False
    barebones: bool = False
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = within("[0, inf)", 0)
    enable_autolog_hparams: bool = True
    model_registry: str | None = None


@dataclass
class CheckpointConfig:
    """Arguments of lightning's ModelCheckpoint for the best checkpoint, and when to save the last.

    `every_n_train_steps`, `every_n_minutes` and `save_on_exception` are the last one's only.
    """

    monitor: str = one_of(*MONITORED, default="val/loss")
    mode: Mode = Mode.min
    save_top_k: int = within("[-1, inf)", 1)
    save_last: bool = False
    save_on_exception: bool = False
    every_n_epochs: int = within("[1, inf)", 1)
    every_n_train_steps: int | None = within("[1, inf)", None)
    every_n_minutes: float | None = within("(0, inf)", None)
    filename: str | None = None
    auto_insert_metric_name: bool = True


@dataclass
class EarlyStoppingConfig:
    """Arguments of lightning's EarlyStopping."""

    monitor: str = one_of(*MONITORED, default="val/loss")
    mode: Mode = Mode.min
    patience: int = within("[0, inf)", 3)
    min_delta: float = within("[0, inf)", 0.0)


@dataclass
class FiguresConfig:
    """How often the figures are drawn."""

    every_n_epochs: int = within("[1, inf)", 1)


@dataclass
class CallbacksConfig:
    """None turns a callback off."""

    checkpoint: CheckpointConfig | None = None
    early_stopping: EarlyStoppingConfig | None = None
    figures: FiguresConfig | None = None


@dataclass
class WandbConfig:
    """Arguments of lightning's WandbLogger."""

    project: str = "attnlstm"
    name: str | None = None
    offline: bool = False
    log_model: bool = False


@dataclass
class MLFlowConfig:
    """Arguments of lightning's MLFlowLogger."""

    experiment_name: str = "attnlstm"
    run_name: str | None = None
    tracking_uri: str | None = None


@dataclass
class LoggerConfig:
    """What is written to besides the run folder's own CSV and TensorBoard files."""

    wandb: WandbConfig | None = None
    mlflow: MLFlowConfig | None = None


@dataclass
class BudgetConfig:
    """How long a run trains where `trainer` does not say; None: as long as the data asks for."""

    steps: int | None = within("[1, 10000000]", None)
    minutes: float | None = within("(0, inf)", None)


@dataclass
class TrainConfig:
    """conf/train.yaml.

    `optimizer` and `scheduler` hold the `name` of a class of torch.optim and its keyword arguments,
    which `attnlstm.training.optimization` checks; "keys" are those that an unknown key may mean.
    """

    seed: int = within("[0, 4294967295]", 0)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    validation: Validation = Validation.holdout
    num_folds: int = within("[2, 20]", 5)
    refit: bool | str = one_of(True, False, "auto", default=False)
    baseline: BaselineChoice = BaselineChoice.none
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: dict[str, Any] = field(
        default_factory=lambda: {"name": "AdamW"},
        metadata={"keys": ("name", "lr", "weight_decay", "momentum", "betas")},
    )
    scheduler: dict[str, Any] = field(
        default_factory=lambda: {"name": None},
        metadata={"keys": ("name", "interval", "monitor")},
    )
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    num_threads: int | None = within("[1, inf)", None)
    runs_dir: str = "runs"
    resume: str | None = None


@dataclass
class EvaluateDataConfig:
    """Which rows to evaluate on; None is as in the checkpoint."""

    split: Split = Split.test
    name: str | None = None
    path: str | None = None
    subset: str | None = None
    train: Any = field(default=None, metadata=FILES)
    validation: Any = field(default=None, metadata=FILES)
    test: Any = field(default=None, metadata=FILES)
    text_column: str | None = None
    label_column: str | None = None
    on_bad_row: OnBadRow | None = None
    batch_size: int | None = within("[1, inf)", None)
    num_workers: int | None = within("[0, inf)", None)


@dataclass
class EvaluateLSTMConfig:
    """What may differ from training; None is as in the checkpoint."""

    backend: Backend | None = None


@dataclass
class EvaluateModelConfig:
    """What may differ from training."""

    lstm: EvaluateLSTMConfig = field(default_factory=EvaluateLSTMConfig)


@dataclass
class EvaluateTrainerConfig:
    """The arguments of lightning.Trainer that matter here; None is as in the checkpoint."""

    accelerator: str = one_of(*ACCELERATORS, default="auto")
    precision: int | str | None = one_of(*PRECISIONS, default=None)


@dataclass
class EvaluateConfig:
    """conf/evaluate.yaml."""

    ckpt: str
    data: EvaluateDataConfig = field(default_factory=EvaluateDataConfig)
    model: EvaluateModelConfig = field(default_factory=EvaluateModelConfig)
    trainer: EvaluateTrainerConfig = field(default_factory=EvaluateTrainerConfig)
    runs_dir: str = "runs"


@dataclass
class PredictDataConfig:
    """How to read the input; None is as in the checkpoint."""

    text_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    time_column: str | None = None
    channel_columns: list[str] | None = None
    delimiter: str | None = None
    batch_size: int = within("[1, inf)", 64)


@dataclass
class PredictConfig:
    """conf/predict.yaml."""

    ckpt: str
    text: str | None = None
    input: Any = field(default=None, metadata=FILES)
    output: str | None = None
    report: str | None = None
    report_examples: int = within("[1, inf)", 300)
    attention: bool = False
    prediction_sets: float | None = within("(0, 1)", None)
    data: PredictDataConfig = field(default_factory=PredictDataConfig)
    model: EvaluateModelConfig = field(default_factory=EvaluateModelConfig)
    trainer: EvaluateTrainerConfig = field(default_factory=EvaluateTrainerConfig)
    num_threads: int | None = within("[1, inf)", None)
    runs_dir: str = "runs"


def register_schemas() -> None:
    """Put the schemas where the defaults lists of conf/ find them."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="predict_schema", node=PredictConfig)
