"""The arguments of Lightning's Trainer, callbacks and loggers that YAML can hold."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from attnlstm.config.section import (
    Amount,
    Count,
    Natural,
    NaturalOrAll,
    Positive,
    Section,
    Share,
    ShareAboveZero,
)
from attnlstm.errors import UserError

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]

_LAUNCHES = ("", "_fork", "_notebook", "_spawn")
_UNUSED = ("", "_find_unused_parameters_false", "_find_unused_parameters_true")
_STAGES = ("1", "2", "2_offload", "3", "3_offload", "3_offload_nvme")

if TYPE_CHECKING:
    Strategy = str
else:
    Strategy = Literal[
        "auto",
        *(f"ddp{launch}{unused}" for launch in _LAUNCHES for unused in _UNUSED),
        "deepspeed",
        *(f"deepspeed_stage_{stage}" for stage in _STAGES),
        *("fsdp", "fsdp_cpu_offload", "single_device", "single_tpu", "single_xla"),
        *("xla", "xla_debug"),
    ]

Precision = Literal[
    16,
    32,
    64,
    "bf16",
    "16-mixed",
    "16-true",
    "32-true",
    "64-true",
    "bf16-mixed",
    "bf16-true",
    "transformer-engine",
    "transformer-engine-float16",
]

Devices = Annotated[
    str,
    Field(
        pattern=r"^(auto|-?\d+(,\d+)*)$",
        json_schema_extra={"meaning": "auto or comma-separated numbers"},
    ),
]
Duration = Annotated[
    str, Field(pattern=r"^\d+:\d\d:\d\d:\d\d$", json_schema_extra={"meaning": "DD:HH:MM:SS"})
]

Batches = Natural | Share
"""A number of batches as an int, a share of them as a float."""

BatchLimit = Annotated[
    Batches | None, Field(description="batches to use: a number, or a share as a float; null: all")
]

Monitored = Literal[
    "val/loss",
    "val/accuracy",
    "val/macro_f1",
    "val/auroc",
    "val/calibration_error",
    "val/class_distance",
    "val/quadratic_kappa",
    "val/micro_f1",
    "val/map",
    "val/mae",
    "val/rmse",
    "val/r2",
    "train/loss",
]
MONITORED = get_args(Monitored)
"""The metrics that callbacks and schedulers can watch; some are logged for certain tasks only."""

LOWER_IS_BETTER = ("loss", "calibration_error", "class_distance", "mae", "rmse")


class TrainerConfig(Section):
    """The arguments of lightning.Trainer that YAML can hold, with Lightning's defaults."""

    accelerator: Accelerator = "auto"
    """the kind of device to train on"""
    strategy: Strategy = "auto"
    """how several devices share the work"""
    devices: NaturalOrAll | Devices | list[NaturalOrAll] = "auto"
    """how many devices, or their numbers; -1 or auto: all"""
    num_nodes: Count = 1
    """how many machines"""
    precision: Precision | None = None
    """number format of weights and operations, such as bf16-mixed; null: float32"""
    fast_dev_run: bool | Natural = False
    """run only this many batches of each kind, without checkpoints; true: one"""
    max_epochs: NaturalOrAll | None = None
    """passes through the training rows; -1: unlimited; null: as many as the budget allows"""
    min_epochs: Natural | None = None
    """passes before early stopping can end the run"""
    max_steps: NaturalOrAll = -1
    """optimizer steps at most; -1: unlimited"""
    min_steps: Natural | None = None
    """optimizer steps before early stopping can end the run"""
    max_time: Duration | None = None
    """time after which training stops"""
    limit_train_batches: BatchLimit = None
    limit_val_batches: BatchLimit = None
    limit_test_batches: BatchLimit = None
    limit_predict_batches: BatchLimit = None
    overfit_batches: Batches = 0.0
    """train and validate on these batches only, to look for bugs"""
    val_check_interval: Count | ShareAboveZero | None = None
    """training batches from one validation to the next, or a share of an epoch as a float"""
    check_val_every_n_epoch: Count | None = 1
    """epochs from one validation to the next"""
    num_sanity_val_steps: NaturalOrAll | None = None
    """validation batches to try before training; -1: all"""
    log_every_n_steps: Natural | None = None
    """optimizer steps from one logged row to the next"""
    enable_checkpointing: bool | None = None
    """whether checkpoints are written at all"""
    enable_progress_bar: bool | None = None
    """a bar in a terminal, lines elsewhere; false: neither"""
    enable_model_summary: bool | None = None
    """whether the layers are listed before training"""
    accumulate_grad_batches: Count = 1
    """batches whose gradients are summed for one optimizer step"""
    gradient_clip_val: Natural | Amount | None = None
    """gradients are clipped to this norm or value; null: not at all"""
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    """what gradient_clip_val limits; null: the norm"""
    deterministic: bool | Literal["warn"] | None = None
    """only operations that give the same numbers in every run; warn: only warn about others"""
    benchmark: bool | None = None
    """whether cuDNN looks for its fastest algorithms"""
    inference_mode: bool = True
    """whether evaluation runs in torch.inference_mode"""
    use_distributed_sampler: bool = True
    """whether Lightning distributes the rows to processes; here the batch sampler does"""
    profiler: Literal["simple", "advanced", "pytorch", "xla"] | None = None
    """the profiler that measures where the time goes"""
    detect_anomaly: bool = False
    """whether torch looks for NaN in gradients, which is slow"""
    barebones: bool = False
    """leave out everything that costs time, including checkpoints and logs"""
    sync_batchnorm: bool = False
    """whether batch norm is computed over all processes"""
    reload_dataloaders_every_n_epochs: Natural = 0
    """epochs after which the data loaders are rebuilt; 0: never"""
    enable_autolog_hparams: bool = True
    """whether Lightning logs the settings"""
    model_registry: str | None = None
    """name of the model in a registry of Lightning's platform"""

    @model_validator(mode="after")
    def _check_validation_interval(self) -> Any:
        if self.check_val_every_n_epoch is None and not isinstance(self.val_check_interval, int):
            raise UserError(
                "trainer.check_val_every_n_epoch=null counts batches instead of epochs: set "
                "trainer.val_check_interval to a number of batches, such as 100"
            )
        return self


class MonitorConfig(Section):
    """The metric that a callback watches."""

    monitor: Monitored = "val/loss"
    """the metric to watch"""
    mode: Literal["min", "max"] = "min"
    """whether the lowest or the highest value is best"""


class CheckpointConfig(MonitorConfig):
    """Arguments of Lightning's ModelCheckpoint for the best checkpoint, and when to save the last.

    `every_n_train_steps`, `every_n_minutes` and `save_on_exception` apply to the last one only.
    """

    save_top_k: NaturalOrAll = 1
    """how many of the best checkpoints to keep; -1: all"""
    save_last: bool = False
    """whether the newest state is kept too, for resume="""
    save_on_exception: bool = False
    """save the last one at the next batch after SIGINT or SIGTERM"""
    every_n_epochs: Count = 1
    """epochs from one save to the next"""
    every_n_train_steps: Count | None = None
    """optimizer steps from one save of the last one to the next"""
    every_n_minutes: Positive | None = None
    """minutes from one save of the last one to the next"""
    filename: str | None = None
    """name of the best checkpoint's file"""
    auto_insert_metric_name: bool = True
    """whether the file name holds the names of its metrics"""


class EarlyStoppingConfig(MonitorConfig):
    """Arguments of Lightning's EarlyStopping."""

    patience: Natural = 3
    """validations without an improvement before training stops"""
    min_delta: Amount = 0.0
    """the smallest change that counts as an improvement"""


class FiguresConfig(Section):
    """How often the figures are drawn."""

    every_n_epochs: Count = 1
    """epochs from one set of figures to the next"""


class CallbacksConfig(Section):
    """The callbacks; None turns one off."""

    checkpoint: CheckpointConfig | None = None
    """which checkpoints are kept; null: none"""
    early_stopping: EarlyStoppingConfig | None = None
    """when training stops early; null: never"""
    figures: FiguresConfig | None = None
    """confusion matrices and attention while training; null: none"""

    @model_validator(mode="after")
    def _check_modes(self) -> Any:
        for name in ("checkpoint", "early_stopping"):
            callback, key = getattr(self, name), f"callbacks.{name}"
            if callback is None:
                continue
            best = "min" if callback.monitor.endswith(LOWER_IS_BETTER) else "max"
            if callback.mode != best:
                raise UserError(
                    f"{key}.monitor={callback.monitor} is best at its {best}imum: "
                    f"set {key}.mode={best}"
                )
        return self


class WandbConfig(Section):
    """Arguments of Lightning's WandbLogger."""

    project: str = "attnlstm"
    """project that the run belongs to"""
    name: str | None = None
    """name of the run; null: chosen by Weights & Biases"""
    offline: bool = False
    """write to the run folder only"""
    log_model: bool = False
    """upload the checkpoints"""


class MLFlowConfig(Section):
    """Arguments of Lightning's MLFlowLogger."""

    experiment_name: str = "attnlstm"
    """experiment that the run belongs to"""
    run_name: str | None = None
    """name of the run; null: chosen by MLflow"""
    tracking_uri: str | None = None
    """server or folder; null: the folder mlruns in the run folder"""


class LoggerConfig(Section):
    """Loggers in addition to the run folder's CSV and TensorBoard files."""

    wandb: WandbConfig | None = None
    """Weights & Biases; null: off"""
    mlflow: MLFlowConfig | None = None
    """MLflow; null: off"""
