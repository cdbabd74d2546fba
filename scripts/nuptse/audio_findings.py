"""What is wrong with the audio of a split: the facts of ``check_audio``, added up by problem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nuptse.audio_problems import PROBLEMS
from nuptse.finding_codes import audio_code
from nuptse.findings import ERROR, Finding, acceptance
from nuptse.surveys import Survey


def audio_findings(survey: Survey, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield one finding for each kind of bad audio in a split.

    Args:
        survey: the split; what is in quarantine is not part of it.
        settings: of the experiment, see ``examination.examine``.
    """
    for code, bad in survey.bad_audio.items():
        problem, first = PROBLEMS[code], bad.first[0]
        excluded = {f"corpora.{survey.corpus}.on_bad_audio": "exclude"}
        yield Finding(
            code=audio_code(code),
            severity=problem.severity,
            subject=survey.name,
            message=f"audio such as {first.audio}: {problem.describe(first)}",
            remedy=problem.remedy
            + ("; or leave such utterances out" if problem.severity == ERROR else "; or accept it"),
            change=excluded if problem.severity == ERROR else acceptance(audio_code(code), survey.name, settings),
            count=len(bad.indices),
            of=len(survey),
            share_of_hours=survey.share_of_hours(bad.indices),
            examples=survey.audio_examples(bad, problem.describe),
        )
