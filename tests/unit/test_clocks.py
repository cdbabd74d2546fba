"""Files whose time is yet to come."""

import os
import time
from pathlib import Path

import pytest

from nuptse.clocks import bring_back


def test_files_from_the_future_get_the_time_of_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now = time.time()
    for name in ("data/a", "data/folder/.snakemake_timestamp", "data/old", "results/b", "mine/c"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (now, now - 1e8 if name == "data/old" else now + 1e8))
    files = ["data/a", "data/a", "data/folder", "data/old", "data/gone", "results/b", "mine/c"]
    assert bring_back(files) == ["data/a", "data/folder", "results/b"]
    times = {
        name: Path(name).stat().st_mtime
        for name in ("data/a", "data/folder/.snakemake_timestamp", "data/old", "mine/c")
    }
    assert max(times["data/a"], times["data/folder/.snakemake_timestamp"]) < now + 60
    assert (times["data/old"], times["mine/c"]) == pytest.approx((now - 1e8, now + 1e8))
    assert bring_back(files) == []
