"""Sentences of the synthetic corpora, drawn from two small grammars.

The pretraining grammar talks about a house and a journey, the target grammar about a harbour. They
share most words and no template, so a model that was pretrained on the first has to learn 25 new
words (and new accents), not a new language.
"""

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_SHARED = {
    "number": "one two three four five six seven eight nine ten eleven twelve".split(),
    "tens": "ten fifteen twenty thirty forty fifty".split(),
    "day": "monday tuesday wednesday thursday friday saturday sunday".split(),
    "daytime": "morning afternoon evening night".split(),
    "colour": "red blue green white black yellow".split(),
    "onoff": "on off".split(),
}


@dataclass(frozen=True)
class Grammar:
    """Templates with ``{slot}`` places, and the words that may fill each slot (all lower case)."""

    templates: Sequence[str]
    slots: Mapping[str, Sequence[str]]


PRETRAIN = Grammar(
    templates=(
        "turn {onoff} the {device} in the {room}",
        "please {verb} the {colour} {opening} before {number} {tens}",
        "set a timer for {tens} minutes at {number} {tens}",
        "remind me to call {name} at {number} {tens} on {day}",
        "the {vehicle} to {city} leaves from platform {number} at {number} {tens}",
        "how far is the {place} from the {place} in {city}",
        "{name} will meet {name} near the {place} on {day} {daytime}",
        "take the {colour} {thing} from the {room} and give it to {name}",
        "send a message to {name} and tell him to bring the {thing}",
        "what will the weather be in {city} on {day} {daytime}",
        "there are {number} {colour} boxes behind the {place}",
        "add {number} bottles of milk and {number} apples to my list",
        "play a {mood} song in the {room} until {number} {tens}",
        "go left after the {place} and walk for {number} minutes",
        "wait for the {vehicle} to {city} at the {place}",
        "ask {name} to buy {number} tickets for the {vehicle} to {city}",
        "it will be {weather} in {city} after {day}",
        "put the {thing} and the {thing} right under the {furniture}",
    ),
    slots=_SHARED
    | {
        "device": "light radio heater fan oven kettle camera".split(),
        "room": "kitchen bedroom garden office hall garage".split(),
        "verb": "open close clean paint".split(),
        "opening": "door window gate".split(),
        "name": "anna david emma james laura peter sarah thomas".split(),
        "vehicle": "train bus boat".split(),
        "place": "station market school library museum park hotel hospital airport bank bridge".split(),
        "city": "london paris berlin boston dublin madrid rome".split(),
        "thing": "book letter ticket map key bottle coat box bag phone".split(),
        "mood": "quiet happy slow".split(),
        "weather": "cold warm sunny windy".split(),
        "furniture": "table chair shelf".split(),
    },
)

TARGET = Grammar(
    templates=(
        "the {colour} {vessel} leaves {stand} {number} at {number} {tens}",
        "tell captain {name} to wait near the {site} until {day}",
        "please bring {number} {goods} to the {site} before {number} {tens}",
        "the {vessel} from {city} will be at the {site} on {day} {daytime}",
        "turn {onoff} the {colour} light behind the {site} at {number} {tens}",
        "there are {number} passengers for {city} at {stand} {number}",
        "ask captain {name} to call the {site} after {number} {tens}",
        "how far will the {vessel} be from {city} on {day} {daytime}",
        "the storm will be {direction} of {city} before {day} {daytime}",
        "take the {colour} {gear} from the {vessel} and give it to {name}",
        "send the crew to {city} and tell {name} to close the {opening}",
        "go left after the {site} and wait for the {vessel} to {city}",
        "the tide will turn at {number} {tens} on {day} {daytime}",
    ),
    slots=_SHARED
    | {
        "vessel": "ferry tanker trawler boat".split(),
        "stand": "pier berth platform".split(),
        "name": "fiona callum marcus anna david emma peter".split(),
        "site": "harbour lighthouse island station market bridge".split(),
        "goods": "barrels boxes bottles tickets".split(),
        "city": "kingston glasgow brooklyn london dublin boston".split(),
        "direction": "north south".split(),
        "gear": "anchor rope lantern coat".split(),
        "opening": "door window gate".split(),
    },
)


def draw_sentences(grammar: Grammar, count: int, rng: random.Random, exclude: Collection[str] = ()) -> list[str]:
    """Return ``count`` different lower-case sentences, none of them in ``exclude``.

    The templates take turns, and so do the words of a slot, in an order that ``rng`` shuffles anew
    for each turn: templates are used equally often, and no word is rare by bad luck.

    Raises:
        ValueError: 1000 draws in a row gave nothing new, so the grammar is too small for ``count``.
    """

    decks: dict[str, list[str]] = {slot: [] for slot in grammar.slots}

    def fill(slot: re.Match[str]) -> str:
        deck = decks[slot[1]]
        if not deck:
            deck.extend(rng.sample(grammar.slots[slot[1]], len(grammar.slots[slot[1]])))
        return deck.pop()

    sentences: list[str] = []
    seen = set(exclude)
    while len(sentences) < count:
        template = grammar.templates[len(sentences) % len(grammar.templates)]
        for _ in range(1000):
            sentence = re.sub(r"\{(\w+)\}", fill, template)
            if sentence not in seen:
                break
        else:
            raise ValueError(f"no new sentence from '{template}' after {len(sentences)} of {count}")
        seen.add(sentence)
        sentences.append(sentence)
    return sentences
