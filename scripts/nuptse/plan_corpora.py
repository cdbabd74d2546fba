"""What the rules of the data ask: archives, sources, splits, audio and shards of corpora."""

from __future__ import annotations

from pathlib import Path

from nuptse.archive_ledger import changes
from nuptse.folder_state import MOST_READ, folder_state
from nuptse.import_ledger import changes_since
from nuptse.overrides import data_files
from nuptse.plan_base import PlanBase, as_json, checks, identity
from nuptse.shard_ledger import num_groups, repairs
from nuptse.source_settings import (
    corpus_source,
    expand_shards,
    input_files,
    option_paths,
    shard_patterns,
    source_folders,
)
from nuptse.splits import parts_of


class CorpusPlan(PlanBase):
    """The part of a plan that is about data."""

    # --- all that is used ---

    def all_archives(self) -> list[str]:
        corpora = dict.fromkeys(corpus for corpus, _ in self.used_splits)
        return [archive for corpus in corpora for archive in self.archives(corpus)]

    def all_manifests(self) -> list[str]:
        return [
            f"data/manifests/{corpus}_{kind}_{split}.{suffix}"
            for corpus, split in self.used_splits
            for kind, suffix in (("cuts", "jsonl.gz"), ("nemo", "json"), ("audio", "jsonl.gz"))
            if kind == "cuts" or "nemo_shards" not in self.corpora[corpus]
        ]

    def all_text_samples(self) -> list[str]:
        """Return the text samples of every split; shards that are used as they are have no text profile."""
        return [
            f"results/text_samples/{corpus}_{split}.json"
            for corpus, split in sorted(self.used_splits)
            if "nemo_shards" not in self.corpora[corpus]
        ]

    def all_shards(self) -> list[str]:
        entries = [entry for settings in self.experiments.values() for entry in settings["train"]]
        return list(dict.fromkeys(data_files("tarred", entries)))

    # --- corpora ---

    def archives(self, corpus: str) -> list[str]:
        return [f"data/downloads/{corpus}/{name}" for name in self.corpora[corpus].get("archives", {})]

    def archive_urls(self, corpus: str, archive: str) -> list[str]:
        return self.addresses(self.corpora[corpus]["archives"][archive]["url"])

    def archive_checks(self, corpus: str, archive: str) -> list[str]:
        return checks(self.corpora[corpus]["archives"][archive])

    def archive_identity(self, corpus: str, archive: str) -> str:
        return identity(self.corpora[corpus]["archives"][archive])

    def corpus_base(self, corpus: str) -> str:
        """Return the folder that the paths of a source start from; "" for the working directory."""
        if "archives" in self.corpora[corpus]:
            return f"data/raw/{corpus}"
        folder: str = self.corpora[corpus].get("folder", "")
        return folder

    def corpus_inputs(self, corpus: str) -> dict[str, str | list[str]]:
        """Return the folder of a corpus and the ledger of what was unpacked there, or its tables and manifests."""
        if "archives" in self.corpora[corpus]:
            return {"folder": f"data/raw/{corpus}", "ledger": f"data/raw/{corpus}.json"}
        if "recipe" in self.corpora[corpus]:
            return {"folder": self.corpora[corpus]["folder"]}
        files = input_files(corpus_source(self.corpora[corpus]), self.corpus_base(corpus))
        return {"files": files} if files else {}

    def corpus_changes(self, corpus: str) -> str:
        """Changes when a file of the corpus does: Snakemake itself looks into no folder."""
        settings, source = self.corpora[corpus], corpus_source(self.corpora[corpus])
        others = map(Path, option_paths(source.options.get("recipe_options", {})))
        states = [folder_state(path, most_read=MOST_READ) for path in others]
        if "archives" in settings:
            return " ".join([changes(Path(f"data/raw/{corpus}"), Path(f"data/raw/{corpus}.json")), *states])
        if source.kind == "recipe":
            return " ".join([folder_state(Path(settings["folder"]), most_read=MOST_READ), *states])
        folders = [Path(self.corpus_base(corpus), path) for path in source_folders(source)]
        # The files of a container count by their time: nobody wants gigabytes to be read for every dry run.
        most_read = MOST_READ if source.kind == "audio_folder" else 0
        return " ".join(folder_state(folder, most_read=most_read) for folder in folders if folder.is_dir())

    def audio_losses(self, corpus: str) -> str:
        """Grows by an entry when an audio file of a table or manifest changes; the next import keeps the list."""
        listed = "archives" not in self.corpora[corpus] and corpus_source(self.corpora[corpus]).lists_audio
        return as_json(changes_since(Path(f"data/recipes/{corpus}")) if listed else [])

    def source_arguments(self, corpus: str) -> list[str]:
        settings, source = self.corpora[corpus], corpus_source(self.corpora[corpus])
        policy = {key: settings[key] for key in ("sampling_rate", "channels")}
        return [
            f"--source={as_json({'kind': source.kind, 'parts': source.parts, 'options': source.options})}",
            *([f"--corpus-dir={base}"] if (base := self.corpus_base(corpus)) else []),
            *([f"--ledger=data/raw/{corpus}.json"] if "archives" in settings else []),
            f"--policy={as_json(policy)}",
            # A recipe opens files as it likes: nothing can be left out there, so that nothing has to be read again.
            *(["--exclude"] if settings["on_bad_audio"] == "exclude" and source.kind != "recipe" else []),
        ]

    def selection_arguments(self, corpus: str, split: str) -> list[str]:
        """Say what a split is made of; what is not used is not said, so that it cannot make anything stale."""
        filters = {key: value for key, value in self.corpora[corpus]["filters"].items() if value is not None}
        used = split in filters.pop("splits", [split]) and filters
        return [*self.text_arguments(corpus, split), *([f"--filters={as_json(filters)}"] if used else [])]

    def text_arguments(self, corpus: str, split: str) -> list[str]:
        """The same without the filters: what a text profile does is shown for what they drop, too."""
        settings = self.corpora[corpus]
        parts = [f"--part={part}" for part in parts_of(settings, split)]
        options = [f"--language={settings['language']}", f"--text={as_json(settings['text'])}"]
        if split not in settings["splits"]:
            shares = {key: value for key, value in settings["split_by"].items() if key != "parts"}
            options.append(f"--split-by={as_json(shares)}")
        return [*parts, *options]

    # --- audio ---

    def audio_limits(self) -> str:
        return as_json(self.config["doctor"]["audio"])

    def error_limits(self) -> str:
        """Return the limits that make errors: those of warnings leave the data as it is, and must cost no training."""
        limits = self.config["doctor"]["audio"]
        made = {key: limits[key] for key in ("duration_s", "shortest_s")}
        return as_json(made | ({"silence": None} if limits["silence"] is None else {}))

    def num_audio_groups(self, corpus: str) -> int:
        """One for every 32 shards, since a core decodes an hour of speech in a second; at most 100."""
        return min(100, self.num_shards(corpus) // 32)

    def audio_groups(self, corpus: str, split: str) -> list[str]:
        """Return what the jobs write that share the work; none where a single job is enough."""
        groups = self.num_audio_groups(corpus)
        return [f"data/audio_checks/{corpus}_{split}/{group}.json" for group in range(groups)] if groups > 1 else []

    def quarantine_inputs(self, corpus: str, split: str) -> dict[str, str]:
        """Only where bad audio is excluded does the CutSet wait for the check."""
        excluded = self.corpora[corpus]["on_bad_audio"] == "exclude"
        return {"audio": f"data/manifests/{corpus}_audio_{split}.jsonl.gz"} if excluded else {}

    def quarantine_arguments(self, corpus: str, split: str) -> list[str]:
        rejected = [
            f"--rejected=data/recipes/{corpus}/{part}_rejected.jsonl.gz" for part in self._own_parts(corpus, split)
        ]
        excluded = [f"--audio={path}" for path in self.quarantine_inputs(corpus, split).values()]
        limits = [f"--limits={self.error_limits()}"] if excluded else []
        return [*rejected, *excluded, *limits]

    def _own_parts(self, corpus: str, split: str) -> list[str]:
        """Return the source's parts whose losses this split accounts for: those of shares count in the largest one."""
        settings = self.corpora[corpus]
        if split not in settings["splits"]:
            shares = settings["split_by"]["shares"]
            if split != max(sorted(shares), key=lambda name: shares[name]):
                return []
        return parts_of(settings, split)

    # --- shards ---

    def shard_patterns(self, corpus: str, split: str) -> dict[str, str]:
        """Return the patterns of the manifests and tars of shards that are used as they are."""
        settings = self.corpora[corpus]
        part = corpus_source(settings).parts[settings["splits"][split]]
        return shard_patterns(part, self.corpus_base(corpus))

    def shard_manifests(self, corpus: str, split: str) -> list[str]:
        return expand_shards(self.shard_patterns(corpus, split)["manifests"])

    def shard_arguments(self, corpus: str, split: str) -> list[str]:
        return [f"--{key}={pattern}" for key, pattern in self.shard_patterns(corpus, split).items()]

    def shard_losses(self, corpus: str, split: str) -> str:
        """Grows by an entry when a tar is gone or of another size; see ``repairs``."""
        return as_json(repairs(Path(f"data/shards/{corpus}_{split}/ledger.json")))

    def num_shards(self, corpus: str) -> int:
        count: int = self.corpora[corpus]["num_shards"]
        return count

    def shard_audio(self, corpus: str) -> list[str]:
        form = self.corpora[corpus]["shard_audio"]
        return ["--audio", form] if form else []

    def shards_per_job(self, corpus: str) -> int:
        """4 shards, or more where that would make over 100 jobs."""
        return max(4, -(-self.num_shards(corpus) // 100))

    def group_ledgers(self, corpus: str, split: str) -> list[str]:
        groups = num_groups(self.num_shards(corpus), self.shards_per_job(corpus))
        return [f"data/shards/{corpus}_{split}/ledger/{group}.json" for group in range(groups)]

    def repairs(self, corpus: str, split: str, group: str) -> str:
        """Grows by an entry when a shard of the group is gone: a changed param, so that the group is written again."""
        return as_json(repairs(Path(f"data/shards/{corpus}_{split}/ledger/{group}.json")))
