"""The model card of a fine-tune, in the form of the Hugging Face Hub: what was measured and recorded, nothing else.

Form: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import html
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from nuptse.errors import UserError, make_again
from nuptse.jsonl import read_json, read_rows
from nuptse.wer_table import Rates

TASK = "automatic-speech-recognition"
# More characters than an alphabet or two are counted instead of listed.
LISTED_CHARACTERS = 100


class SetScores(msgspec.Struct):
    """What score_wer.py says of one recogniser on one set, as far as the card needs it."""

    recogniser: str
    corpus: str
    split: str
    normalizer: str
    utterances: int
    hours: float
    words: Rates
    characters: Rates


class _Supervision(msgspec.Struct):
    text: str
    speaker: str | None = None
    language: str | None = None


class _Cut(msgspec.Struct):
    duration: float
    supervisions: list[_Supervision]


class Data(msgspec.Struct):
    """What the training cuts of one corpus and split say.

    Attributes:
        seconds: of audio.
        speakers: that are known; None if some utterance has no speaker.
        left_out: utterances by reason, before any training.
    """

    corpus: str
    split: str
    utterances: int
    seconds: float
    speakers: int | None
    languages: list[str]
    characters: Counter[str]
    left_out: dict[str, int]


def read_scores(path: Path) -> SetScores:
    """Return the scores of a recogniser on one set.

    Raises:
        UserError: the file does not hold them.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=SetScores)
    except msgspec.DecodeError as error:
        raise UserError(f"{path}: {error}; {make_again(path)}") from None


def read_data(cuts: Path, ledger: Path) -> Data:
    """Return what the cuts (``.jsonl.gz``) and the ledger of a training split say."""
    account = read_json(ledger, dict)
    amounts = account["dropped"] | account.get("quarantined", {})
    left_out = {reason: amount["utterances"] for reason, amount in amounts.items()}
    speakers, languages, characters = set(), set(), Counter[str]()
    utterances, seconds = 0, 0.0
    for cut in read_rows(cuts, _Cut):
        (supervision,) = cut.supervisions
        utterances, seconds = utterances + 1, seconds + cut.duration
        speakers.add(supervision.speaker)
        languages.add(supervision.language)
        characters.update(supervision.text)
    known = None if None in speakers else len(speakers)
    named = sorted(filter(None, languages))
    return Data(account["corpus"], account["split"], utterances, seconds, known, named, characters, left_out)


def model_card(
    facts: Mapping[str, Any],
    train: Mapping[str, Any],
    data: Sequence[Data],
    pairs: Sequence[tuple[SetScores, SetScores]],
    template: str,
    configfiles: Sequence[str] = (),
) -> str:
    """Return the card: a YAML head for the Hub and a Markdown body.

    Args:
        facts: of the configuration, see ``Plan.card_facts``.
        train: content of ``train.json``.
        data: of each training split.
        pairs: scores of the experiment and of its base, for each split that it is judged by.
        template: Jinja2, with ``card_data`` (the YAML head) and the arguments above.
        configfiles: configuration files that the run was started with.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {"text": as_text, "code": as_code, "json": as_json}
    environment.filters |= {"rate": as_rate, "number": as_number, "span": as_span}
    content = environment.from_string(template).render(
        card_data=card_data(facts, data, pairs).to_yaml(),
        facts=facts,
        train=train,
        data=data,
        weights={source["name"]: source["weight"] for source in train["sources"]},
        pairs=[(own, base, _role(own, facts)) for own, base in pairs],
        writing=_writing(data),
        configfiles=as_option(configfiles),
    )
    return str(ModelCard(content))


def card_data(
    facts: Mapping[str, Any], data: Sequence[Data], pairs: Iterable[tuple[SetScores, SetScores]]
) -> ModelCardData:
    """Return the head of the card; error rates are in per cent there, as on the Hub."""
    pretrained = facts["base"]["pretrained"]
    return ModelCardData(
        # The Hub wants ISO 639 codes, so `pt`, not `pt-BR`.
        language=sorted({language.partition("-")[0].lower() for split in data for language in split.languages}),
        license=facts["license"],
        library_name="nemo",
        pipeline_tag=TASK,
        tags=[TASK, "speech", "audio", "nemo", "nuptse"],
        # A name without a slash is one of NGC, which the Hub does not know.
        base_model=pretrained if re.fullmatch(r"[\w.-]+/[\w.-]+", pretrained) else None,
        datasets=facts["datasets"] or None,
        metrics=["wer", "cer"],
        model_name=facts["experiment"],
        eval_results=[
            EvalResult(
                task_type=TASK,
                task_name="Automatic Speech Recognition",
                dataset_type=own.corpus,
                dataset_name=own.corpus,
                dataset_config="default",
                dataset_split=own.split,
                dataset_args={"language": facts["languages"][own.corpus]},
                metric_type=metric,
                metric_name=f"{own.split} {metric.upper()}",
                metric_value=round(100 * rates.rate, 4),
            )
            for own, _ in pairs
            for metric, rates in (("wer", own.words), ("cer", own.characters))
            if rates.rate is not None
        ],
    )


def _role(scores: SetScores, facts: Mapping[str, Any]) -> str:
    entry = {"corpus": scores.corpus, "split": scores.split}
    if entry == facts["validation"][0]:
        return "the checkpoint was chosen on it"
    return "watched during the training" if entry in facts["validation"] else "nothing was chosen on it"


def _writing(data: Iterable[Data]) -> dict[str, Any]:
    """Return what the training transcripts consist of, which is what the model learns to write."""
    counts = sum((split.characters for split in data), Counter[str]())
    letters = "".join(counts)
    cases = {"lower": any(map(str.islower, letters)), "upper": any(map(str.isupper, letters))}
    case = {(True, False): "lower case only", (False, True): "upper case only", (True, True): "lower and upper case"}
    characters = sorted(character for character in counts if not character.isspace())
    return {
        "case": case.get((cases["lower"], cases["upper"]), "letters without case"),
        "count": len(characters),
        "characters": "".join(characters) if len(characters) <= LISTED_CHARACTERS else "",
    }


# --- how values are written ---


def as_text(value: object) -> str:
    """Return plain text for a line or a table cell of Markdown: nothing in it is markup.

    >>> as_text("a|b <i>*c*")
    'a\\\\|b &lt;i&gt;\\\\*c\\\\*'
    """
    escaped = html.escape(" ".join(str(value).split()), quote=False)
    # Within a word an underscore marks nothing up.
    return re.sub(r"([\\`*{}\[\]()#!|~$]|(?<!\w)_|_(?!\w))", r"\\\1", escaped)


def as_code(value: object) -> str:
    """Return a code span, with more backticks around it than it holds. Not for tables: there `|` ends a cell."""
    text = " ".join(str(value).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if text.startswith("`") or text.endswith("`") else f"{fence}{text}{fence}"


def as_option(configfiles: Iterable[str]) -> str:
    """Return the option that names configuration files, "" for none; a card is public, so it tells no folder of theirs.

    >>> as_option(["config/test.yaml", "/home/me/my own.yaml"])
    " --configfile test.yaml 'my own.yaml'"
    """
    names = [" ".join(Path(file).name.split()) for file in configfiles]
    return f" --configfile {shlex.join(names)}" if names else ""


def as_json(value: object) -> str:
    """Return JSON on one line, the same for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def as_rate(rates: Rates) -> str:
    """Return an error rate in per cent with its 95 % interval, if there is one.

    >>> as_rate(Rates(10, 1, 0, 0, 0.1, 0.05, 0.2)), as_rate(Rates(10, 1, 0, 0, 0.1, None, None))
    ('10.0 % (5.0 to 20.0)', '10.0 %')
    """
    if rates.rate is None:
        return "–"
    rate = f"{100 * rates.rate:.1f} %"
    if rates.low is None or rates.high is None:
        return rate
    return f"{rate} ({100 * rates.low:.1f} to {100 * rates.high:.1f})"


def as_number(value: float) -> str:
    """Return a number with one decimal, or none where that is a zero.

    >>> as_number(2.0), as_number(1 / 3)
    ('2', '0.3')
    """
    return f"{value:.1f}".removesuffix(".0")


def as_span(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours.

    >>> as_span(51.12), as_span(586.3), as_span(7300)
    ('51 s', '9.8 min', '2.03 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"
