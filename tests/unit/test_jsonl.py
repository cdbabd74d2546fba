"""Files that rules make, read back: whole, or named with what to delete."""

import json

import pytest

from nuptse.errors import UserError, make_again
from nuptse.folder_state import SNAKEMAKE_STAMP
from nuptse.jsonl import read_json, read_rows


def test_a_damaged_file_says_what_to_delete(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    path = folder / "a.jsonl"
    assert make_again(path) == f"delete {path} and run again"
    (folder / SNAKEMAKE_STAMP).touch()  # a rule makes the folder as a whole
    with pytest.raises(
        UserError, match=f"cannot read {path}: No such file or directory; delete {folder} and run again"
    ):
        list(read_rows(path, dict))
    path.write_bytes(b'{"a": 1}\n{"a')
    with pytest.raises(UserError, match=f"line 2: .*; delete {folder} and run again"):
        list(read_rows(path, dict))
    for content in (b"", b"[1]", b'{"a": 1', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path} is not of the form .*; delete {folder} and run again"):
            read_json(path, dict)
    path.write_text(json.dumps({"a": float("nan")}))
    assert read_json(path, dict).keys() == {"a"}
