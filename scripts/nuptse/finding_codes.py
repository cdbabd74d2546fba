"""The codes of all findings of the doctor, each with its meaning; every configuration is checked against them."""

from __future__ import annotations

from nuptse.audio_problems import PROBLEMS

TEXT = {
    "unknown_characters": "the tokenizer of the base model does not know characters of the transcripts",
    "unread_tokenizer": "a tokenizer that the doctor cannot read, so that no text was compared with it",
    "empty_text": "utterances without a transcript",
    "dropped_utterances": "supervisions that cannot be used and were left out",
    "too_much_text": "more text than can be said in the time",
    "too_little_text": "far less text than is said in the time elsewhere",
    "too_short_for_ctc": "fewer encoder frames than a CTC model needs for the transcript",
    "other_style": "the base model writes capitals or punctuation, the transcripts have none",
    "mixed_style": "some training corpora have capitals or punctuation, others have none",
}
SETS = {
    "repeated_ids": "several utterances of a split with one id",
    "repeated_audio": "the same audio several times in a split",
    "leaked_audio": "the same audio in training and in a split that judges the model",
    "shared_text": "sentences of a split that judges the model are sentences of the training",
    "shared_speakers": "speakers of a split that judges the model are speakers of the training",
    "uneven_speakers": "one speaker has most of the training audio of a corpus",
}
PLAN = {
    "long_warmup": "the learning rate rises for most of the run",
    "few_passes": "the run ends before all of the training data was seen once",
    "many_passes": "the run sees a corpus very often",
    "long_utterances": "utterances longer than a batch may be",
    "starved_buckets": "buckets that hold less audio than a batch",
    "duration_limits": "utterances that the duration limits leave out",
    "rare_validation": "the run validates once, so that there is no best checkpoint to choose",
    "costly_validation": "the run validates on more audio than it trains on",
    "much_memory": "a batch may need more memory than there is",
    "unknown_memory": "what a batch needs was compared with no memory, as that of the training is not known",
}
SHARDS = {"damaged_shards": "tar shards that are not as their ledger and manifests say"}


def audio_code(problem: str) -> str:
    """Return the code of a finding about a problem of ``audio_problems``."""
    return f"audio_{problem}"


AUDIO = {audio_code(code): f"audio of which is to be said: {problem.sentence}" for code, problem in PROBLEMS.items()}
CODES = TEXT | SETS | AUDIO | PLAN | SHARDS


def parse_acceptance(entry: str) -> tuple[str, str]:
    """Return code and subject of an entry of ``doctor.accept``; the subject is empty for all.

    >>> parse_acceptance("shared_text:yesno/test"), parse_acceptance("shared_text")
    (('shared_text', 'yesno/test'), ('shared_text', ''))
    """
    code, _, subject = entry.partition(":")
    return code, subject
