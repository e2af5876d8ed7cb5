import datasets
import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from attnlstm.config.data import SeriesConfig
from attnlstm.data.batches import EncodedSplit
from attnlstm.data.module import SequenceDataModule

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises on workers, logging, ...


def encoded(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (rows,), generator=generator)
    steps = torch.randn(3 * int(lengths.sum()), generator=generator)
    features = datasets.Features({"steps": datasets.List(datasets.Value("float32"))})
    columns = {"steps": [row.numpy() for row in steps.split((3 * lengths).tolist())]}
    targets = np.array([row % 2 if row < 18 else 0 for row in range(rows)])
    split = datasets.Dataset.from_dict(columns, features=features)
    return EncodedSplit(split, targets, step_size=3)


def make_data(seed=3, **options):
    splits = {"train": encoded(22), "validation": encoded(9, seed=1), "test": encoded(7, seed=2)}
    return SequenceDataModule(splits, SeriesConfig(**{"batch_size": 4, **options}), seed)


class Recorder(lightning.LightningModule):
    """Records the batches of every stage."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.batches = {"train": [], "validation": [], "test": []}

    def training_step(self, batch, batch_idx):
        self.batches["train"].append(batch)
        return (batch.inputs @ self.weight).mean()

    def validation_step(self, batch, batch_idx):
        self.batches["validation"].append(batch)

    def test_step(self, batch, batch_idx):
        self.batches["test"].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def rows(self, stage):
        return [batch.rows.tolist() for batch in self.batches[stage]]


def flat(batches):
    return [row for batch in batches for row in batch]


def make_trainer(**options):
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 3, **options},
    )


def fit(data, **options):
    recorder = Recorder()
    make_trainer(**options).fit(recorder, data)
    return recorder


def test_every_epoch_has_every_row_in_another_order():
    rows = fit(make_data()).rows("train")
    epochs = [rows[:6], rows[6:12], rows[12:]]
    assert all(sorted(flat(epoch)) == list(range(22)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_only_the_seed_decides_the_order():
    first = fit(make_data(noise=0.5)).rows("train")
    torch.rand(5)
    assert fit(make_data()).rows("train") == first
    assert fit(make_data(seed=4)).rows("train") != first


def test_worker_processes_change_nothing():
    assert fit(make_data(num_workers=1)).rows("train") == fit(make_data()).rows("train")


class SaveAt(Callback):
    """Saves a checkpoint after some number of training batches, at the named hook."""

    def __init__(self, hook, batches, path):
        self.hook, self.count, self.path, self.done = hook, batches, path, False

    def save(self, hook, trainer, recorder):
        if hook == self.hook and len(recorder.rows("train")) == self.count:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer, recorder, *rest):
        self.save("batch", trainer, recorder)

    def on_validation_end(self, trainer, recorder):
        self.save("validation", trainer, recorder)

    def on_train_epoch_end(self, trainer, recorder):
        self.save("epoch", trainer, recorder)


@pytest.mark.parametrize(
    ("hook", "batches"),
    [("batch", 2), ("batch", 8), ("batch", 12), ("validation", 12), ("epoch", 12)],
)
@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 4}], ids=str)
def test_a_resumed_run_continues_with_the_next_batch(hook, batches, options, tmp_path):
    path = tmp_path / "stopped.ckpt"
    whole = fit(make_data(), callbacks=SaveAt(hook, batches, path), **options).rows("train")
    resumed = Recorder()
    make_trainer(**options).fit(resumed, make_data(), ckpt_path=path, weights_only=True)
    assert resumed.rows("train") == whole[batches:]


@pytest.mark.parametrize("data_options", [{"batch_tokens": 20}, {"sampler": "balanced"}], ids=str)
def test_other_batches_are_resumed_too(data_options, tmp_path):
    path = tmp_path / "stopped.ckpt"
    data = make_data(**data_options)
    whole = fit(data, callbacks=SaveAt("batch", 8, path)).rows("train")
    resumed = Recorder()
    make_trainer().fit(resumed, make_data(**data_options), ckpt_path=path, weights_only=True)
    assert resumed.rows("train") == whole[8:]


def test_evaluation_sees_every_row_once_per_epoch():
    recorder = fit(make_data())
    make_trainer().test(recorder, make_data(), verbose=False)
    assert sorted(flat(recorder.rows("validation"))) == sorted(list(range(9)) * 3)
    assert sorted(flat(recorder.rows("test"))) == list(range(7))


def test_overfitting_repeats_the_same_batches():
    rows = fit(make_data(), overfit_batches=2).rows("train")
    assert len(rows) == 6
    assert rows[:2] == rows[2:4] == rows[4:]


def test_batches_without_gradients_are_larger():
    data = make_data(batch_size=4)
    recorder = fit(data)
    sizes = {stage: len(recorder.batches[stage][0].targets) for stage in ("train", "validation")}
    assert sizes == {"train": 4, "validation": len(data.splits["validation"])}


def test_batches_of_tokens_in_every_stage():
    data = make_data(batch_tokens=20)
    recorder = fit(data)
    make_trainer().test(recorder, data, verbose=False)
    for stage, epochs in (("train", 3), ("validation", 3), ("test", 1)):
        assert sorted(flat(recorder.rows(stage))) == sorted(
            [*range(len(data.splits[stage]))] * epochs
        )
        assert all(batch.inputs.shape[:2].numel() <= 20 for batch in recorder.batches[stage])


@pytest.mark.parametrize("options", [{}, {"batch_tokens": 20}], ids=str)
def test_only_training_is_balanced(options):
    data = make_data(sampler="balanced", **options)
    recorder = fit(data, max_epochs=30)
    targets = torch.cat([batch.targets for batch in recorder.batches["train"]])
    assert abs(targets.double().mean() - 0.5) < 0.07  # of 22 rows 9 are of class 1
    assert len(set(flat(recorder.rows("train")[:6]))) < 22  # drawn with replacement
    assert sorted(flat(recorder.rows("validation"))) == sorted([*range(9)] * 30)
    assert len(recorder.batches["train"]) == 30 * len(data.sampler("train", shuffle=True))


def test_splits_may_be_missing():
    data = SequenceDataModule({"train": encoded(6)}, SeriesConfig(batch_size=4))
    recorder = fit(data)
    assert len(recorder.rows("train")) == 6
    assert recorder.rows("validation") == []
    assert data.test_dataloader() == []


def test_loaders_without_a_trainer():
    batches = list(make_data().train_dataloader())
    assert sorted(flat(batch.rows.tolist() for batch in batches)) == list(range(22))


def test_loaders_after_training_are_whole():
    data = make_data()
    fit(data)
    assert len(list(data.train_dataloader())) == 6


def test_noise_is_for_training_inputs_only():
    data = make_data(noise=0.5)
    torch.manual_seed(0)
    recorder = fit(data, max_epochs=40)
    added = []
    for batch in recorder.batches["train"]:
        clean = data.splits["train"].collate(batch.rows)
        padding = torch.arange(batch.inputs.shape[1]) >= batch.lengths.unsqueeze(1)
        assert (batch.inputs[padding] == 0).all()
        assert torch.equal(batch.targets, clean.targets)
        added.append((batch.inputs - clean.inputs)[~padding].flatten())
    noise = torch.cat(added)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 0.5) < 0.02
    for batch in recorder.batches["validation"]:
        assert torch.equal(batch.inputs, data.splits["validation"].collate(batch.rows).inputs)


def test_crops_are_pieces_of_training_sequences_only():
    data = make_data(crop=0.3)
    torch.manual_seed(0)
    recorder = fit(data, max_epochs=40)
    shares, starts = [], set()
    for batch in recorder.batches["train"]:
        clean = data.splits["train"].collate(batch.rows)
        assert batch.inputs.shape[1] == batch.lengths.max()
        for cropped, length, whole, full in zip(
            batch.inputs, batch.lengths, clean.inputs, clean.lengths, strict=True
        ):
            assert (cropped[length:] == 0).all()
            piece, pieces = cropped[:length], whole[:full].unfold(0, int(length), 1)
            found = (pieces == piece.movedim(0, -1)).flatten(1).all(1).nonzero()
            assert len(found)
            shares.append(float(length / full))
            starts.add((int(full), int(found[0])))
    assert 0.3 <= min(shares) < 0.5
    assert max(shares) == 1
    assert len(starts) > 20
    for batch in recorder.batches["validation"]:
        assert torch.equal(batch.inputs, data.splits["validation"].collate(batch.rows).inputs)


@pytest.mark.parametrize(
    ("option", "value"),
    [("batch_size", 0), ("num_workers", -1), ("noise", -0.1), ("batch_tokens", 0)],
)
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=rf"{option}\s+Input should be greater than"):
        make_data(**{option: value})
