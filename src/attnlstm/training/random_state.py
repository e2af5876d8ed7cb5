"""The state of the random number generators, in a form that a checkpoint can hold."""

import random
from typing import Any

import numpy as np
import torch
from torch import distributed


def random_states() -> list[dict[str, Any]]:
    """Return the state of torch, numpy and Python in each process, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        # as tensors: faster to write than numbers, and arrays do not load with weights_only=True
        "numpy": [kind, torch.tensor(np.asarray(keys, dtype=np.int64)), *rest],
        "python": [version, torch.tensor(numbers), gauss],
    }
    if not (distributed.is_available() and distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, state)
    return states


def set_random_state(states: list[dict[str, Any]], rank: int) -> None:
    """Restore the state of process `rank`; the number of devices and processes may differ."""
    state = states[rank % len(states)]
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda_state, device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
