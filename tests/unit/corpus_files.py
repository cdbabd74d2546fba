"""A tiny corpus in the form of every source, made of the same utterances."""

import json
from pathlib import Path

import soundfile


def drop_length(flac: Path) -> None:
    """Make a FLAC file one that was written to a pipe: its header says that it has 0 samples, which means unknown."""
    content = bytearray(flac.read_bytes())
    content[21] &= 0xF0  # 36 bits of STREAMINFO
    content[22:26] = bytes(4)
    flac.write_bytes(content)


def write_table(folder: Path, parts: dict, name="table.csv") -> None:
    rows = ["path,text,speaker,split"]
    for part, utterances in parts.items():
        rows += [f'"{u["audio"].relative_to(folder)}","{u["text"]}",{u["speaker"]},{part}' for u in utterances]
    (folder / name).write_text("\n".join(rows) + "\n", "utf-8")


def write_folders(folder: Path, parts: dict) -> None:
    for part, utterances in parts.items():
        for u in utterances:
            target = folder / "folders" / part / u["speaker"] / u["audio"].name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(u["audio"].read_bytes())
            target.with_suffix(".txt").write_text(u["text"] + "\n", "utf-8")


def write_nemo(folder: Path, parts: dict) -> None:
    for part, utterances in parts.items():
        rows = [
            {
                "audio_filepath": str(u["audio"].relative_to(folder)),
                "duration": round(soundfile.info(u["audio"]).duration, 2),
                "text": u["text"],
                "speaker": u["speaker"],
            }
            for u in utterances
        ]
        (folder / f"nemo_{part}.json").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_kaldi(folder: Path, parts: dict) -> None:
    """One long recording for each part, with segments."""
    import numpy as np

    for part, utterances in parts.items():
        data = folder / "kaldi" / part
        data.mkdir(parents=True)
        pieces, segments, texts, speakers, start = [], [], [], [], 0.0
        for u in utterances:
            samples, rate = soundfile.read(u["audio"], dtype="int16")
            end = start + len(samples) / rate
            name = f"{u['speaker']}-{u['audio'].stem}"
            segments.append(f"{name} {part}_all {start:.4f} {end:.4f}")
            texts.append(f"{name} {u['text']}")
            speakers.append(f"{name} {u['speaker']}")
            pieces.append(samples)
            start = end
        soundfile.write(data / "all.wav", np.concatenate(pieces), rate)
        (data / "wav.scp").write_text(f"{part}_all all.wav\n")
        for file, lines in {"segments": segments, "text": texts, "utt2spk": speakers}.items():
            (data / file).write_text("\n".join(lines) + "\n")


def cut_set(utterances: list):
    from lhotse import CutSet, Recording, SupervisionSegment

    cuts = []
    for u in utterances:
        cut = Recording.from_file(u["audio"], recording_id=u["audio"].stem).to_cut()
        cut.supervisions = [
            SupervisionSegment(
                id=f"s-{cut.id}",
                recording_id=cut.id,
                start=0,
                duration=cut.duration,
                text=u["text"],
                speaker=u["speaker"],
            )
        ]
        cuts.append(cut)
    return CutSet.from_cuts(cuts)


def write_lhotse(folder: Path, parts: dict) -> None:
    for part, utterances in parts.items():
        cuts = cut_set(utterances)
        cuts.to_file(folder / f"cuts_{part}.jsonl.gz")
        recordings, supervisions, _ = cuts.decompose()
        recordings.to_file(folder / f"recordings_{part}.jsonl.gz")
        supervisions.to_file(folder / f"supervisions_{part}.jsonl.gz")
        (folder / "shar" / part).mkdir(parents=True)
        cuts.to_shar(folder / "shar" / part, fields={"recording": "flac"}, shard_size=5)


def write_huggingface(folder: Path, parts: dict) -> None:
    import datasets

    found = {}
    for part, utterances in parts.items():
        table = {
            "audio": [{"bytes": u["audio"].read_bytes(), "path": u["audio"].name} for u in utterances],
            "text": [u["text"] for u in utterances],
            "speaker": [u["speaker"] for u in utterances],
        }
        features = datasets.Features(
            {"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
            | {key: datasets.Value("string") for key in ("text", "speaker")}
        )
        data = datasets.Dataset.from_dict(table, features=features)
        found[part] = data.cast_column("audio", datasets.Audio(decode=False))
        (folder / "parquet").mkdir(exist_ok=True)
        found[part].to_parquet(folder / "parquet" / f"{part}-00000-of-00001.parquet")
    datasets.DatasetDict(found).save_to_disk(folder / "huggingface")


def write_all(folder: Path, parts: dict) -> None:
    """Write every form below ``folder``; ``parts``: for each the utterances with ``audio``, ``text`` and ``speaker``."""
    for write in (write_table, write_folders, write_nemo, write_kaldi, write_lhotse, write_huggingface):
        write(folder, parts)


# What reads them, as the block of a corpus says it; paths start at ``folder``.
BLOCKS = {
    "table": {"table": "table.csv"},
    "audio_folder": {"audio_folder": {"folder": {"train": "folders/train", "dev": "folders/dev"}, "speaker": "parent"}},
    "nemo_manifest": {"nemo_manifest": {"train": "nemo_train.json", "dev": "nemo_dev.json"}},
    "kaldi": {"kaldi": {"train": "kaldi/train", "dev": "kaldi/dev"}},
    "lhotse_cuts": {"lhotse": {"train": "cuts_train.jsonl.gz", "dev": "cuts_dev.jsonl.gz"}},
    "lhotse_pair": {
        "lhotse": {
            part: {kind: f"{kind}_{part}.jsonl.gz" for kind in ("recordings", "supervisions")}
            for part in ("train", "dev")
        }
    },
    "shar": {"shar": {"train": "shar/train", "dev": "shar/dev"}},
    "huggingface": {"huggingface": "huggingface"},
    "parquet": {"huggingface": "parquet"},
}
