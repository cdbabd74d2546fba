"""What a folder of tar shards has once: the manifest of all rows, ``metadata.yaml`` and the ledger of all shards."""

import math
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from nuptse.errors import UserError, write_atomically
from nuptse.shard_ledger import Shard, check_shards, read_ledger, write_ledger
from nuptse.shard_plan import ShardPlan
from nuptse.shard_records import record_name


def index_shards(plan: ShardPlan, group_ledgers: Sequence[Path], output_dir: Path, ledger: Path) -> list[str]:
    """Complete a folder of shards: manifest of all rows, ``metadata.yaml`` and ledger.

    Equal shards give an equal ledger, however they were divided into groups and repaired.

    Args:
        plan: the plan that the groups were written from.
        group_ledgers: the ledgers of all groups.
        output_dir: folder of the shards.
        ledger: the ledger of the whole folder, JSON.

    Returns:
        The names of files that an earlier run with other settings had left, and that were removed.

    Raises:
        UserError: the groups lack a shard, have one twice, belong to another plan, or add up to
            other utterances or hours than planned; or a file is missing.
    """
    shards = _gather(plan, group_ledgers)
    for group_ledger in group_ledgers:
        check_shards(group_ledger)
    stale = _remove_stale(shards, group_ledgers, output_dir)
    with write_atomically(output_dir / "tarred_audio_manifest.json") as temporary, temporary.open("wb") as rows:
        for shard in shards:
            with (output_dir / shard["manifest"]).open("rb") as part:
                shutil.copyfileobj(part, rows)
    with write_atomically(output_dir / "metadata.yaml") as temporary:
        temporary.write_text(metadata_yaml([shard["utterances"] for shard in shards], plan.seed), "utf-8")
    content = {
        "num_shards": len(shards),
        "utterances": sum(shard["utterances"] for shard in shards),
        "duration_s": _total_s(shards),
        "tar_bytes": sum(shard["tar_bytes"] for shard in shards),
        "shards": shards,
    }
    write_ledger(ledger, output_dir, content)
    return stale


def _total_s(shards: Iterable[Shard]) -> float:
    return round(math.fsum(shard["duration_s"] for shard in shards), 6)


def _gather(plan: ShardPlan, group_ledgers: Sequence[Path]) -> list[Shard]:
    """Return all shards by their ids, after comparing them with the plan."""
    identity = plan.identity()
    found: dict[int, tuple[Shard, Path]] = {}
    for group_ledger in group_ledgers:
        content = read_ledger(group_ledger)
        if any(content.get(key) != value for key, value in identity.items()):
            raise UserError(
                f"{group_ledger} was written for another manifest, seed or number of shards; "
                "write its shards again with tar_shards.py"
            )
        for shard in content["shards"]:
            if shard["shard_id"] in found:
                raise UserError(
                    f"shard {shard['shard_id']} is in {found[shard['shard_id']][1]} and in {group_ledger}; "
                    "give each group once"
                )
            found[shard["shard_id"]] = shard, group_ledger
    if missing := sorted(set(range(plan.num_shards)) - found.keys()):
        raise UserError(
            f"{len(missing)} of {plan.num_shards} shards are in no ledger, the first is shard {missing[0]}; "
            "give the ledgers of all groups"
        )
    shards = [found[shard_id][0] for shard_id in range(plan.num_shards)]
    utterances, duration_s = sum(shard["utterances"] for shard in shards), _total_s(shards)
    # The plan adds the durations in another order.
    if utterances != plan.utterances or not math.isclose(duration_s, plan.duration_s, rel_tol=1e-6, abs_tol=1e-3):
        raise UserError(
            f"the shards have {utterances} utterances of {duration_s:.3f} s, "
            f"planned were {plan.utterances} of {plan.duration_s:.3f} s; write all shards again"
        )
    return shards


def _remove_stale(shards: Sequence[Shard], group_ledgers: Sequence[Path], output_dir: Path) -> list[str]:
    """Remove shards and group ledgers that earlier runs left: a wildcard would pick them up."""
    output_dir = output_dir.resolve()
    ours = {output_dir / name for shard in shards for name in (shard["tar"], shard["manifest"])}
    ours |= {output_dir / record_name(shard["shard_id"]) for shard in shards}
    ours |= {group_ledger.resolve() for group_ledger in group_ledgers}
    candidates = [*output_dir.glob("audio_*"), *output_dir.glob("sharded_manifests/manifest_*")]
    candidates += output_dir.glob("ledger/shards/*")
    for folder in {group_ledger.resolve().parent for group_ledger in group_ledgers}:
        if output_dir in folder.parents:  # Elsewhere, we do not know what other files are for.
            candidates += folder.glob("*.json")
    stale = sorted(path for path in candidates if _STALE.fullmatch(path.name) and path not in ours)
    for path in stale:
        path.unlink()
    return [str(path.relative_to(output_dir)) for path in stale]


_STALE = re.compile(r"(audio_\d+\.tar|(manifest_)?\d+\.json)(\.part)?")


def metadata_yaml(sizes: Sequence[int], seed: int) -> str:
    """Return ``metadata.yaml`` with the keys of NeMo's converter, less the date of creation.

    Args:
        sizes: utterances of each shard.
        seed: of the plan.

    Source: ``ASRTarredDatasetMetadata`` in ``convert_to_tarred_audio_dataset.py`` of NeMo.
    """
    each, more = divmod(sum(sizes), len(sizes))
    even = sorted(sizes) == [each] * (len(sizes) - more) + [each + 1] * more
    how = f"{more} of the shards have one more" if even else f"on average; {min(sizes)} to {max(sizes)}"
    return f"""\
version: 0
num_samples_per_shard: {each}  # {how}
is_concatenated_manifest: false
dataset_config:
  num_shards: {len(sizes)}
  shuffle: true
  max_duration: null
  min_duration: null
  shuffle_seed: {seed}
  sort_in_shards: false
  slice_with_offset: true
  shard_manifests: true
  keep_files_together: false
  force_codec: null
  use_lhotse: true
history: []
"""
