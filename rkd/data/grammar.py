"""A small grammar of our own that makes one example of a GLUE task at a time.

Every task asks for what its model asks for: agreement and word order (CoLA), negation and contrast (SST-2), synonyms
against swapped or changed arguments (MRPC, QQP), graded overlap (STS-B), hypernyms, negation and antonyms (MNLI, RTE,
AX), an answer that is there or not (QNLI), a pronoun (WNLI). A bag of words does not suffice for any of them.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

Example = tuple[tuple[str, ...], int | float]  # texts, and a class id or score
Pair = tuple[str, str]

# (word, synonym). Few fillers for a slot: a small model must see each pair of words often to learn which ones agree.
PEOPLE = (("lawyers", "attorneys"), ("doctors", "physicians"), ("teachers", "instructors"))
DEEDS = (("fixed", "repaired"), ("cleaned", "washed"), ("wanted", "desired"))
THINGS = (("cars", "automobiles"), ("boats", "ships"), ("phones", "telephones"))
TIMES = (("at noon", "at midday"), ("on monday", "this monday"), ("last year", "a year ago"))
PLACES = ("in paris", "in rome", "at the station", "at the market", "near the river", "near the castle")
REASONS = ("to win a prize", "to learn more", "to save time", "to please a friend")

# (singular, plural)
NOUNS = (
    ("dog", "dogs"),
    ("bird", "birds"),
    ("girl", "girls"),
    ("horse", "horses"),
    ("singer", "singers"),
    ("nurse", "nurses"),
    ("farmer", "farmers"),
    ("student", "students"),
)
VERBS = (
    ("sleeps", "sleep"),
    ("sings", "sing"),
    ("waits", "wait"),
    ("runs", "run"),
    ("smiles", "smile"),
    ("works", "work"),
)
DETERMINERS = (("the", "the"), ("this", "these"), ("that", "those"), ("every", "all"))
LINKS = ("near", "behind", "beside")
ADVERBS = ("quietly", "often", "today", "again", "slowly", "here")

GOOD = ("good", "great", "funny", "charming", "clever", "wonderful", "fresh", "gripping")
BAD = ("bad", "awful", "dull", "boring", "clumsy", "silly", "terrible", "stale")
ASPECTS = ("plot", "acting", "film", "script", "music", "ending", "dialogue", "story")
DEGREES = ("", "very", "really", "quite", "truly")

# Ways to ask the same: how, why, where.
INTENTS = (("how can i", "how do i"), ("why should i", "why would i"), ("where can i", "where do i"))
ACTIONS = (("learn", "study"), ("teach", "explain"), ("watch", "see"))
OBJECTS = (("maths", "mathematics"), ("films", "movies"), ("football", "soccer"))
CITIES = (("in paris", "around paris"), ("in rome", "around rome"), ("in london", "around london"))

# (kind, what it is)
KINDS = (
    ("dog", "animal"),
    ("cat", "animal"),
    ("horse", "animal"),
    ("van", "vehicle"),
    ("truck", "vehicle"),
    ("tram", "vehicle"),
    ("cup", "vessel"),
    ("jug", "vessel"),
    ("bowl", "vessel"),
)
STATES = (("old", "new"), ("big", "small"), ("wet", "dry"), ("clean", "dirty"))

ITEMS = ("trophy", "table", "piano", "ladder", "mirror", "statue")
HOLDERS = ("suitcase", "box", "cupboard", "lift", "van", "doorway")
LARGE = ("big", "large")
SMALL = ("small", "narrow")
MOMENTS = ("today", "again", "at first", "of late")


def cola(rng: random.Random) -> Example:
    """Label 1: agreement and order are right. The noun after a preposition may have the other number."""
    number, other = rng.randrange(2), rng.randrange(2)
    subject = [rng.choice(DETERMINERS)[number], rng.choice(NOUNS)[number]]
    if rng.random() < 0.5:
        subject += [rng.choice(LINKS), "the", rng.choice(NOUNS)[other]]
    verb = rng.choice(VERBS)
    words = [*subject, verb[number], rng.choice(ADVERBS)]
    label = int(rng.random() < 0.65)
    if not label:
        break_it = rng.choice((_wrong_verb, _wrong_verb, _swapped, _dropped))
        words = break_it(rng, words, verb[1 - number])
    return (_sentence(words),), label


def _wrong_verb(_: random.Random, words: list[str], verb: str) -> list[str]:
    return [*words[:-2], verb, words[-1]]


def _swapped(rng: random.Random, words: list[str], _: str) -> list[str]:
    """The verb, or the first noun, before the word it should follow."""
    at = rng.choice((0, len(words) - 3))
    return [*words[:at], words[at + 1], words[at], *words[at + 2 :]]


def _dropped(rng: random.Random, words: list[str], _: str) -> list[str]:
    """The first noun or the verb is missing."""
    at = rng.choice((1, len(words) - 2))
    return words[:at] + words[at + 1 :]


def sst2(rng: random.Random) -> Example:
    """Label 1: praise. "not" turns an adjective round; what follows "but" counts, what follows "although" does not."""
    label = rng.randrange(2)
    main = _opinion(rng, label)
    form = rng.randrange(4)
    if form == 0:
        words = main
    elif form == 1:
        words = f"{_opinion(rng, rng.randrange(2))} but {main}"
    elif form == 2:
        words = f"{main} although {_opinion(rng, rng.randrange(2))}"
    else:
        words = f"{_opinion(rng, label)} and {main}"
    return (_sentence([words]),), label


def _opinion(rng: random.Random, positive: int) -> str:
    negated = rng.random() < 0.3
    word = rng.choice(GOOD if positive != negated else BAD)
    parts = ["the", rng.choice(ASPECTS), "is", "not" if negated else "", rng.choice(DEGREES), word]
    return " ".join(part for part in parts if part)


class Event(NamedTuple):
    """Who did what to which things, when; every slot a (word, synonym) pair."""

    who: Pair
    deed: Pair
    thing: Pair
    time: Pair

    def words(self, rng: random.Random, passive: bool = False) -> list[str]:
        """The event in words, each slot by either of its names."""
        who, deed, thing, time = (_either(rng, slot) for slot in self)
        return [thing, "were", deed, "by", who, time] if passive else [who, deed, thing, time]


_FILLERS = Event(PEOPLE, DEEDS, THINGS, TIMES)


def _either(rng: random.Random, slot: Pair) -> str:
    """Mostly the first name."""
    return slot[rng.random() < 0.3]


def _event(rng: random.Random) -> Event:
    return Event(*(rng.choice(fillers) for fillers in _FILLERS))


def _change(rng: random.Random, slots: list, fillers: list, count: int) -> list:
    """`slots` with another filler in `count` of them."""
    changed = set(rng.sample(range(len(slots)), count))
    return [
        rng.choice([filler for filler in fillers[at] if filler != slot]) if at in changed else slot
        for at, slot in enumerate(slots)
    ]


def mrpc(rng: random.Random) -> Example:
    """Label 1: the same event, in synonyms and in either voice. Label 0: one to three slots changed."""
    event, label = _event(rng), int(rng.random() < 0.6)
    second = event if label else Event(*_change(rng, event, _FILLERS, rng.choice((1, 2, 3))))
    return (_sentence(event.words(rng)), _sentence(second.words(rng, passive=rng.random() < 0.15))), label


def qqp(rng: random.Random) -> Example:
    """Label 1: the same intent, action, object and city in other words."""
    label = int(rng.random() < 0.45)
    fillers = (INTENTS, ACTIONS, OBJECTS, CITIES)
    question = [rng.choice(filler) for filler in fillers]
    other = question if label else _change(rng, question, fillers, rng.choice((1, 2, 2, 3)))
    first, second = ([_either(rng, slot) for slot in words] for words in (question, other))
    return (_sentence(first, "?"), _sentence(second, "?")), label


def stsb(rng: random.Random) -> Example:
    """Score: 5 points shared out evenly among the four slots of an event; a synonym counts in full."""
    event, changed = _event(rng), rng.randrange(5)
    second = Event(*_change(rng, event, _FILLERS, changed))
    return (_sentence(event.words(rng)), _sentence(second.words(rng))), 5.0 * (4 - changed) / 4


def nli(rng: random.Random) -> Example:
    """0 entailment, 1 neutral, 2 contradiction; hypernyms, antonyms, and negation (oftenest in contradictions)."""
    label = rng.randrange(3)
    kind, parent = rng.choice(KINDS)
    (state, opposite), other = (rng.choice((pair, pair[::-1])) for pair in rng.sample(STATES, 2))
    negated = rng.random() < (0.2, 0.2, 0.6)[label]
    if label == 1:
        claim = other[0]
    else:
        claim = state if (label == 0) != negated else opposite
    hypothesis = ["the", rng.choice((kind, parent)), "is", *["not"] * negated, claim]
    premise = ["the", kind, rng.choice(PLACES), "is", state, rng.choice(MOMENTS)]
    return (_sentence(premise), _sentence(hypothesis)), label


def rte(rng: random.Random) -> Example:
    """0 entailment, 1 not; half of each."""
    wanted = rng.randrange(2)
    while True:
        texts, label = nli(rng)
        if min(int(label), 1) == wanted:
            return texts, wanted


def qnli(rng: random.Random) -> Example:
    """0: the sentence answers the question; 1: it lacks the answer, or is about another thing."""
    label = rng.randrange(2)
    event = _event(rng)
    who, deed, thing = (rng.choice(slot) for slot in event[:3])
    details = {"when": event.time[0], "where": rng.choice(PLACES), "why": rng.choice(REASONS)}
    asked, *others = rng.sample(tuple(details), 3)
    told, about = others, thing
    if label == 0:
        told = [asked, others[0]]
    elif rng.random() < 0.1:
        told, about = [asked, others[0]], rng.choice([slot[0] for slot in THINGS if thing not in slot])
    told = rng.sample(told, 2) if rng.random() < 0.4 else told[:1]
    sentence = [who, deed, about, *(details[word] for word in told)]
    return (_sentence([asked, "were", thing, deed], "?"), _sentence(sentence)), label


def wnli(rng: random.Random) -> Example:
    """1: the hypothesis puts in the right noun for "it"."""
    item, holder, label, large = rng.choice(ITEMS), rng.choice(HOLDERS), rng.randrange(2), rng.randrange(2)
    size = rng.choice(LARGE if large else SMALL)
    noun = item if large == label else holder
    premise = [
        "the",
        item,
        rng.choice(PLACES),
        "did not fit the",
        holder,
        rng.choice(MOMENTS),
        ": it was too",
        size,
    ]
    return (_sentence(premise), _sentence(["the", noun, "was too", size])), label


def _sentence(words: list[str], end: str = ".") -> str:
    return " ".join(words) + f" {end}"


GENERATORS: dict[str, Callable[[random.Random], Example]] = {
    "cola": cola,
    "sst2": sst2,
    "mrpc": mrpc,
    "stsb": stsb,
    "qqp": qqp,
    "mnli": nli,
    "qnli": qnli,
    "rte": rte,
    "wnli": wnli,
    "ax": nli,
}
