"""Foreign or damaged checkpoint files are refused in one line with the reason, never executed."""

import io
import json
import os
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnlstm.checkpoint.content import FORMAT_KEY, FORMAT_VERSION, read_checkpoint
from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import EvaluateConfig, PredictConfig
from attnlstm.errors import UserError
from attnlstm.inference.evaluation import evaluate
from attnlstm.inference.prediction import predict
from tests.checkpoint.altered import changed, saved

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


class Bomb:
    """An object that runs code when it is unpickled."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def repacked(content: bytes, compression: int = zipfile.ZIP_STORED, **changes: bytes) -> bytes:
    """Repack an archive, with new content for some of its parts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for part in old.infolist():
            name = part.filename.rpartition("/")[2].replace(".", "_")
            new.writestr(part.filename, changes.get(name, old.read(part)), compression)
    return buffer.getvalue()


def with_part(content: bytes, name: str, part: bytes) -> bytes:
    """Append a part to an archive, named like one of its parts but for the case."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{folder}/{name}", part)
    return buffer.getvalue()


def with_two_directories(content: bytes, other: bytes) -> bytes:
    """Put another archive in front: zipfile reads the list before the end, torch the first."""
    return other[:-22] + content


def nested(levels: int, kind: type = list) -> Any:
    """Return `levels` containers, each of which refers ten times to the next one."""
    value: Any = kind("x")
    for _ in range(levels):
        value = kind([value] * 10)
    return value


def chain(levels: int) -> list[Any]:
    """Return a list that holds the innermost of `levels` nested lists first, the outermost last."""
    lists: list[Any] = [[]]
    for _ in range(levels):
        lists.append([lists[-1]])
    return lists


def with_shared_key(levels: int) -> bytes:
    """Return the pickle of a dictionary whose key is such a tuple; hashing it would never end."""
    pickled = b"\x80\x02}X\x01\x00\x00\x00x\x85q\x000"
    for level in range(levels):
        pickled += b"(" + (b"h" + bytes([level])) * 10 + b"tq" + bytes([level + 1]) + b"0"
    return pickled + b"h" + bytes([levels]) + b"K\x01s."


def set_weight(make: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], None]:
    name = "classifier.head.weight"

    def change(loaded: dict[str, Any]) -> None:
        loaded["state_dict"][name] = make(loaded["state_dict"][name])

    return change


def set_argument(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(loaded: dict[str, Any]) -> None:
        place = loaded["hyper_parameters"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


def set_calibration(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda loaded: loaded["calibration"].update(fields)


MODEL = ("config", "model")
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "newer": (
        lambda loaded: loaded.update({FORMAT_KEY: FORMAT_VERSION + 1}),
        f"has the format {FORMAT_VERSION + 1} of a newer version of attnlstm",
    ),
    "no version": (lambda loaded: loaded.update({FORMAT_KEY: "1"}), "is not a version"),
    "no weights": (lambda loaded: loaded.pop("state_dict"), "it has no 'state_dict'"),
    "weights missing": (
        lambda loaded: loaded["state_dict"].pop("classifier.head.bias"),
        "it lacks the weight head.bias",
    ),
    "weights besides": (
        lambda loaded: loaded["state_dict"].update({"classifier.more": torch.zeros(1)}),
        "it has, beyond its own configuration, the weight more",
    ),
    "weights of another model": (
        lambda loaded: loaded["state_dict"].update({"layer.weight": torch.zeros(1)}),
        "an entry that is not a weight of a classifier",
    ),
    "other shape": (
        set_weight(lambda weight: weight[:, :3].clone()),
        r"weight head.weight has the shape \[9, 3\], but by its own configuration \[9, 16\]",
    ),
    "no floats": (set_weight(lambda weight: weight.long()), "not a plain tensor of torch.float32"),
    "no tensor": (set_weight(lambda weight: weight.tolist()), "an entry that is not a weight"),
    "huge, from one number": (
        set_weight(lambda weight: torch.zeros(1).expand(9, 16)),
        "not a plain tensor of torch.float32",
    ),
    "huge layers": (
        set_argument(*MODEL, "lstm", "hidden_size", value=60_000),
        "has the shape .* but by its",
    ),
    "layers beyond all": (set_argument(*MODEL, "lstm", "hidden_size", value=10**9), "expected int"),
    "many layers": (set_argument(*MODEL, "lstm", "num_layers", value=250), "fewer weights than"),
    "many members": (set_argument(*MODEL, "ensemble_size", value=100), "fewer weights than its"),
    "unknown key": (
        set_argument(*MODEL, "lstm", "hiden_size", value=3),
        "unknown key model.lstm.hiden_size: did you mean model.lstm.hidden_size",
    ),
    "no config": (lambda loaded: loaded["hyper_parameters"].pop("config"), "it has no 'config'"),
    "no labels": (set_argument("label_names", value="abcdefghi"), "label_names are not a list"),
    "labels twice": (set_argument("label_names", value=["a"] * 9), "label_names are not a list"),
    "fewer labels": (set_argument("label_names", value=["a"]), "class_counts are not one integer"),
    "temperature of 0": (
        set_calibration(temperature=0.0),
        "its temperature is not a number from",
    ),
    "temperature of nothing": (
        set_calibration(temperature=None),
        "its temperature is not a number",
    ),
    "endless temperature": (set_calibration(temperature=float("nan")), "its temperature is not a"),
    "expert_weight above 1": (
        set_calibration(expert_weight=1.5),
        "its expert_weight is not a number",
    ),
    "expert_weight of nothing": (set_calibration(expert_weight=None), "its expert_weight is not a"),
    "scores in a list": (set_calibration(scores=[0.5]), "its scores are not a plain tensor"),
    "no scores": (set_calibration(scores=torch.zeros(0).double()), "it has 0 scores"),
    "many scores": (
        set_calibration(scores=torch.zeros(1).double().expand(10**9)),
        "its scores are not a plain tensor of torch.float64",
    ),
    "scores of disorder": (
        set_calibration(scores=torch.tensor([0.5, 0.2, 0.7]).double()),
        "its scores are not ascending numbers from 0 to 1",
    ),
    "scores that are no numbers": (
        set_calibration(scores=torch.tensor([0.1, float("nan"), 0.7]).double()),
        "its scores are not ascending numbers from 0 to 1",
    ),
    "calibration of more": (set_calibration(bias=1.0), "unexpected keyword argument 'bias'"),
    "calibration missing": (lambda loaded: loaded.pop("calibration"), "it has no 'calibration'"),
    "encoder of nothing": (set_argument("encoder", "kind", value="sound"), "unknown encoder"),
    "an argument of nobody": (
        set_argument("folds", value="x"),
        "its hyper_parameters have an unknown 'folds'",
    ),
    "counts beyond all": (
        set_argument("class_counts", value=[10**400] * 9),
        "class_counts are not from 0 to 1,000,000,000",
    ),
    "a label that no file can hold": (
        set_argument("label_names", value=["\ud800", *"bcdefghi"]),
        "label_names are not UTF-8",
    ),
    "dropout beyond all": (set_argument(*MODEL, "dropout", value=10**340), "model.dropout=1000"),
    "weights of nothing": (set_weight(lambda weight: weight * torch.nan), "are NaN or infinite"),
    "statistics": (set_argument("encoder", "std", value=[[1.0]]), "mean and std are not a number"),
    "statistics that divide by 0": (
        set_argument("encoder", "std", value=[0.0] * 12),
        "mean and std are not a number",
    ),
}


def contents(checkpoint: Path, exploded: Path) -> dict[str, tuple[bytes, str]]:
    """Return contents that are not checkpoints of this program, and what the refusal says."""
    content = checkpoint.read_bytes()
    middle = bytearray(content)
    middle[len(content) // 2] ^= 4
    unsealed = saved(torch.load(checkpoint, weights_only=True))
    weights = bytearray(unsealed)
    weights[weights.index(b"/data/0FB") + 200] ^= 1
    many = b"\x80\x02" + b"]" * 2_100_000 + b"."
    other_zip = io.BytesIO()
    with zipfile.ZipFile(other_zip, "w") as archive:
        archive.writestr("hello.txt", "hello")
    mkdir, code = Bomb(os.mkdir, str(exploded)), "could run code"
    return {
        "empty": (b"", "is empty"),
        "text": (b"not a checkpoint", "comes from another program"),
        "truncated": (content[:5000], "is not a complete checkpoint"),
        "without its last byte": (content[:-1], "is not a complete checkpoint"),
        "with more behind": (content + b"\0", "is not a complete checkpoint"),
        "flipped": (bytes(middle), "is damaged: .* not what was written"),
        "flipped without a seal": (bytes(weights), "is damaged: .*/data/0' does not match"),
        "bare pickle": (pickle.dumps(mkdir), f"is a bare pickle.* {code}"),
        "old torch format": (pickle.dumps(mkdir, 2), f"is a bare pickle.* {code}"),
        "code": (saved({"state_dict": mkdir}), f"names '(posix|nt) mkdir', .* {code}"),
        "a torch function": (saved({"a": Bomb(torch.zeros, 3)}), f"names .* {code}"),
        "memory": (saved({"a": Bomb(bytearray, 10**12)}), f"names .*bytearray', .* {code}"),
        "code by a newer opcode": (
            repacked(unsealed, data_pkl=pickle.dumps(mkdir, 4)),
            f"names code, .* {code}",
        ),
        "many values": (repacked(unsealed, data_pkl=many), "too many values besides its tensors"),
        "broken pickle": (repacked(unsealed, data_pkl=b"\x80\x02}"), "parts cannot be read"),
        "compressed": (
            repacked(unsealed, zipfile.ZIP_DEFLATED),
            "bytes would unpack to .* checkpoints are not compressed",
        ),
        "bomb": (
            repacked(unsealed, zipfile.ZIP_DEFLATED, data_pkl=bytes(10**7)),
            "bytes would unpack to 1\\d,\\d{3},\\d{3}",
        ),
        "two pickles": (
            with_part(unsealed, "DATA.PKL", pickle.dumps(mkdir, 2)),
            "two parts share a name",
        ),
        "two directories": (
            with_two_directories(unsealed, saved({"state_dict": mkdir})),
            "is not a complete checkpoint",
        ),
        "shared lists": (saved({"a": nested(30)}), "too many values besides its tensors"),
        "shared tuples": (saved({"a": nested(30, tuple)}), "too many values besides its tensors"),
        "shared strings": (saved({"a": ["a" * 10**6] * 1000}), "too many values besides"),
        "a shared key": (
            repacked(unsealed, data_pkl=with_shared_key(30)),
            "too many values besides its tensors",
        ),
        "deep lists": (saved({"a": json.loads("[" * 90 + "]" * 90)}), "nested too deeply"),
        "deep lists, each in one": (saved({"a": chain(400)}), "nested too deeply"),
        "zip": (other_zip.getvalue(), "is a zip archive but not a checkpoint"),
        "of another program": (saved({"state_dict": {}, "epoch": 3}), "no 'hyper_parameters'"),
        "tensor": (saved(torch.zeros(3)), "only tensors"),
        **{name: (changed(checkpoint, change), said) for name, (change, said) in CHANGES.items()},
    }


def refusal_of(path: Path) -> str:
    with pytest.raises(UserError) as refusal:
        load_checkpoint(path)
    message = str(refusal.value)
    assert message.startswith(f"ckpt={path} ")
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_other_files_are_refused_with_the_reason(small_checkpoint: Path, tmp_path: Path) -> None:
    path, exploded = tmp_path / "given.ckpt", tmp_path / "exploded"
    for what, (content, said) in contents(small_checkpoint, exploded).items():
        path.write_bytes(content)
        message = refusal_of(path)
        assert re.search(said, message), f"{what}: {message}"
        assert not exploded.exists(), what


def test_paths_without_a_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal_of(tmp_path / "missing.ckpt")
    assert "is a folder" in refusal_of(tmp_path)
    os.mkfifo(tmp_path / "pipe.ckpt")  # reading it would block forever
    assert "is not a regular file" in refusal_of(tmp_path / "pipe.ckpt")
    assert "cannot be read" in refusal_of(tmp_path / ("long" * 100))


def test_any_flipped_bit_and_any_missing_byte_is_detected(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    content, path = small_checkpoint.read_bytes(), tmp_path / "damaged.ckpt"
    generator = random.Random(0)
    ends = [*range(8 * 80), *range(8 * (len(content) - 160), 8 * len(content), 7)]
    for bit in [*generator.sample(range(8 * len(content)), 150), *ends[::5]]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert "checkpoint" in refusal_of(path), bit
    for size in generator.sample(range(len(content)), 50):
        path.write_bytes(content[:size])
        refusal_of(path)


def test_without_a_seal_damage_is_detected_or_harmless(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    content = saved(torch.load(small_checkpoint, weights_only=True))
    path, generator = tmp_path / "damaged.ckpt", random.Random(0)
    sound = load_checkpoint(small_checkpoint)
    for bit in generator.sample(range(8 * len(content)), 150):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            trained = load_checkpoint(path)
        except UserError:
            continue
        assert trained.config == sound.config
        weights = trained.classifier.state_dict()
        for name, weight in sound.classifier.state_dict().items():
            assert torch.equal(weights[name], weight)


def test_both_verbs_refuse_and_write_nothing(small_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    path.write_bytes(small_checkpoint.read_bytes()[:-5])
    (tmp_path / "new.ts").write_text("@classLabel false\n@data\n1\n")
    arguments = [f"ckpt={path}", "trainer.accelerator=cpu"]
    config = compose_config(ROOT / "conf", "evaluate", EvaluateConfig, arguments)
    with pytest.raises(UserError, match="is not a complete checkpoint"):
        evaluate(config, tmp_path / "out")
    arguments += [f"input={tmp_path / 'new.ts'}", f"output={tmp_path / 'out.csv'}"]
    prediction = compose_config(ROOT / "conf", "predict", PredictConfig, arguments)
    with pytest.raises(UserError, match="is not a complete checkpoint"):
        predict(prediction, tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cut.ckpt", "new.ts"]


def test_messages_name_the_key_that_chose_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^resume=\S+ does not exist"):
        read_checkpoint(tmp_path / "missing.ckpt", key="resume")
