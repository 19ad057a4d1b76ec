"""Layer maps: the four rules, explicit lists, every error, and the pairs of parameters that follow."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from rkd.errors import RkdError
from rkd.layer_map import STRATEGIES, LayerMap
from tests.helpers.models import bert

build = LayerMap.from_strategy


@pytest.mark.parametrize(
    ("strategy", "student", "teacher", "targets"),
    [
        ("first", 2, 4, {0: (0,), 1: (1,)}),
        ("last", 2, 4, {0: (2,), 1: (3,)}),
        ("skip", 2, 4, {0: (1,), 1: (3,)}),
        ("both", 2, 4, {0: (0, 1), 1: (2, 3)}),
        ("skip", 6, 12, {0: (1,), 1: (3,), 2: (5,), 3: (7,), 4: (9,), 5: (11,)}),
        ("both", 4, 12, {0: (0, 1, 2), 1: (3, 4, 5), 2: (6, 7, 8), 3: (9, 10, 11)}),
        ("last", 3, 12, {0: (9,), 1: (10,), 2: (11,)}),
        ("skip", 1, 6, {0: (5,)}),
        ("both", 1, 3, {0: (0, 1, 2)}),
        ("first", 3, 5, {0: (0,), 1: (1,), 2: (2,)}),
        ("last", 3, 5, {0: (2,), 1: (3,), 2: (4,)}),
        *((strategy, 3, 3, {0: (0,), 1: (1,), 2: (2,)}) for strategy in STRATEGIES),
        ([[1], [3]], 2, 4, {0: (1,), 1: (3,)}),
        ([3, 0], 2, 4, {0: (3,), 1: (0,)}),
        ([[0, 2], []], 2, 4, {0: (0, 2), 1: ()}),
        ([[], []], 2, 4, {0: (), 1: ()}),
        ([range(2), (3,)], 2, 4, {0: (0, 1), 1: (3,)}),
    ],
)
def test_targets(strategy, student, teacher, targets):
    layer_map = build(strategy, student_layers=student, teacher_layers=teacher)
    assert layer_map.targets == targets
    assert (layer_map.student_layers, layer_map.teacher_layers) == (student, teacher)


@settings(deadline=None)
@given(student=st.integers(1, 12), ratio=st.integers(1, 5), extra=st.integers(0, 4))
def test_properties_of_the_rules(student, ratio, extra):
    divisible, any_depth = student * ratio, student * ratio + extra
    both = build("both", student, divisible).targets
    assert sorted(layer for layers in both.values() for layer in layers) == list(range(divisible))
    assert {i: layers[-1:] for i, layers in both.items()} == build("skip", student, divisible).targets
    for strategy, teacher in [(s, divisible) for s in STRATEGIES] + [("first", any_depth), ("last", any_depth)]:
        targets = build(strategy, student, teacher).targets
        named = [layer for i in range(student) for layer in targets[i]]
        assert named == sorted(set(named)), "disjoint, and in the student's order"
        assert set(named) <= set(range(teacher))


@pytest.mark.parametrize(
    ("strategy", "student", "teacher", "message"),
    [
        ("skip", 5, 4, "a student of 5 layers does not fit a teacher of 4"),
        ([0], 0, 4, "a student of 0 layers"),
        ("skip", 4, 6, "'skip' needs the teacher's depth to be a multiple of the student's, found 6 and 4"),
        ("both", 4, 6, "'both' needs"),
        ("middle", 2, 4, "unknown strategy 'middle'; expected one of first, last, skip, both or a list"),
        ([[1]], 2, 4, "the list has 1 entries; expected one for each of 2 student layers"),
        ([[1], [2], [3]], 2, 4, "the list has 3 entries"),
        ([[1], [4]], 2, 4, "4 is no teacher layer; expected whole numbers from 0 to 3"),
        ([[1], [-1]], 2, 4, "-1 is no teacher layer"),
        ([[1], [2.0]], 2, 4, r"2\.0 is no teacher layer"),
        ([1, 2.5], 2, 4, r"2\.5 is no teacher layer"),
        ([1, None], 2, 4, "None is no teacher layer"),
        ([3, True], 2, 4, "True is no teacher layer"),
        (["1", "3"], 2, 4, "'1' is no teacher layer"),
        ([[1, 2], [2]], 2, 4, "teacher layer 2 is listed twice"),
        ([[1, 1], [2]], 2, 4, "teacher layer 1 is listed twice"),
    ],
)
def test_errors(strategy, student, teacher, message):
    with pytest.raises(RkdError, match=f"layer_map: {message}"):
        build(strategy, student, teacher)


def roberta(layers, hidden=16):
    return RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=30,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=20,
        )
    )


def distilbert(layers, hidden=16):
    return DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=30, dim=hidden, n_layers=layers, n_heads=2, hidden_dim=32)
    )


def small_bert(layers, hidden=16):
    return bert(layers, seed=0, hidden=hidden)


def named_pairs(layer_map, student, teacher):
    """`pairs` by name: [(student name, teacher name), …]."""
    ours = {id(p): name for name, p in student.named_parameters()}
    theirs = {id(p): name for name, p in teacher.named_parameters()}
    return [(ours[id(a)], theirs[id(b)]) for a, b in layer_map.pairs(student, teacher)]


@pytest.mark.parametrize(
    ("make", "stack", "outside"),
    [
        (
            small_bert,
            "bert.encoder.layer",
            {"bert.embeddings.word_embeddings.weight", "bert.pooler.dense.bias", "classifier.weight"},
        ),
        (
            roberta,
            "roberta.encoder.layer",
            {"roberta.embeddings.position_embeddings.weight", "classifier.dense.weight", "classifier.out_proj.bias"},
        ),
        (
            distilbert,
            "distilbert.transformer.layer",
            {"distilbert.embeddings.LayerNorm.bias", "pre_classifier.weight", "classifier.bias"},
        ),
    ],
)
def test_pairs_by_name(make, stack, outside):
    student, teacher = make(2), make(4)
    pairs = named_pairs(build([[1, 2], [3]], 2, 4), student, teacher)
    inside = {0: {1, 2}, 1: {3}}
    found = {0: set(), 1: set()}
    for ours, theirs in pairs:
        if ours.startswith(stack):
            layer, _, rest = ours.removeprefix(f"{stack}.").partition(".")
            layer_t, _, rest_t = theirs.removeprefix(f"{stack}.").partition(".")
            assert rest == rest_t
            found[int(layer)].add(int(layer_t))
        else:
            assert ours == theirs
    assert found == inside
    assert outside < {ours for ours, _ in pairs}
    # Every student parameter has its pair: layer 0 two, everything else one.
    names = [name for name, _ in student.named_parameters()]
    doubled = [name for name in names if name.startswith(f"{stack}.0.")]
    assert len(pairs) == len(names) + len(doubled)
    assert list(dict.fromkeys(ours for ours, _ in pairs)) == names


def test_an_unmapped_layer_has_no_pairs():
    student, teacher = small_bert(2), small_bert(4)
    pairs = named_pairs(build([[], [3]], 2, 4), student, teacher)
    assert not [ours for ours, _ in pairs if ".layer.0." in ours]
    assert [theirs for ours, theirs in pairs if ours.endswith("layer.1.output.dense.bias")] == [
        "bert.encoder.layer.3.output.dense.bias"
    ]


def test_parameters_outside_the_layers_that_one_side_lacks_are_left_out():
    student, teacher = small_bert(2), small_bert(2)
    student.extra = nn.Linear(2, 2)
    teacher.other = nn.Linear(2, 2)
    pairs = named_pairs(build("first", 2, 2), student, teacher)
    assert len(pairs) == len(list(teacher.parameters())) - 2
    assert not [names for names in pairs if "extra" in names[0] or "other" in names[1]]


def test_another_width_is_told_by_name_and_shape():
    with pytest.raises(RkdError, match=r"word_embeddings\.weight has shape \(60, 8\).*has \(60, 16\).*as wide as"):
        build("skip", 2, 4).pairs(small_bert(2, hidden=8), small_bert(4))


def test_models_of_other_depths_than_the_map_are_told():
    with pytest.raises(RkdError, match=r"maps to bert\.encoder\.layer\.5\..*, which the teacher lacks"):
        build("skip", 2, 12).pairs(small_bert(2), small_bert(4))
    with pytest.raises(RkdError, match=r"made for a student of 2 layers, but this one has bert\.encoder\.layer\.2\."):
        build("skip", 2, 4).pairs(small_bert(3), small_bert(4))


def test_another_architecture_is_told():
    with pytest.raises(RkdError, match="which the teacher lacks"):
        build("skip", 2, 4).pairs(small_bert(2), roberta(4))
