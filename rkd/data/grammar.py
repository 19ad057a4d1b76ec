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

# (word, synonym)
PEOPLE = (
    ("lawyer", "attorney"),
    ("doctor", "physician"),
    ("teacher", "instructor"),
    ("writer", "author"),
    ("child", "kid"),
)
DEEDS = (
    ("praised", "lauded"),
    ("helped", "assisted"),
    ("hired", "employed"),
    ("rescued", "saved"),
)
TIMES = (("on monday", "this monday"), ("last year", "a year ago"), ("in winter", "in the cold season"), ("at noon", "at midday"))
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
VERBS = (("sleeps", "sleep"), ("sings", "sing"), ("waits", "wait"), ("runs", "run"), ("smiles", "smile"), ("works", "work"))
DETERMINERS = (("the", "the"), ("this", "these"), ("that", "those"), ("every", "all"))
LINKS = ("near", "behind", "beside")
ADVERBS = ("quietly", "often", "today", "again", "slowly", "here")

GOOD = ("good", "great", "funny", "charming", "clever", "wonderful", "fresh", "gripping")
BAD = ("bad", "awful", "dull", "boring", "clumsy", "silly", "terrible", "stale")
ASPECTS = ("plot", "acting", "film", "script", "music", "ending", "dialogue", "story")
DEGREES = ("", "very", "really", "quite", "truly")

INTENTS = (
    ("how can i", "how do i", "what is the best way to"),
    ("why should i", "is it worth it to", "what is the use of trying to"),
    ("where can i", "what is the best place to", "in which city should i"),
)
ACTIONS = (("learn", "study"), ("buy", "purchase"), ("fix", "repair"), ("find", "discover"), ("choose", "select"), ("show", "display"))
OBJECTS = ("french", "chess", "a car", "a house", "a phone", "a violin", "a garden", "good wine")

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

ITEMS = ("trophy", "table", "piano", "ladder", "mirror", "statue", "lamp", "chair")
HOLDERS = ("suitcase", "box", "car", "cupboard", "lift", "van", "crate", "doorway")
LARGE = ("big", "large", "wide", "tall")
SMALL = ("small", "tiny", "narrow", "low")


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
    """Who did what to whom, when; every slot a (word, synonym) pair."""

    who: Pair
    deed: Pair
    whom: Pair
    time: Pair

    def words(self, rng: random.Random, passive: bool = False) -> list[str]:
        """The event in words: each slot by either of its two names."""
        who, deed, whom, time = (_word(rng, slot) for slot in self)
        if passive:
            return ["the", whom, "was", deed, "by the", who, time]
        return ["the", who, deed, "the", whom, time]


def _word(rng: random.Random, slot: Pair) -> str:
    """Mostly the first name."""
    return slot[rng.random() < 0.3]


def _event(rng: random.Random) -> Event:
    who, whom = rng.sample(PEOPLE, 2)
    return Event(who, rng.choice(DEEDS), whom, rng.choice(TIMES))


def _changed(rng: random.Random, event: Event, slot: str) -> Event:
    """The event with another filler in `slot`."""
    choices = {"who": PEOPLE, "deed": DEEDS, "whom": PEOPLE, "time": TIMES}[slot]
    return event._replace(**{slot: rng.choice([x for x in choices if x not in (event.who, event.whom, getattr(event, slot))])})


def mrpc(rng: random.Random) -> Example:
    """Label 1: the same event, in synonyms and in either voice. Label 0: a slot changed, or who and whom swapped."""
    event, label = _event(rng), int(rng.random() < 0.6)
    second = event
    if not label:
        if rng.random() < 0.2:
            second = event._replace(who=event.whom, whom=event.who)
        else:
            for slot in rng.sample(Event._fields, rng.choice((1, 2, 3))):
                second = _changed(rng, second, slot)
    return (_sentence(event.words(rng)), _sentence(second.words(rng, passive=rng.random() < 0.2))), label


def qqp(rng: random.Random) -> Example:
    """Label 1: the same intent, action, object and place in other words."""
    label = int(rng.random() < 0.4)
    slots = [rng.choice(INTENTS), rng.choice(ACTIONS), (rng.choice(OBJECTS),), (rng.choice(PLACES),)]
    other = list(slots)
    if not label:
        for at in rng.sample(range(4), rng.choice((1, 2, 3))):
            choices = (INTENTS, ACTIONS, [(x,) for x in OBJECTS], [(x,) for x in PLACES])[at]
            other[at] = rng.choice([choice for choice in choices if choice != slots[at]])
    first, second = ([rng.choice(slot) for slot in question] for question in (slots, other))
    return (_sentence(first, "?"), _sentence(second, "?")), label


def stsb(rng: random.Random) -> Example:
    """Score: 5 points shared out evenly among the four slots of an event; a synonym counts in full."""
    event = _event(rng)
    second = event
    changed = rng.sample(Event._fields, rng.randrange(5))
    for slot in changed:
        second = _changed(rng, second, slot)
    return (_sentence(event.words(rng)), _sentence(second.words(rng))), 5.0 * (4 - len(changed)) / 4


def nli(rng: random.Random) -> Example:
    """0 entailment, 1 neutral, 2 contradiction; hypernyms, antonyms, and negation (oftenest in contradictions)."""
    label = rng.randrange(3)
    kind, parent = rng.choice(KINDS)
    (state, opposite), other = (rng.choice((pair, pair[::-1])) for pair in rng.sample(STATES, 2))
    negated = rng.random() < (0.3, 0.3, 0.6)[label]
    if label == 1:
        claim = other[0]
    else:
        claim = state if (label == 0) != negated else opposite
    hypothesis = ["the", rng.choice((kind, parent)), "is", *["not"] * negated, claim]
    return (_sentence(["the", kind, rng.choice(PLACES), "is", state]), _sentence(hypothesis)), label


def rte(rng: random.Random) -> Example:
    """0 entailment, 1 not; half of each."""
    wanted = rng.randrange(2)
    while True:
        texts, label = nli(rng)
        if min(int(label), 1) == wanted:
            return texts, wanted


def qnli(rng: random.Random) -> Example:
    """0: the sentence answers the question; 1: it lacks the answer, or is about somebody else."""
    label = rng.randrange(2)
    event = _event(rng)
    details = {"when": event.time[0], "where": rng.choice(PLACES), "why": rng.choice(REASONS)}
    asked, spare, _ = rng.sample(tuple(details), 3)
    whom = event.whom[0]
    about_other = label == 1 and rng.random() < 0.2
    about = _changed(rng, event, "whom").whom[0] if about_other else whom
    if label == 0 or about_other:
        told = [asked, spare] if rng.random() < 0.5 else [asked]
    else:
        told = [spare]
    sentence = ["the", event.who[0], event.deed[0], "the", about, *(details[word] for word in told)]
    return (_sentence([asked, "was the", whom, event.deed[0]], "?"), _sentence(sentence)), label


def wnli(rng: random.Random) -> Example:
    """1: the hypothesis puts in the right noun for "it"."""
    item, holder, label = rng.choice(ITEMS), rng.choice(HOLDERS), rng.randrange(2)
    large = rng.randrange(2)
    size = rng.choice(LARGE if large else SMALL)
    noun = item if large == label else holder
    premise = f"{rng.choice(PLACES)} the {item} did not fit into the {holder} because it was too {size}"
    return (_sentence([premise]), _sentence([f"the {noun} was too {size}"])), label


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
