"""What the machine lacks is refused by its key, before Lightning sees it."""

from typing import Any

import pytest
import torch
from lightning import Trainer

from attnlstm.config.lightning import TrainerConfig
from attnlstm.errors import UserError
from attnlstm.training.devices import check_devices, choose_precision, find_kind


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """`machine(gpus=2)` makes torch report this many GPUs."""

    def pretend(gpus: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


CPU: dict[str, Any] = {"accelerator": "cpu"}
GPU: dict[str, Any] = {"accelerator": "gpu"}


@pytest.mark.parametrize(
    ("gpus", "options", "message"),
    [
        (0, GPU, "trainer.accelerator=gpu: this machine has no .*: choose auto or cpu$"),
        (0, {"accelerator": "cuda"}, "trainer.accelerator=cuda: .*: choose auto or cpu$"),
        (2, {"accelerator": "mps"}, "trainer.accelerator=mps: .*: choose auto or cpu or cuda$"),
        (0, {"accelerator": "tpu"}, "trainer.accelerator=tpu: "),
        (1, GPU | {"devices": 2}, "trainer.devices=2: this machine has 1 GPU: choose a number up"),
        (1, GPU | {"devices": "2"}, "trainer.devices=2: this machine has 1 GPU: "),
        (2, GPU | {"devices": [0, 2]}, r"trainer.devices=\[0,2\]: this machine has 2 GPUs, with"),
        (2, GPU | {"devices": "0,2"}, "trainer.devices=0,2: this machine has 2 GPUs, with numb"),
        (2, GPU | {"devices": 0}, "trainer.devices=0: "),
        (0, CPU | {"devices": [0]}, r"trainer.devices=\[0\]: on the CPU this is the number"),
        (0, CPU | {"devices": -1}, "trainer.devices=-1: on the CPU"),
        (0, {"devices": 0}, "trainer.devices=0: on the CPU"),
        (0, CPU | {"strategy": "fsdp"}, "trainer.strategy=fsdp needs a CUDA GPU, and this run is"),
        (1, CPU | {"strategy": "fsdp"}, "trainer.strategy=fsdp needs a CUDA GPU, and this run is"),
        (0, {"strategy": "deepspeed_stage_2"}, "trainer.strategy=deepspeed_stage_2 needs a CUDA"),
        (1, GPU | {"strategy": "deepspeed"}, "trainer.strategy=deepspeed needs the package"),
        (0, {"strategy": "xla"}, "trainer.strategy=xla needs a TPU, and this run is on the CPU"),
        (1, GPU | {"strategy": "ddp_fork"}, "trainer.strategy=ddp_fork cannot start processes"),
        (0, {"strategy": "single_device", "devices": 2}, "trainer.strategy=single_device uses one"),
        (0, {"precision": "16-mixed"}, "trainer.precision=16-mixed needs a GPU: on the CPU"),
        (1, CPU | {"precision": "16-true"}, "trainer.precision=16-true needs a GPU"),
        (0, {"precision": 16}, "trainer.precision=16 needs a GPU"),
        (1, {"precision": "transformer-engine"}, "trainer.precision=transformer-engine needs"),
    ],
)
def test_what_is_not_there(machine, gpus: int, options: dict[str, Any], message: str) -> None:
    machine(gpus)
    with pytest.raises(UserError, match=f"^{message}"):
        check_devices(TrainerConfig(**options))


@pytest.mark.parametrize(
    ("gpus", "options"),
    [
        (0, {}),
        (0, {"devices": 2, "strategy": "ddp"}),
        (0, {"precision": "bf16-mixed"}),
        (0, {"precision": "64-true"}),
        (1, {}),
        (1, {"precision": "16-mixed"}),
        (1, CPU | {"devices": 3}),
        (4, GPU | {"devices": -1, "strategy": "fsdp"}),
        (4, GPU | {"devices": "1,3", "strategy": "ddp"}),
        (4, GPU | {"devices": [3]}),
    ],
)
def test_what_is_there(machine, gpus: int, options: dict[str, Any]) -> None:
    machine(gpus)
    check_devices(TrainerConfig(**options))


def test_the_kinds_of_devices(machine) -> None:
    machine(0)
    assert find_kind("auto") == find_kind("cpu") == "cpu"
    machine(1)
    assert find_kind("auto") == find_kind("gpu") == find_kind("cuda") == "cuda"
    machine(0, mps=True)
    assert find_kind("auto") == find_kind("gpu") == "mps"
    for options in ({"strategy": "ddp"}, {"precision": "64-true"}, {"devices": 2}):
        with pytest.raises(UserError, match=f"^trainer.{next(iter(options))}="):
            check_devices(TrainerConfig(**options))


def test_a_model_trained_in_half_precision_predicts_on_the_cpu(caplog) -> None:
    caplog.set_level("INFO")
    assert choose_precision(None, "bf16-mixed", "cpu") == "bf16-mixed"
    assert caplog.text == ""
    assert choose_precision(None, "16-mixed", "cpu") is None
    assert "trained with precision 16-mixed, which is not possible here" in caplog.text
    assert choose_precision(None, "16-mixed", "cuda") == "16-mixed"
    assert choose_precision("64-true", "16-mixed", "cpu") == "64-true"
    with pytest.raises(UserError, match=r"^trainer\.precision=16-mixed needs a GPU"):
        choose_precision("16-mixed", None, "cpu")


def test_what_lightning_refuses_names_the_key(run_train, tmp_path) -> None:
    with pytest.raises(UserError, match=r"^trainer\.barebones=true is refused by Lightning: "):
        run_train(tmp_path, "trainer.barebones=true")


def test_lightning_refuses_the_same_on_the_cpu() -> None:
    """These would otherwise be refusals of ours only."""
    for options in (CPU | {"devices": [0]}, CPU | {"strategy": "fsdp"}, CPU | {"devices": 0}):
        with pytest.raises(Exception):  # noqa: B017, PT011 - of several types
            Trainer(**options, logger=False)
