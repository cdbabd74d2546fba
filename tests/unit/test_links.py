"""Links to nothing below data/ and results/."""

from pathlib import Path

import pytest

from nuptse.errors import UserError
from nuptse.folder_state import SNAKEMAKE_STAMP
from nuptse.links import check_links


@pytest.mark.parametrize(
    "place", ["data", "results", "data/manifests/a.json", "data/shards/c/audio_0.tar", "results/x/train.json"]
)
def test_a_link_to_nothing_is_named(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    check_links()
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).symlink_to("disk")
    with pytest.raises(
        UserError, match=f"{place} is a link to disk, which is not there: .* delete {place} and run again"
    ):
        check_links()
    (Path(place).parent / "disk").mkdir()
    check_links()


def test_in_the_folder_of_a_rule_the_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("data/recipes/a")
    folder.mkdir(parents=True)
    (folder / SNAKEMAKE_STAMP).touch()
    (folder / "x.jsonl.gz").symlink_to("gone")
    with pytest.raises(
        UserError, match=r"data/recipes/a/x.jsonl.gz is a link to gone, .* delete data/recipes/a and run again"
    ):
        check_links()
