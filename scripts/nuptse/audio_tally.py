"""Add the problems of utterances up, and say them so that one can do something about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nuptse.audio_facts import AudioFacts
from nuptse.audio_problems import PROBLEMS, has_error
from nuptse.ledgers import Amount

EXAMPLES = 3


@dataclass
class _Found:
    amount: Amount = field(default_factory=Amount)
    examples: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """Of the audio of some utterances; one may have several problems."""

    all: Amount = field(default_factory=Amount)
    bad: Amount = field(default_factory=Amount)
    problems: dict[str, _Found] = field(default_factory=dict)

    def add(self, facts: AudioFacts, codes: Sequence[str]) -> None:
        """Enter an utterance with its problems."""
        self.all.add(facts.duration_s)
        if has_error(codes):
            self.bad.add(facts.duration_s)
        for code in codes:
            found = self.problems.setdefault(code, _Found())
            found.amount.add(facts.duration_s)
            if len(found.examples) < EXAMPLES:
                found.examples.append(f"{facts.audio} ({facts.id}): {PROBLEMS[code].describe(facts)}")

    def lines(self) -> list[str]:
        """Return a few lines for each problem, errors first: how much, examples, remedy."""
        lines = []
        for code in (code for code in PROBLEMS if code in self.problems):
            found, problem = self.problems[code], PROBLEMS[code]
            lines.append(f"{problem.severity}: {code}: {found.amount}; {problem.remedy}")
            lines += [f"  {example}" for example in found.examples]
        if self.bad.utterances:
            lines.append(f"errors: {self.bad}: mend them, or leave them out: `on_bad_audio: exclude` of the corpus")
        return lines

    def __str__(self) -> str:
        counts = ", ".join(
            f"{code}: {self.problems[code].amount.utterances}" for code in PROBLEMS if code in self.problems
        )
        return f"{self.all}; with errors: {self.bad}; problems: {counts or 'none'}"
