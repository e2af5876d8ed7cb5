"""The random numbers that are still to be drawn, as a checkpoint can hold them."""

import random
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.distributed import _distributed_is_initialized


def random_states() -> list[dict[str, Any]]:
    """The state of torch, numpy and Python in each process, of plain values and tensors."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        # as tensors: quicker to write than numbers, and arrays do not load with weights_only=True
        "numpy": [kind, torch.tensor(np.asarray(keys, dtype=np.int64)), *rest],
        "python": [version, torch.tensor(numbers), gauss],
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
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
