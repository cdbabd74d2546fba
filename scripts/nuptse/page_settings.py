"""What the page of results is told of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nuptse.errors import redact
from nuptse.settings import Config, made_of, model_source

MODEL_RULES = {
    "url": "download_model",
    "pretrained": "download_pretrained",
    "from_scratch": "build_model",
    "from_model": "adapt_model",  # the model that it is made of comes before it
}


def page_settings(
    config: Config, experiments: Mapping[str, Config], used: Collection[str], audio_in_groups: bool
) -> dict[str, Any]:
    """Return the experiments, the corpora and models they use, how all decode, and the rules that lead to the rates.

    Args:
        config: checked.
        experiments: with their defaults filled in.
        used: names of the corpora that an experiment or a tokenizer reads.
        audio_in_groups: whether several jobs check the audio of a split of them.
    """
    corpora = {name: _without_secrets(config["corpora"][name]) for name in used}
    names = {name for settings in experiments.values() for name in made_of(settings["model"], config["models"])}
    models = {name: _address_redacted(config["models"][name]) for name in names}
    return {
        "experiments": experiments,
        "corpora": corpora,
        "models": models,
        "decoding": config["decoding"],
        "steps": steps(experiments, corpora, models, audio_in_groups),
    }


def steps(
    experiments: Mapping[str, Config],
    corpora: Mapping[str, Config],
    models: Mapping[str, Config],
    audio_in_groups: bool,
) -> list[str]:
    """Return the rules whose jobs lead to the error rates, in the order of the work; of what is used only."""
    layouts = {settings["layout"] for settings in experiments.values()}
    sources = {model_source(model) for model in models.values()}
    return [
        *(("download_archive", "extract_archives") if any(c["archives"] for c in corpora.values()) else ()),
        *("prepare_manifests", "select_utterances"),
        *(("check_audio_group",) if audio_in_groups else ()),
        *("check_audio", "build_cutset"),
        *(("export_nemo_manifest",) if layouts - {"cutset"} else ()),
        *(("plan_shards", "tar_shards", "index_shards") if "tarred" in layouts else ()),
        *(("index_nemo_shards",) if any("nemo_shards" in c for c in corpora.values()) else ()),
        *(rule for source, rule in MODEL_RULES.items() if source in sources),
        *("count_durations", "estimate_duration_bins", "examine_experiment", "finetune_model"),
        *("transcribe", "score_wer", "summarize_wer"),
    ]


def _without_secrets(corpus: Config) -> Config:
    archives = {name: _address_redacted(archive) for name, archive in corpus.get("archives", {}).items()}
    return corpus | {"archives": archives}


def _address_redacted(source: Config) -> Config:
    if "url" not in source:
        return source
    urls = [source["url"]] if isinstance(source["url"], str) else source["url"]
    return source | {"url": [redact(url) for url in urls]}
