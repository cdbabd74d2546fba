"""Write the embedded English corpus as one has speech at home: a folder of WAV files and a CSV table."""

import csv
import io
import sys
import tarfile
from pathlib import Path

import soundfile

ARCHIVES = ("31/train-clean-5.tar.gz", "31/dev-clean-2.tar.gz", "12/test-clean.tar.gz")


def main(folder: Path) -> None:
    """Write ``wavs/<utterance>.wav`` and ``metadata.csv`` with the columns path, text and speaker."""
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    texts: dict[str, str] = {}
    for name in ARCHIVES:
        with tarfile.open(Path(__file__).parent / name) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file and member.name.endswith(".flac"):
                    samples, rate = soundfile.read(io.BytesIO(file.read()), dtype="int16")
                    soundfile.write(folder / "wavs" / f"{Path(member.name).stem}.wav", samples, rate)
                elif file and member.name.endswith(".trans.txt"):
                    texts |= dict(line.split(" ", 1) for line in file.read().decode().splitlines())
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "text", "speaker"])
        for name, text in sorted(texts.items()):
            # As people write: a capital at the start, a full stop at the end.
            table.writerow([f"wavs/{name}.wav", f"{text.capitalize()}.", name.partition("-")[0]])
    print(f"{folder}: {len(texts)} recordings, and metadata.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
