"""TinyBERT's two stages against a literal restatement, and its errors."""

import copy
import math

import pytest
import torch

from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.losses import attention_score_loss, hidden_state_loss
from rkd.methods import TinyBERT
from rkd.models.hidden_states import all_states, cls_states
from tests.helpers.models import bert
from tests.reference.methods import (
    SETTINGS,
    STUDENT_LR,
    TOTAL_STEPS,
    Learner,
    assert_same,
    batches,
    forward,
    moved,
    pair,
    restores_exactly,
)


def tinybert(student, teacher, strategy="skip", **overrides):
    depths = student.config.num_hidden_layers, teacher.config.num_hidden_layers
    layer_map = LayerMap.from_strategy(strategy, *depths)
    return TinyBERT(student, teacher, layer_map=layer_map, **{**SETTINGS, **overrides})


def scores_of(model, hidden_states):
    """Q·Kᵀ / √d of every layer, from the hidden states that go into it and the weights of its projections."""
    result = []
    for layer, hidden in zip(model.bert.encoder.layer, hidden_states[:-1], strict=True):
        attention = layer.attention.self
        heads, width = attention.num_attention_heads, attention.attention_head_size
        q = (hidden @ attention.query.weight.T + attention.query.bias).view(*hidden.shape[:2], heads, width)
        k = (hidden @ attention.key.weight.T + attention.key.bias).view(*hidden.shape[:2], heads, width)
        result.append(torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width))
    return result


def literal_stage_one(student, teacher, batch, w):
    """The loss of stage 1 for the uniform map, example by example on its real tokens alone."""
    embedding = hidden = attention = 0.0
    r = teacher.config.num_hidden_layers // student.config.num_hidden_layers
    for row, n in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        example = {name: tensor[row : row + 1, :n] for name, tensor in batch.items() if name != "labels"}
        hs = forward(student, example, output_hidden_states=True).hidden_states
        with torch.no_grad():
            ht = forward(teacher, example, output_hidden_states=True).hidden_states
        scores_s, scores_t = scores_of(student, hs), scores_of(teacher, ht)
        embedding += (hs[0] @ w - ht[0]).square().mean()
        for i in range(1, len(hs)):
            hidden += (hs[i] @ w - ht[r * i]).square().mean()
            attention += (scores_s[i - 1] - scores_t[r * i - 1].detach()).square().mean()
    size = len(batch["labels"])
    return embedding / size, hidden / size, attention / size


WEIGHTS = {"hidden_weight": 0.5, "attention_weight": 2.0, "embedding_weight": 0.0}


@pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["as published", "weighted"])
@pytest.mark.parametrize(("labels", "width"), [(3, 16), (1, 16), (2, 24)])
def test_equals_the_literal_method(labels, width, weights):
    student, _ = pair(labels, 2, 4)
    teacher = bert(4, seed=2, labels=labels, hidden=width).double().eval()
    method = tinybert(student, teacher, total_steps=6, intermediate_fraction=0.5, **weights)
    by_part = [weights.get(f"{part}_weight", 1.0) for part in ("embedding", "hidden", "attention")]
    literal, before = copy.deepcopy(student), copy.deepcopy(teacher)
    w = torch.eye(16, dtype=torch.float64) if width == 16 else method.projection.weight.T.detach().clone()
    extra = [] if width == 16 else [w.requires_grad_()]
    stages = [Learner(literal, STUDENT_LR, total_steps=3, extra=extra), Learner(literal, STUDENT_LR, total_steps=3)]
    for number, batch in enumerate(batches(6, labels)):
        found = method.step(batch)
        if number < 3:
            parts = literal_stage_one(literal, before, batch, w)
            assert [found[name] for name in ("embedding", "hidden", "attention")] == pytest.approx(
                [float(part) for part in parts], rel=1e-9
            )
            loss = sum(w_part * part for w_part, part in zip(by_part, parts, strict=True))
        else:
            z_s, z_t = forward(literal, batch).logits, forward(before, batch).logits.detach()
            if labels == 1:
                loss = (z_s - z_t).square().mean()
            else:
                loss = -(torch.softmax(z_t, 1) * torch.log_softmax(z_s, 1)).sum() / len(z_s)
            assert set(found) == {"loss", "kd"}
        assert found["loss"] == pytest.approx(float(loss), rel=1e-9)
        stages[number // 3].step(loss)
    assert_same(student, literal, 1e-8)
    if extra:
        assert (method.projection.weight.T - w).abs().max() < 1e-8
    assert_same(teacher, before, 0.0)


def test_stage_one_leaves_the_head_alone_and_stage_two_trains_it():
    student, teacher = pair()
    method = tinybert(student, teacher, total_steps=4)
    before = copy.deepcopy(student)
    one, two, three, four = batches(4)
    assert "hidden" in method.step(one)
    assert "hidden" in method.step(two)
    changed = moved(student, before)
    assert changed
    assert not any(name.startswith(("classifier", "bert.pooler")) for name in changed)
    assert "kd" in method.step(three)
    assert "kd" in method.step(four)
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= moved(student, before)


@pytest.mark.parametrize(("share", "first"), [(0.0, 0), (0.3, 3), (0.99, 9)])
def test_the_share_decides_the_steps(share, first):
    method = tinybert(*pair(), total_steps=10, intermediate_fraction=share)
    stages = ["hidden" in method.step(batch) for batch in batches(10, size=2)]
    assert stages == [True] * first + [False] * (10 - first)


def test_padding_changes_nothing():
    student, teacher = pair()
    batch = next(batches(1))
    padded = {name: torch.nn.functional.pad(t, (0, 5)) for name, t in batch.items() if name != "labels"}
    padded["labels"] = batch["labels"]
    one, other = tinybert(copy.deepcopy(student), teacher), tinybert(student, teacher)
    assert one.step(batch) == pytest.approx(other.step(padded), rel=1e-9)
    assert_same(one.student, student, 1e-9)


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_gradient_accumulation_changes_nothing(share):
    student, teacher = pair()
    whole = tinybert(copy.deepcopy(student), teacher, intermediate_fraction=share)
    split = tinybert(student, teacher, intermediate_fraction=share, gradient_accumulation=4)
    for batch in batches(3):
        assert split.step(batch) == pytest.approx(whole.step(batch), abs=1e-9)
    assert_same(student, whole.student, 1e-9)


def test_state_restores_exactly_across_the_stages():
    def make():
        torch.manual_seed(0)  # the projection's first weights
        student, _ = pair()
        return tinybert(student, pair(hidden=24)[1], total_steps=6)

    restores_exactly(make, list(batches(4)))


def test_scores_are_those_whose_softmax_eager_attention_returns():
    student, _ = pair()
    student.eval()
    batch = next(batches(1))
    scores = all_states(student, batch).scores
    student.set_attn_implementation("eager")
    probabilities = forward(student, batch, output_attentions=True).attentions
    masked = (1 - batch["attention_mask"])[:, None, None, :].bool()
    for score, p in zip(scores, probabilities, strict=True):
        assert (torch.softmax(score.masked_fill(masked, -torch.inf), -1) - p).abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_states_of_every_architecture(kind):
    import transformers

    names = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}
    sizes = (
        {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
        if kind == "distilbert"
        else {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    )
    torch.manual_seed(0)
    config = getattr(transformers, f"{names[kind]}Config")(vocab_size=60, max_position_embeddings=40, **sizes)
    model = getattr(transformers, f"{names[kind]}ForSequenceClassification")(config).double().eval()
    batch = next(batches(1))
    del batch["token_type_ids"]
    batch["input_ids"][batch["attention_mask"] == 0] = config.pad_token_id
    expected = forward(model, batch, output_hidden_states=True)
    states = all_states(model, batch)
    assert len(states.hidden) == 4
    assert [tuple(s.shape) for s in states.scores] == [(6, 2, *batch["input_ids"].shape[1:] * 2)] * 3
    z, cls = cls_states(model, batch, [0, 2])
    assert (z - expected.logits).abs().max() < 1e-10
    for found, layer in zip(cls, (1, 3), strict=True):
        assert (found - expected.hidden_states[layer][:, 0]).abs().max() < 1e-10


def test_losses_by_hand():
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    hidden = torch.zeros(2, 3, 2)
    hidden[0, :2, 0] = torch.tensor([2.0, 4.0])  # means 2 and 8 over the hidden size: 5 for the example
    hidden[1, 0] = 3.0  # 9
    hidden[:, 2] = 100.0  # padding
    assert hidden_state_loss(hidden, torch.zeros_like(hidden), mask).item() == pytest.approx((5 + 9) / 2)
    scores = torch.full((2, 2, 3, 3), 100.0)
    scores[0, :, :2, :2] = 2.0
    scores[1, :, 0, 0] = torch.tensor([1.0, 3.0])  # two heads: 5
    assert attention_score_loss(scores, torch.zeros_like(scores), mask).item() == pytest.approx((4 + 5) / 2)


class PlainTinyBERT(TinyBERT):
    """Stage 1 without weights: the sum of its parts."""

    def match_layers(self, batch):
        for micro_batch, weight in self.micro_batches(batch):
            ours, theirs = all_states(self.student, micro_batch), self.teacher_states(micro_batch)
            mask = micro_batch["attention_mask"].to(ours.hidden[0].dtype)
            embedding = hidden_state_loss(self.projection(ours.hidden[0]), theirs.hidden[0], mask)
            hidden = attention = torch.zeros_like(embedding)
            for i, layer in enumerate(self.teacher_layers):
                projected = self.projection(ours.hidden[i + 1])
                hidden = hidden + hidden_state_loss(projected, theirs.hidden[layer + 1], mask)
                attention = attention + attention_score_loss(ours.scores[i], theirs.scores[layer], mask)
            (weight * (embedding + hidden + attention)).backward()
        self.intermediate_optimizer.step()
        return {"loss": 0.0}


def test_weights_of_1_are_the_plain_sum_bit_for_bit():
    methods = []
    for kind in (TinyBERT, PlainTinyBERT):
        student, teacher = pair(dtype=torch.float32, dropout=0.1)
        layer_map = LayerMap.from_strategy("skip", 2, 4)
        methods.append(kind(student, teacher, layer_map=layer_map, **SETTINGS))
        torch.manual_seed(0)
        for batch in batches(4, dtype=torch.float32):
            methods[-1].step(batch)
    assert_same(methods[0].student, methods[1].student, 0.0)


@pytest.mark.parametrize("part", ["hidden", "attention", "embedding"])
def test_a_part_without_weight_teaches_nothing(part):
    weights = {f"{name}_weight": float(name == part) for name in ("hidden", "attention", "embedding")}
    found = tinybert(*pair(), **weights).step(next(batches(1)))
    assert found["loss"] == pytest.approx(found[part], rel=1e-12)


def test_without_attention_the_heads_may_differ():
    student, teacher = pair()
    teacher.config.num_attention_heads = 4
    assert tinybert(student, teacher, attention_weight=0.0).step(next(batches(1)))["attention"] == 0.0


@pytest.mark.parametrize("name", ["hidden_weight", "attention_weight", "embedding_weight"])
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_out_of_range(name, weight):
    with pytest.raises(RkdError, match=f"{name}: found {weight}; expected a number from 0"):
        tinybert(*pair(), **{name: weight})


def test_a_stage_without_a_part():
    none = {"hidden_weight": 0.0, "attention_weight": 0.0, "embedding_weight": 0.0}
    with pytest.raises(RkdError, match="found 0 for all; expected one above 0, or intermediate_fraction 0"):
        tinybert(*pair(), **none)
    assert set(tinybert(*pair(), **none, intermediate_fraction=0.0).step(next(batches(1)))) == {"loss", "kd"}


def test_needs_as_many_heads():
    student, teacher = pair()
    teacher.config.num_attention_heads = 4
    with pytest.raises(RkdError, match="have 2 and 4 attention heads; expected the same"):
        tinybert(student, teacher)


def test_needs_one_teacher_layer_per_student_layer():
    with pytest.raises(RkdError, match="student layer 0 is mapped to 2 teacher layers; tinybert expects exactly 1"):
        tinybert(*pair(), strategy="both")


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_share_out_of_range(share):
    with pytest.raises(RkdError, match=f"intermediate_fraction: found {share}; expected a number from 0 to below 1"):
        tinybert(*pair(), intermediate_fraction=share, total_steps=TOTAL_STEPS)
