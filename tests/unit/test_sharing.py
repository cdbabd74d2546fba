"""Ranks that validate together hear every utterance of a set once."""

import pytest
from lhotse import CutSet
from lhotse.dataset import SimpleCutSampler
from lhotse.testing.dummies import dummy_cut

from nuptse.errors import UserError
from nuptse.sharing import rounds


@pytest.mark.parametrize("world", [2, 3, 4])
def test_every_utterance_is_validated_once(world):
    for number in range(world, 60):
        cuts = CutSet.from_cuts(dummy_cut(i, duration=1.0) for i in range(number))
        dealt = list(rounds(SimpleCutSampler(cuts, max_cuts=5, shuffle=False), world, "dev"))
        assert all(len(batches) == world and all(map(len, batches)) for batches in dealt), "none is empty"
        assert sorted(cut.id for batches in dealt for batch in batches for cut in batch) == sorted(cuts.ids)
        assert all(len(batch) <= 6 for batches in dealt for batch in batches)


def test_a_set_of_fewer_utterances_than_ranks_is_refused():
    with pytest.raises(UserError, match="validation set dev has 3 utterances for the 4 processes"):
        list(rounds([CutSet.from_cuts(map(dummy_cut, range(3)))], 4, "dev"))
