"""Splits made by a keyed hash: disjoint, complete, stable, and honest about what came out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuptse.errors import UserError
from nuptse.splits import Shares, origin_of, parts_of, split_names
from nuptse.splits import deal as deal_out

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def rows(speakers, each=1, seconds=3600.0):
    return [
        {"id": f"{speaker}-{n}", "speaker": speaker, "recording_id": f"r-{speaker}-{n}", "duration": seconds}
        for speaker in speakers
        for n in range(each)
    ]


def deal(supervisions, split="train", unit="speaker", key="1", shares=SHARES):
    how = Shares(unit, key, shares)
    dealt = deal_out("mine", how, supervisions)
    dealt.check(split)
    chosen = [row for row in supervisions if how.split_of(how.unit_of(row)) == split]
    assert (dealt.amounts[split].utterances, dealt.amounts[split].seconds) == (
        len(chosen), sum(row["duration"] for row in chosen)
    )  # fmt: skip
    return dealt, chosen


def of_each(supervisions, **how):
    """The ids of each split; nothing may fall to one."""
    found = {}
    for split in SHARES:
        try:
            found[split] = {row["id"] for row in deal(supervisions, split, **how)[1]}
        except UserError as error:
            assert f"nothing fell to {split}" in str(error)  # noqa: PT017
            found[split] = set()
    return found


@given(
    speakers=st.lists(st.text(min_size=1), max_size=30, unique=True),
    more=st.lists(st.text(min_size=1), max_size=10, unique=True),
    key=st.text(min_size=1, max_size=16),
    unit=st.sampled_from(["speaker", "recording", "utterance", ["speaker", "recording"]]),
    seed=st.randoms(),
)
def test_every_utterance_is_in_one_split_and_stays_there(speakers, more, key, unit, seed):
    data = rows(speakers, each=2)
    before = of_each(data, key=key, unit=unit)
    assert sorted(name for names in before.values() for name in names) == sorted(row["id"] for row in data)
    grown = data + rows(set(more) - set(speakers))
    seed.shuffle(grown)
    after = of_each(grown, key=key, unit=unit)
    for split, names in before.items():
        assert names == {name for name in after[split] if name in {row["id"] for row in data}}
    if unit == "speaker":
        voices = [{name.rpartition("-")[0] for name in names} for names in after.values()]
        assert sum(map(len, voices)) == len(set().union(*voices)), "nobody speaks in two splits"


def test_shares_come_out_as_wanted_where_speakers_are_many():
    dealt, chosen = deal(rows(map(str, range(2000))), "dev")
    assert 160 < len(chosen) < 240
    assert dealt.warnings() == []
    assert dealt.lines()[0].startswith(
        f"mine/dev: {len(chosen)} speakers, {len(chosen)} utterances, {len(chosen)}.000 h,"
    )
    assert dealt.lines()[0].endswith("of the audio; wanted 10.0%")


def test_the_order_of_the_shares_does_not_matter_and_the_key_does():
    names = [str(n) for n in range(200)]
    one, other = Shares("speaker", "1", SHARES), Shares("speaker", "1", dict(sorted(SHARES.items())))
    assert [one.split_of(name) for name in names] == [other.split_of(name) for name in names]
    assert [one.split_of(name, "2") for name in names] != [one.split_of(name) for name in names]


def test_a_key_that_deals_better_is_named_where_speakers_are_few():
    people = rows(map(str, range(10)))
    bad = next(key for key in map(str, range(100)) if not of_each(people, key=key)["dev"])
    with pytest.raises(UserError, match="nothing fell to dev: 10 speakers are few for these shares; with") as caught:
        deal(people, "dev", key=bad)
    better = str(caught.value).partition('split_by.key: "')[2].partition('"')[0]
    assert {split: len(names) for split, names in of_each(people, key=better).items()} == {"train": 8, "dev": 1, "test": 1}  # fmt: skip
    assert deal(people, key=better)[0].warnings() == []
    (warning,) = deal(people, key=bad)[0].warnings()
    assert "dev has 0.0% of the audio instead of 10.0%" in warning


def test_missing_speakers_are_refused():
    people = [*rows(["anna"], each=3), {"id": "x", "speaker": None, "recording_id": "r", "duration": 1.0}]
    with pytest.raises(
        UserError, match="`corpora.mine.split_by.unit` is speaker, but 1 of 4 utterances have none, such as x: name"
    ):
        deal(people)
    assert sum(map(len, of_each(people, unit=["speaker", "recording"]).values())) == 4


def test_the_channels_of_a_recording_stay_together():
    calls = [
        {
            "id": f"{call}-c{channel}",
            "recording_id": f"{call}-c{channel}",
            "custom": {"original_recording_id": call},
            "speaker": f"{call}-{channel}",
            "duration": 60.0,
        }
        for call in map(str, range(40))
        for channel in (0, 1)
    ]
    together = of_each(calls, unit="recording")
    assert sum(map(len, together.values())) == len(calls)
    assert all({name[:-1] + "0", name[:-1] + "1"} <= names for names in together.values() for name in names)
    apart = of_each(calls, unit="speaker")
    assert any(name[:-1] + "0" not in names for names in apart.values() for name in names)


def test_given_parts_and_made_splits_stand_beside_each_other():
    corpus = {"splits": {"test": "test-clean"}, "split_by": {"unit": "speaker", "key": "1", "shares": {"train": 0.9, "dev": 0.1}, "parts": ["a", "b"]}}  # fmt: skip
    assert split_names(corpus) == ["test", "train", "dev"]
    assert parts_of(corpus, "test") == ["test-clean"]
    assert parts_of(corpus, "dev") == ["a", "b"]
    assert origin_of(corpus, "test") == "test-clean"
    assert origin_of(corpus, "dev") == "0.1 of a + b by speaker"
