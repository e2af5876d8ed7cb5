"""The random numbers that are still to be drawn, as a checkpoint can hold them."""

import random
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.distributed import _distributed_is_initialized


def random_states() -> list[dict[str, Any]]:
    """The state of torch, numpy and Python in each process, of plain values and tensors."""
    numpy: dict[str, Any] = np.random.get_state(legacy=False)
    state = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        # no array: what loads with weights_only=True
        "numpy": numpy | {"state": numpy["state"] | {"key": numpy["state"]["key"].tolist()}},
        "python": list(random.getstate()),
    }
    if not _distributed_is_initialized():
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states


def set_random_state(states: list[dict[str, Any]], rank: int) -> None:
    """Go on as the process `rank` did; there may be other devices and processes than before."""
    state = states[rank % len(states)]
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for device, of_device in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(of_device, device)
    np.random.set_state(state["numpy"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
