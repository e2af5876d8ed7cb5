"""Whether the machine has the memory and the processors that a run asks for."""

from pathlib import Path

import torch

from attnlstm.checkpoint.classifier import build_configured
from attnlstm.config.data import TextConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.data.encoders.encoding import Encoder
from attnlstm.errors import UserError
from attnlstm.nn.ensemble import members_of
from attnlstm.training.threads import count_processors

GIGABYTE = 1e9
COPIES = 4  # of each weight: itself, its gradient and the two moments of Adam
FLOAT = 4  # bytes
GATES_AND_STATES = 6  # numbers that a step of the LSTM keeps per feature for the backward pass

MOST_PER_PROCESSOR = 4  # threads, or processes that load batches


def check_processors(key: str, number: int | str | None) -> None:
    """Raise a UserError if a setting asks for far more threads or processes than processors."""
    processors = count_processors()
    if isinstance(number, int) and number > (most := MOST_PER_PROCESSOR * processors):
        raise UserError(
            f"{key}={number}: give at most {most} for the {processors} processors that this "
            "process may use"
        )


def check_memory(
    config: TrainConfig,
    device: torch.device,
    encoder: Encoder | None = None,
    num_classes: int = 2,
    longest: int = 1,
) -> None:
    """Refuse a run that needs more memory than there is.

    The estimate leaves out what is small or unknown, so it is rather too low than too high.

    Args:
        config: of the run.
        device: where the model will be.
        encoder: of the rows; None before there is one, which stands for series with one channel.
        num_classes: number of classes.
        longest: largest number of time steps of a row.

    Raises:
        UserError: it does not fit; the message says how much is needed and which keys decide it.
    """
    with torch.device("meta"):
        classifier = build_configured(config.model.model_dump(), encoder, num_classes)
    members, lstm, data = members_of(classifier), config.model.lstm, config.data
    embedding = members[0].embedding
    num_embedded = 0 if embedding is None else sum(p.numel() for p in embedding.parameters())
    num_weights = sum(p.numel() for p in members[0].parameters())
    steps = min(longest, config.model.max_steps or longest) * (data.batch_size or 1)
    if data.batch_tokens is not None:
        steps = min(steps, data.batch_tokens)
    features = lstm.hidden_size * (1 + lstm.bidirectional) * lstm.num_layers
    stride = 1 if members[0].stem is None else members[0].stem.stride
    parts = {
        "model.lstm.hidden_size or model.lstm.num_layers": COPIES * (num_weights - num_embedded),
        "model.embedding.size or data.tokenizer.vocab_size": COPIES * num_embedded,
        _batch_keys(config): GATES_AND_STATES * features * steps // stride,
    }
    needed = len(members) * FLOAT * sum(parts.values())
    available = _available_memory(device)
    if config.max_memory is not None:
        available = min(available, config.max_memory * GIGABYTE)
    if needed > available:
        keys = max(parts, key=lambda part: parts[part])
        if len(members) > 1:
            keys += " or num_folds" if config.validation != "holdout" else " or model.ensemble_size"
        raise UserError(
            f"training takes about {_show(needed)} GB of memory, and {_show(available)} GB are "
            f"available: reduce {keys}"
        )


def _show(size: float) -> str:
    gigabytes = size / GIGABYTE
    return f"{gigabytes:,.1f}" if gigabytes >= 1 else f"{gigabytes:.2g}"


def _batch_keys(config: TrainConfig) -> str:
    keys = "data.batch_size" if config.data.batch_tokens is None else "data.batch_tokens"
    return f"{keys} or data.max_length" if isinstance(config.data, TextConfig) else keys


def _available_memory(device: torch.device) -> float:
    """Return the bytes that this process can still take on a device; infinity if unknown."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return float("inf")
    available = float("inf")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        available = 1024.0 * int(lines["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")  # the limit of a container
    limit, usage = group / "memory.max", group / "memory.current"
    if limit.is_file() and usage.is_file() and (most := limit.read_text().strip()) != "max":
        available = min(available, float(int(most) - int(usage.read_text())))
    return available
