"""In which order and in which batches a model is validated."""

from itertools import chain

import pytest
from lhotse import CutSet
from lhotse.testing.dummies import dummy_cut
from transducers import transducer_config

from nuptse.models import train_tokenizer
from nuptse.runtime import prepare_runtime

pytestmark = pytest.mark.slow  # importing NeMo takes seconds

DURATIONS = [3.0, 9.0, 1.0, 9.5, 2.0, 10.0, 1.5]


@pytest.fixture
def validation():
    prepare_runtime()
    from nuptse import validation

    return validation


class Lazy:
    """Cuts as a manifest gives them: read anew each time."""

    def __init__(self):
        self.times = 0

    def __iter__(self):
        self.times += 1
        yield from (dummy_cut(number, duration=duration) for number, duration in enumerate(DURATIONS))


class Model:
    """What is asked of NeMo's model."""

    def __init__(self, *cuts, batch_duration):
        from lhotse.dataset.sampling import DynamicCutSampler
        from lhotse.dataset.sampling.base import TimeConstraint
        from torch.utils.data import DataLoader

        class Durations:
            def __getitem__(self, batch):
                return [cut.duration for cut in batch]

        samplers = [
            DynamicCutSampler(CutSet(each), constraint=TimeConstraint(max_duration=batch_duration)) for each in cuts
        ]
        loaders = [DataLoader(Durations(), sampler=sampler, batch_size=None) for sampler in samplers]
        self._validation_dl = loaders if len(loaders) > 1 else loaders[0]


def test_batches_hold_utterances_of_similar_length(validation):
    model = Model(Lazy(), batch_duration=20)
    before = list(model._validation_dl)
    validation.validate_longest_first(model)
    batches = list(model._validation_dl)
    assert batches == [[10.0, 9.5], [9.0, 3.0], [2.0, 1.5, 1.0]]
    assert sorted(chain(*batches)) == sorted(chain(*before))
    assert all(max(batch) * len(batch) <= 20 for batch in batches)


def test_every_set_is_read_once_when_it_is_needed(validation):
    sets = [Lazy(), Lazy()]
    model = Model(*sets, batch_duration=20)
    validation.validate_longest_first(model)
    assert [each.times for each in sets] == [0, 0]
    for _ in range(2):
        assert [len(list(loader)) for loader in model._validation_dl] == [3, 3]
    assert [each.times for each in sets] == [1, 1]


@pytest.fixture
def transducer(validation, tmp_path):
    """A tiny RNN-T whose joint takes two utterances at a time, with validation batches of 5 and 4 utterances."""
    import lightning.pytorch as pl
    import torch
    from nemo.collections.asr.models import EncDecRNNTBPEModel
    from omegaconf import OmegaConf
    from torch.utils.data import DataLoader

    train_tokenizer(["the quick brown fox jumps over the lazy dog"], 40, tmp_path)
    pl.seed_everything(0, verbose=False)
    config = transducer_config(tmp_path, fuse_loss_wer=True, fused_batch_size=2) | {"log_prediction": False}
    model = EncDecRNNTBPEModel(OmegaConf.create(config))
    batches = []
    for utterances in (5, 4):
        lengths = 16000 - 1600 * torch.arange(utterances)
        texts = torch.randint(1, 30, (utterances, 6))
        batches.append((torch.randn(utterances, 16000), lengths, texts, 6 - torch.arange(utterances)))
    model._validation_dl = DataLoader(batches, batch_size=None)
    model._validation_names = ["val"]
    return model


def validated(model, monkeypatch, *callbacks):
    """Validate; return what comes out, the loss of each batch, and how many times ranks would have met."""
    import lightning.pytorch as pl

    synced, compute = [], type(model.wer).compute
    monkeypatch.setattr(model.wer, "compute", lambda: synced.append(1) or compute(model.wer))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(**quiet, callbacks=list(callbacks))
    (found,) = trainer.validate(model, verbose=False)
    return found, len(synced)


def test_ranks_meet_once_in_each_validation_batch_of_a_fused_transducer(validation, transducer, monkeypatch):
    in_parts, often = validated(transducer, monkeypatch)
    assert often == 3 + 2 and "val_loss" in in_parts
    whole, once = validated(transducer, monkeypatch, validation.WholeBatches())
    assert once == 2 and "val_loss" not in whole
    assert whole["val_wer"] == in_parts["val_wer"] > 0
    assert transducer.joint.fused_batch_size == 2, "a training step goes on in parts"


def test_other_models_are_validated_as_they_are(validation, transducer, monkeypatch):
    transducer.joint.set_fuse_loss_wer(False)
    found, once = validated(transducer, monkeypatch, validation.WholeBatches())
    assert once == 2 and "val_loss" in found and transducer.joint.fused_batch_size == 2
    validation.WholeBatches().on_validation_start(None, object())
