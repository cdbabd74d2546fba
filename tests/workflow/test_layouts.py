"""The layouts deliver the same utterances, read by NeMo's own loader."""

import contextlib

import pytest
import torch
import yaml
from conftest import ROOT

from nuptse.config import load_config
from nuptse.overrides import finetune_overrides
from nuptse.settings import resolve_experiment

pytestmark = pytest.mark.slow

SCHEMA = yaml.safe_load((ROOT / "config" / "schema.yaml").read_text())
CONFIG = load_config(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), SCHEMA)
SHARDS = {name: corpus["num_shards"] for name, corpus in CONFIG["corpora"].items()}
MIX = [{"corpus": "quickstart", "split": "train"}, {"corpus": "quickstart_yesno", "split": "train"}]


class Utterances(torch.utils.data.Dataset):
    """What a batch holds: id, transcript and samples of each cut."""

    def __getitem__(self, cuts):
        return [((cut.custom or {}).get("id", cut.id), cut.supervisions[0].text, cut.load_audio()) for cut in cuts]


def one_pass(folder, layout, train):
    """Return {id: (text, samples)} of one pass over the training data, in the options that a fine-tune gets."""
    from omegaconf import OmegaConf

    from nuptse.runtime import prepare_runtime

    prepare_runtime()
    from nemo.collections.common.data.lhotse import get_lhotse_dataloader_from_config

    settings = resolve_experiment(CONFIG, "finetune_from_cutset", SCHEMA) | {"layout": layout, "train": train}
    train_ds = OmegaConf.from_dotlist(finetune_overrides(settings, SHARDS)).model.train_ds
    train_ds.bucket_buffer_size = 1000  # else set from the bins, see training.resolve_options
    train_ds.force_finite = True
    train_ds.num_workers = 0
    train_ds.perturb_speed = False  # each utterance once, as it was recorded
    with contextlib.chdir(folder):
        loader = get_lhotse_dataloader_from_config(train_ds, global_rank=0, world_size=1, dataset=Utterances())
        utterances = [row for batch in loader for row in batch]
    found = {name: (text, samples) for name, text, samples in utterances}
    assert len(found) == len(utterances), "an utterance came twice"
    return found


@pytest.fixture(scope="module")
def reference(finished):
    """From the CutSet: the 180 utterances of one corpus and the 30 of the other."""
    return one_pass(finished.folder, "cutset", MIX)


@pytest.mark.parametrize(
    ("layout", "train"),
    [("cutset", MIX[:1]), ("nemo_json", MIX[:1]), ("nemo_json", MIX), ("tarred", MIX[:1]), ("tarred", MIX[1:]), ("tarred", MIX)],
    ids=["cutset", "nemo_json", "nemo_json mix", "tarred", "one shard", "tarred mix"],
)  # fmt: skip
def test_every_layout_delivers_the_same_utterances(finished, reference, layout, train):
    found = one_pass(finished.folder, layout, train)
    corpora = {entry["corpus"] for entry in train}
    expected = {name for name in reference if ("quickstart" if name[0] == "9" else "quickstart_yesno") in corpora}
    assert len(reference) == 210
    assert found.keys() == expected
    for name, (text, samples) in found.items():
        assert text == reference[name][0]
        assert (samples == reference[name][1]).all()
