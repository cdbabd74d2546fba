"""In which order and in which batches a model is validated."""

from itertools import chain

import pytest
from lhotse import CutSet
from lhotse.testing.dummies import dummy_cut

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
