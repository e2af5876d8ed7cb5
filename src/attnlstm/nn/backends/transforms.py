"""How a backend with a hand-written backward supports torch's function transforms.

A backward that works in place can neither be differentiated again nor mapped by vmap. The same
recurrence in the naive backend's plain operations can, so it is used in these cases.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def is_transformed() -> bool:
    """Whether torch.jit.trace, torch.func or forward-mode gradients need plain operations."""
    return (
        torch.jit.is_tracing()
        or torch._C._functorch.maybe_current_level() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def needs_plain_gradients(grads: Sequence[Tensor | None]) -> bool:
    """Whether a backward that gets these gradients is itself differentiated or mapped."""
    return torch.is_grad_enabled() or any(map(_is_batched, grads))


def plain_gradients(
    run: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Any],
    needed: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Compute gradients by operations that can be differentiated and transformed again.

    Args:
        run: computes the results from the inputs by such operations.
        inputs: tensors or None.
        needed: whether the gradient of each input is needed.
        grads: the gradients of the results, or None.

    Returns:
        the gradient of each input, None where it is not needed.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases have no history, through which a gradient could flow from one input to another.
        aliases = [None if x is None else x.view_as(x) for x in inputs]
        results = [(y, d_y) for y, d_y in zip(run(*aliases), grads, strict=True) if d_y is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in results],
                [x for x, need in zip(aliases, needed, strict=True) if need and x is not None],
                [d_y for _, d_y in results],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return [next(found) if need else None for need in needed]


def _is_batched(grad: Tensor | None) -> bool:
    """Whether vmap maps over a gradient, as in a vectorized Jacobian or a batched gradcheck."""
    functorch = torch._C._functorch
    return grad is not None and (
        functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad)
    )
