"""Batches: what is in them, and in which order the rows come."""

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Sequence, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from rkd.training.batches import Split, load_splits

ROWS = {
    "input_ids": [[2, 7, 3], [2, 8, 9, 6, 3], [2, 3], [2, 5, 5, 3]],
    "token_type_ids": [[0, 0, 0], [0, 0, 1, 1, 1], [0, 1], [0, 0, 1, 1]],
    "label": [1, 0, -1, 1],
    "idx": [10, 11, 12, 13],
}
FEATURES = {
    "input_ids": Sequence(Value("int32")),
    "token_type_ids": Sequence(Value("int8")),
    "label": Value("int64"),
    "idx": Value("int64"),
}


def dataset(**columns):
    rows = {**ROWS, **columns}
    rows = {name: values for name, values in rows.items() if values is not None}
    return Dataset.from_dict(rows, features=Features({name: FEATURES[name] for name in rows}))


def split_of_lengths(lengths):
    return Split(
        dataset(
            input_ids=[[5] * n for n in lengths],
            token_type_ids=None,
            label=[0] * len(lengths),
            idx=list(range(len(lengths))),
        ),
        pad_token_id=0,
    )


def test_a_batch_is_padded_on_the_right_to_its_longest_example():
    batch = Split(dataset(), pad_token_id=1).batch(torch.tensor([2, 0, 3]))
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[2, 3, 1, 1], [2, 7, 3, 1], [2, 5, 5, 3]],
        "attention_mask": [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
        "token_type_ids": [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]],
        "labels": [-1, 1, 1],
        "lengths": [2, 3, 4],
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_one_example_needs_no_padding():
    batch = Split(dataset(), pad_token_id=0).batch(torch.tensor([1]))
    assert batch["input_ids"].tolist() == [[2, 8, 9, 6, 3]]
    assert batch["attention_mask"].tolist() == [[1] * 5]


def test_token_types_are_there_only_if_the_data_have_them():
    split = Split(dataset(token_type_ids=None), pad_token_id=0)
    assert set(split.batch(torch.tensor([0, 1]))) == {"input_ids", "attention_mask", "labels", "lengths"}


def test_rows_keep_their_labels_lengths_and_official_numbers():
    split = Split(dataset(), pad_token_id=0)
    assert len(split) == 4
    assert split.labels.tolist() == [1, 0, -1, 1]
    assert split.idx.tolist() == [10, 11, 12, 13]
    assert split.lengths.tolist() == [3, 5, 2, 4]


def test_scores_stay_floats():
    features = Features({**FEATURES, "label": Value("float32")})
    rows = Dataset.from_dict({**ROWS, "label": [1.5, 0.0, float("nan"), 5.0]}, features=features)
    split = Split(rows, pad_token_id=0)
    assert split.labels.dtype == torch.float32
    np.testing.assert_array_equal(split.batch(torch.arange(4))["labels"], [1.5, 0.0, np.nan, 5.0])


def test_selected_and_chunked_data_are_read_right():
    """Row selections and appended tables have offsets of their own inside the Arrow columns."""
    from datasets import concatenate_datasets

    data = concatenate_datasets([dataset().select([3, 1]), dataset().select(range(1, 3))])
    batch = Split(data, pad_token_id=0).batch(torch.arange(4))
    assert batch["input_ids"].tolist() == [[2, 5, 5, 3, 0], [2, 8, 9, 6, 3], [2, 8, 9, 6, 3], [2, 3, 0, 0, 0]]
    assert batch["labels"].tolist() == [1, 0, 0, -1]


def test_splits_are_loaded_by_name(tmp_path):
    DatasetDict({"train": dataset(), "validation": dataset().select([0])}).save_to_disk(tmp_path / "dataset")
    splits = load_splits(tmp_path, pad_token_id=7)
    assert {name: len(split) for name, split in splits.items()} == {"train": 4, "validation": 1}
    assert splits["train"].batch(torch.tensor([0, 2]))["input_ids"].tolist() == [[2, 7, 3], [2, 3, 7]]


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20), size=st.integers(1, 8))
def test_by_length_covers_every_row_once_longest_first(lengths, size):
    split = split_of_lengths(lengths)
    batches = list(split.by_length(size))
    rows = torch.cat(batches)
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert split.lengths[rows].tolist() == sorted(lengths, reverse=True)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= size


def test_an_empty_split_has_no_batches():
    split = split_of_lengths([])
    assert len(split) == 0
    assert list(split.by_length(4)) == []


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 20), size=st.integers(1, 8), seed=st.integers(0, 2**32), epoch=st.integers(1, 9))
def test_an_epoch_covers_every_row_once(rows, size, seed, epoch):
    batches = split_of_lengths([1] * rows).shuffled(size, seed, epoch)
    assert sorted(torch.cat(batches).tolist()) == list(range(rows))
    assert len(batches) == -(-rows // size)


def test_the_order_depends_on_seed_and_epoch_alone():
    split = split_of_lengths([1] * 50)

    def order(seed, epoch):
        return torch.cat(split.shuffled(8, seed, epoch)).tolist()

    torch.manual_seed(0)
    expected = order(1, 1)
    torch.manual_seed(99)
    torch.rand(3)
    order(7, 7)
    assert order(1, 1) == expected
    state = torch.get_rng_state()
    order(1, 1)
    assert torch.equal(torch.get_rng_state(), state), "the global generator, which dropout uses, is left alone"
    orders = {(seed, epoch): tuple(order(seed, epoch)) for seed in range(4) for epoch in range(1, 5)}
    assert len(set(orders.values())) == len(orders)


@pytest.mark.parametrize("size", [3, 8, 100])
def test_the_order_does_not_depend_on_the_batch_size(size):
    split = split_of_lengths([1] * 20)
    assert torch.equal(torch.cat(split.shuffled(size, 1, 1)), torch.cat(split.shuffled(1, 1, 1)))


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=300), size=st.integers(1, 4), seed=st.integers(0, 9))
def test_an_epoch_grouped_by_length_covers_every_row_once_in_as_many_batches(lengths, size, seed):
    batches = split_of_lengths(lengths).shuffled(size, seed, 1, True)
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    assert sorted(map(len, batches)) == sorted(map(len, torch.arange(len(lengths)).split(size)))


def test_grouping_by_length_saves_padding_and_stays_random():
    lengths = torch.randint(5, 100, (900,), generator=torch.Generator().manual_seed(0))
    split = split_of_lengths(lengths.tolist())

    def padded(order, epoch=1):
        return sum(len(rows) * int(split.lengths[rows].max()) for rows in split.shuffled(8, 3, epoch, order))

    real = int(lengths.sum())
    assert padded(True) < 1.1 * real < 1.5 * real < padded(False)
    first, again, other = (split.shuffled(8, 3, epoch, True) for epoch in (1, 1, 2))
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert {tuple(rows.tolist()) for rows in first}.isdisjoint({tuple(rows.tolist()) for rows in other})
    widths = [int(split.lengths[rows].max()) for rows in first]
    assert widths not in (sorted(widths), sorted(widths, reverse=True)), "batches come in random order"
