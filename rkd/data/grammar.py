"""A small grammar that generates examples of the GLUE tasks, one at a time.

Each task tests the same skill as the real one: agreement and word order (CoLA), negation and contrast (SST-2), synonyms
against swapped or changed arguments (MRPC, QQP), graded overlap (STS-B), hypernyms, negation and antonyms (MNLI, RTE,
AX), presence of an answer (QNLI), pronoun resolution (WNLI). A bag of words cannot solve any of them.
"""

import random
from collections.abc import Callable, Sequence

Example = tuple[tuple[str, ...], int | float]  # texts, and a class id or score
Pair = tuple[str, str]

# (word, synonym). Each slot has few fillers, because a small model must see each pair often to learn the synonyms.
PEOPLE = (("lawyers", "attorneys"), ("doctors", "physicians"), ("teachers", "instructors"))
DEEDS = (("fixed", "repaired"), ("cleaned", "washed"), ("wanted", "desired"))
THINGS = (("cars", "automobiles"), ("boats", "ships"), ("phones", "telephones"))
TIMES = (("at noon", "at midday"), ("on monday", "this monday"), ("last year", "a year ago"))
EVENT = (PEOPLE, DEEDS, THINGS, TIMES)  # who did what to which things, when
PLACES = ("in paris", "in rome", "at the station", "at the market", "near the river", "near the castle")

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
DETERMINERS = (("the", "the"), ("this", "these"), ("that", "those"), ("a", "some"))
LINKS = ("near", "behind", "beside")
ADVERBS = ("quietly", "often", "today", "again", "slowly", "here")

GOOD = ("good", "great", "funny", "charming", "clever", "wonderful", "fresh", "gripping")
BAD = ("bad", "awful", "dull", "boring", "clumsy", "silly", "terrible", "stale")
ASPECTS = ("plot", "acting", "film", "script", "music", "ending", "dialogue", "story")
DEGREES = ("", "very", "really", "quite", "truly")

# Paraphrases of a question: how, why, where.
INTENTS = (("how can i", "how do i"), ("why should i", "why would i"), ("where can i", "where do i"))
ACTIONS = (("learn", "study"), ("teach", "explain"), ("watch", "see"))
OBJECTS = (("maths", "mathematics"), ("films", "movies"), ("football", "soccer"))
CITIES = (("in paris", "around paris"), ("in rome", "around rome"), ("in london", "around london"))
QUESTION = (INTENTS, ACTIONS, OBJECTS, CITIES)

# (noun, hypernym)
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
    """Return a CoLA example; 1: agreement and order are correct. A noun after a preposition may differ in number."""
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
    """Move the first noun, or the verb, before the word it should follow."""
    at = rng.choice((0, len(words) - 3))
    return [*words[:at], words[at + 1], words[at], *words[at + 2 :]]


def _dropped(_: random.Random, words: list[str], __: str) -> list[str]:
    """Drop the verb."""
    return [*words[:-2], words[-1]]


def sst2(rng: random.Random) -> Example:
    """Return an SST-2 example; 1: positive. "not" negates; the clause after "but" counts, that after "although" not."""
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


def _fill(rng: random.Random, fillers: Sequence[Sequence[Pair]]) -> list[Pair]:
    return [rng.choice(filler) for filler in fillers]


def _change(rng: random.Random, slots: list[Pair], fillers: Sequence[Sequence[Pair]], count: int) -> list[Pair]:
    """Replace the fillers of `count` slots."""
    changed = set(rng.sample(range(len(slots)), count))
    return [
        rng.choice([filler for filler in fillers[at] if filler != slot]) if at in changed else slot
        for at, slot in enumerate(slots)
    ]


def _words(rng: random.Random, slots: list[Pair]) -> list[str]:
    """Choose one of the two synonyms for each slot, usually the first."""
    return [slot[rng.random() < 0.3] for slot in slots]


def _passive(words: list[str]) -> list[str]:
    who, deed, thing, time = words
    return [thing, "were", deed, "by", who, time]


def mrpc(rng: random.Random) -> Example:
    """Return an MRPC example; 1: the same event in synonyms and either voice; 0: one to three slots changed."""
    label = int(rng.random() < 0.6)
    event = _fill(rng, EVENT)
    other = event if label else _change(rng, event, EVENT, rng.choice((1, 2, 3)))
    first, second = _words(rng, event), _words(rng, other)
    return (_sentence(first), _sentence(_passive(second) if rng.random() < 0.15 else second)), label


def qqp(rng: random.Random) -> Example:
    """Return a QQP example; 1: the same intent, action, object and city in other words."""
    label = int(rng.random() < 0.45)
    question = _fill(rng, QUESTION)
    other = question if label else _change(rng, question, QUESTION, rng.choice((1, 2, 2, 3)))
    return (_sentence(_words(rng, question), "?"), _sentence(_words(rng, other), "?")), label


def stsb(rng: random.Random) -> Example:
    """Return an STS-B example; each of the four slots of an event adds 1.25 points, also if it is a synonym."""
    event, changed = _fill(rng, EVENT), rng.randrange(5)
    other = _change(rng, event, EVENT, changed)
    return (_sentence(_words(rng, event)), _sentence(_words(rng, other))), 5.0 * (4 - changed) / 4


def nli(rng: random.Random) -> Example:
    """Return an NLI example; 0: entailment, 1: neutral, 2: contradiction; negation is most frequent in class 2."""
    label = rng.randrange(3)
    kind, parent = rng.choice(KINDS)
    (state, opposite), other = (rng.choice((pair, pair[::-1])) for pair in rng.sample(STATES, 2))
    negated = rng.random() < (0.2, 0.2, 0.6)[label]
    related = state if (label == 0) != negated else opposite
    claim = other[0] if label == 1 else related
    hypothesis = ["the", rng.choice((kind, parent)), "is", *["not"] * negated, claim]
    premise = ["the", kind, rng.choice(PLACES), "is", state, rng.choice(MOMENTS)]
    return (_sentence(premise), _sentence(hypothesis)), label


def rte(rng: random.Random) -> Example:
    """Return an RTE example; 0: entailment, 1: not entailment; both equally frequent."""
    wanted = rng.randrange(2)
    while True:
        texts, label = nli(rng)
        if min(int(label), 1) == wanted:
            return texts, wanted


def qnli(rng: random.Random) -> Example:
    """Return a QNLI example; 0: the sentence answers the question; 1: it gives the other fact or another thing."""
    label = rng.randrange(2)
    who, deed, thing, time = _fill(rng, EVENT)
    asked = rng.choice(("when", "where"))
    about, answered = thing, asked
    if label and rng.random() < 0.15:
        about = rng.choice([other for other in THINGS if other != thing])
    elif label:
        answered = "where" if asked == "when" else "when"
    verb = rng.choice(deed)
    sentence = [rng.choice(who), verb, rng.choice(about), time[0] if answered == "when" else rng.choice(PLACES)]
    return (_sentence([asked, "were", rng.choice(thing), verb], "?"), _sentence(sentence)), label


def wnli(rng: random.Random) -> Example:
    """Return a WNLI example; 1: the hypothesis replaces "it" by the correct noun."""
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
