"""A corpus that grew keeps its shards, a killed job goes on, and the fast tar is the bytes of Python's tarfile."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shards import contents, make_rows, write_all, write_manifest

import plan_shards as plan_command
from nuptse.errors import UserError
from nuptse.shard_growth import _fill, extended_shards
from nuptse.shard_index import index_shards
from nuptse.shard_ledger import group_shards, num_groups, read_ledger
from nuptse.shard_plan import load_plan, save_plan
from nuptse.shard_planning import plan_shards
from nuptse.shard_tar import BLOCK_BYTES, TarFile, tar_header
from nuptse.shards import write_group


def plan_rows(path: Path, ids: list[str]) -> Path:
    return write_manifest(path, [{"id": name, "audio_filepath": "x.wav", "duration": 1} for name in ids])


def shards_of(plan, manifest: Path) -> list[list[str]]:
    text = manifest.read_bytes()
    return [
        [json.loads(text[start:].split(b"\n", 1)[0])["id"] for start in plan.lines(i)] for i in range(plan.num_shards)
    ]


# --- Which shard ---


@pytest.mark.parametrize(("grown", "touched"), [(32, 3), (35, 3), (33, 2)])
def test_a_tenth_more_touches_about_a_tenth_of_the_shards(tmp_path, grown, touched):
    ids = [f"u{n}" for n in range(1000)]
    old = plan_rows(tmp_path / "old.json", ids)
    # The new ones may stand anywhere in the manifest.
    new = plan_rows(tmp_path / "new.json", [f"v{n}" for n in range(50)] + ids[::-1] + [f"w{n}" for n in range(50)])
    before = plan_shards(old, 32, 0)
    after = plan_shards(new, grown, 0, before)
    assert after.kept == 1000
    was, now = shards_of(before, old), shards_of(after, new)
    assert sum(a != b for a, b in zip(was, now, strict=False)) + grown - 32 == touched
    for i, shard in enumerate(was):
        assert set(shard) <= set(now[i])
    assert sorted(name for shard in now for name in shard) == sorted(
        [*ids, *(f"v{n}" for n in range(50)), *(f"w{n}" for n in range(50))]
    )
    for shard in now:
        assert shard == [name for name in shards_of(plan_shards(new, 1, 0), new)[0] if name in set(shard)], "hash order"


def test_the_same_plan_comes_out_again(tmp_path):
    manifest = plan_rows(tmp_path / "m.json", [f"u{n}" for n in range(100)])
    fresh = plan_shards(manifest, 7, 0)
    again = plan_shards(manifest, 7, 0, fresh)
    assert again.offsets == fresh.offsets
    assert again.identity() == fresh.identity()


@pytest.mark.parametrize(
    ("left", "added", "num_shards", "seed"),
    [
        (100, 0, 6, 0),  # fewer shards
        (100, 0, 20, 0),  # nothing new to fill the new shards with
        (100, 10, 14, 0),  # too little
        (40, 60, 7, 0),  # most are new
        (100, 10, 8, 1),  # another order was asked for
    ],
)
def test_what_cannot_be_extended_is_planned_anew(tmp_path, left, added, num_shards, seed):
    before = plan_shards(plan_rows(tmp_path / "old.json", [f"u{n}" for n in range(100)]), 7, 0)
    ids = [f"u{n}" for n in range(left)] + [f"new{n}" for n in range(added)]
    manifest = plan_rows(tmp_path / "new.json", ids)
    after = plan_shards(manifest, num_shards, seed, before)
    assert after.kept == 0
    assert after.identity() == plan_shards(manifest, num_shards, seed).identity()


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.data())
@settings(max_examples=300, deadline=None)
def test_extended_shards_move_nothing_and_stay_even(shards_before, num_shards, removed, kept, added, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    keys = rng.permutation(1000)[: removed + kept + added].astype(np.uint64)
    before = keys[: removed + kept]
    if len(before) < shards_before or kept + added < num_shards:
        return
    starts = np.array([i * len(before) // shards_before for i in range(shards_before + 1)])
    now = np.sort(keys[removed:])
    shards, found = extended_shards(now, before, starts, num_shards)
    assert found == kept
    if shards is None:
        return
    was = dict(zip(before.tolist(), np.repeat(np.arange(shards_before), np.diff(starts)).tolist(), strict=True))
    assert all(was.get(key, shard) == shard for key, shard in zip(now.tolist(), shards.tolist(), strict=True))
    sizes = np.bincount(shards, minlength=num_shards)
    assert len(sizes) == num_shards
    assert sizes.min() >= max(1, np.floor(len(now) / num_shards / 2))
    assert sizes.max() <= np.ceil(len(now) / num_shards * 2)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(0, 200))
def test_new_utterances_fill_all_empty_and_the_smallest_shards(sizes, new):
    sizes = np.array(sizes)
    filled = _fill(sizes, new)
    assert len(filled) == new
    if new >= len(sizes):
        assert set(np.flatnonzero(sizes == 0)) <= set(filled.tolist())
    final = sizes + np.bincount(filled, minlength=len(sizes))
    touched = final[np.unique(filled)] if new else final[:0]
    assert not new or np.ptp(touched) <= 1


# --- What is written again ---


def write_again(manifest: Path, output_dir: Path, before, num_shards: int, code: str = "", per_job: int = 2):
    """Extend shards; return the plan and how many shards were kept."""
    plan, kept, ledgers = plan_shards(manifest, num_shards, 0, before), 0, []
    for group in range(num_groups(num_shards, per_job)):
        ledgers.append(output_dir / "ledger" / f"{group}.json")
        kept += write_group(
            manifest, plan, group_shards(group, per_job, num_shards), output_dir, ledgers[-1], code=code
        )[1]
    index_shards(plan, ledgers, output_dir, output_dir / "ledger.json")
    return plan, kept


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("audio_*.tar")}


def test_appending_writes_new_and_touched_shards_only(tmp_path):
    rows, out = make_rows(tmp_path, 44), tmp_path / "out"
    plan, _ = write_all(write_manifest(tmp_path / "old.json", rows[:40]), out, num_shards=10)
    before, then = contents(out), times(out)
    manifest = write_manifest(tmp_path / "new.json", rows)
    _, kept = write_again(manifest, out, plan, num_shards=11)
    assert kept == 10
    assert {name: when for name, when in times(out).items() if name != "audio_10.tar"} == then
    after = contents(out)
    unchanged = [f"audio_{i}.tar" for i in range(10)] + [f"sharded_manifests/manifest_{i}.json" for i in range(10)]
    assert {name: before[name] for name in unchanged} == {name: after[name] for name in unchanged}
    total = read_ledger(out / "ledger.json")
    assert (total["num_shards"], total["utterances"]) == (11, 44)
    assert "4  # 0 of the shards have one more" in (out / "metadata.yaml").read_text()


def test_a_changed_row_or_file_writes_its_shard_again(tmp_path):
    rows, out = make_rows(tmp_path, 12), tmp_path / "out"
    manifest = write_manifest(tmp_path / "m.json", rows)
    plan, _ = write_all(manifest, out, num_shards=4)
    assert write_again(manifest, out, plan, 4)[1] == 4
    rows[5]["text"] = "anders"
    assert write_again(write_manifest(manifest, rows), out, plan, 4)[1] == 3
    os.utime(rows[7]["audio_filepath"], (1, 1))
    assert write_again(manifest, out, plan, 4)[1] == 3
    (out / "audio_2.tar").unlink()
    assert write_again(manifest, out, plan, 4)[1] == 3
    assert write_again(manifest, out, plan, 4)[1] == 4
    assert write_again(manifest, out, plan, 4, code="another")[1] == 0
    (out / "ledger/shards/1.json").write_text("{")
    assert write_again(manifest, out, plan, 4, code="another")[1] == 3
    fresh = tmp_path / "fresh"
    write_all(manifest, fresh, num_shards=4)
    a, b = contents(out), contents(fresh)
    assert {name: a[name] for name in a if "ledger/" not in name} == {
        name: b[name] for name in b if "ledger/" not in name
    }


def test_a_killed_group_goes_on_with_the_next_shard(tmp_path, monkeypatch):
    rows, out = make_rows(tmp_path, 12), tmp_path / "out"
    manifest = write_manifest(tmp_path / "m.json", rows)
    plan = plan_shards(manifest, 4, 0)
    actual, written = os.fstat, []

    def killed(descriptor):
        written.append(descriptor)
        if len(written) > 8:
            raise SystemExit
        return actual(descriptor)

    # As SIGKILL leaves it: without the clearing up that an exception would do.
    monkeypatch.setattr("nuptse.shards.os.fstat", killed)
    monkeypatch.setattr("nuptse.shards._clear", lambda *_: None)
    with pytest.raises(SystemExit):
        write_group(manifest, plan, range(4), out, out / "ledger/0.json")
    monkeypatch.undo()
    aside = sorted(path.name for path in out.glob("ledger/shards/*.part"))
    assert aside
    assert len(aside) < 4
    then = {name: (out / f"audio_{name.split('.')[0]}.tar.part").stat().st_mtime_ns for name in aside}
    write_group(manifest, plan, range(4), out, out / "ledger/0.json")
    assert {name: (out / f"audio_{name.split('.')[0]}.tar").stat().st_mtime_ns for name in aside} == then
    write_all(manifest, tmp_path / "fresh", num_shards=4)
    for number in range(4):
        name = f"audio_{number}.tar"
        assert (out / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    assert not list(out.rglob("*.part"))


def test_records_of_shards_that_are_gone_are_removed(tmp_path):
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 8))
    out = tmp_path / "out"
    write_all(manifest, out, num_shards=6)
    (out / "ledger/shards/7.json.part").write_text("of a killed run")
    write_again(manifest, out, None, num_shards=3)
    assert sorted(path.name for path in (out / "ledger/shards").iterdir()) == ["0.json", "1.json", "2.json"]


def test_the_command_extends_the_plan_that_is_there(tmp_path, capsys):
    manifest, plan = tmp_path / "m.json", tmp_path / "plan.bin"
    plan_rows(manifest, [f"u{n}" for n in range(40)])
    command = f"--manifest {manifest} --num-shards 4 --seed 0 --plan {plan}".split()
    plan_command.main(command)
    plan_rows(manifest, [f"u{n}" for n in range(44)])
    plan_command.main(command)
    assert "44 utterances and 0.01 hours in, planned for 4 shards, dropped 0; 40 stay" in capsys.readouterr().out
    grown = plan.read_bytes()
    plan_command.main(command)
    assert "44 stay" in capsys.readouterr().out
    assert plan.read_bytes() == grown, "planned once more, the same bytes"
    plan.write_bytes(b"of another release")
    plan_command.main(command)
    assert " 0 stay" in capsys.readouterr().out
    save_plan(load_plan(plan), tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == plan.read_bytes()


# --- The tar ---


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=120), st.integers(0, 1 << 40)
)
def test_headers_are_those_of_tarfile(name, size):
    expected = tarfile.TarInfo(name)
    expected.size = size
    assert tar_header(name, size) == expected.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("sizes", [[], [1], [511, 512, 513], [BLOCK_BYTES - 512, 1], [3 * BLOCK_BYTES + 7, 0, 10]])
def test_a_tar_is_that_of_tarfile(tmp_path, sizes):

    expected = io.BytesIO()
    with tarfile.TarFile(fileobj=expected, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, size in enumerate(sizes):
            info = tarfile.TarInfo(f"{number}.flac")
            info.size = size
            tar.addfile(info, io.BytesIO(bytes([number + 1]) * size))
    for by_file in (True, False):
        with TarFile(tmp_path / "a.tar") as tar:
            for number, size in enumerate(sizes):
                data = bytes([number + 1]) * size
                (tmp_path / "audio").write_bytes(data)
                with (tmp_path / "audio").open("rb") as audio:
                    tar.add_file(f"{number}.flac", audio.fileno(), size) if by_file else tar.add(f"{number}.flac", data)
        assert (tmp_path / "a.tar").read_bytes() == expected.getvalue()
        assert tar.size == len(expected.getvalue())
        assert tar.xxh128() == xxhash.xxh3_128(expected.getvalue()).hexdigest()


def test_a_file_that_ends_early_is_an_error(tmp_path):
    (tmp_path / "audio").write_bytes(b"123")
    with (
        (tmp_path / "audio").open("rb") as audio,
        TarFile(tmp_path / "a.tar") as tar,
        pytest.raises(OSError, match="unexpected end of data"),
    ):
        tar.add_file("a", audio.fileno(), 4)


def test_lines_of_any_length_are_planned_and_written(tmp_path):
    rows = make_rows(tmp_path, 3)
    rows[0]["text"], rows[1]["text"] = "x" * 5000, "y" * 200_000
    manifest = write_manifest(tmp_path / "m.json", rows)
    manifest.write_text(manifest.read_text().rstrip("\n"))  # no newline at the end
    write_all(manifest, tmp_path / "out", num_shards=1)
    texts = {json.loads(line)["text"] for line in (tmp_path / "out/tarred_audio_manifest.json").open()}
    assert texts == {row["text"] for row in rows}


def test_a_plan_of_another_manifest_is_refused(tmp_path):
    manifest = write_manifest(tmp_path / "m.json", make_rows(tmp_path, 4))
    plan = plan_shards(manifest, 2, 0)
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[::-1]))
    with pytest.raises(UserError, match="changed since its shards were planned"):
        write_group(manifest, plan, range(2), tmp_path / "out", tmp_path / "out/ledger/0.json")
