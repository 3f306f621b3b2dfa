"""Data of every kind arrives as the right batches."""

import numpy as np
import pytest

import hornbeam as keras
from hornbeam.models.training import loop
from hornbeam.models.training.data_adapters import get_data_adapter, train_validation_split
from hornbeam.models.training.data_adapters.batches import as_array, class_weights


def seen(adapter):
    return [
        np.asarray(batch[0] if isinstance(batch, tuple) else batch) for batch in adapter.batches()
    ]


def test_arrays_are_cut_into_batches():
    x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    adapter = get_data_adapter(x, y, batch_size=2)
    batches = list(adapter.batches())
    assert adapter.num_batches == 3 and adapter.remainder == 1
    assert [b[0].shape for b in batches] == [(2, 2), (2, 2), (1, 2)]
    assert batches[0][0].dtype == np.float32 and batches[0][1].dtype == y.dtype
    np.testing.assert_array_equal(np.concatenate([b[1] for b in batches]), y)


def test_shuffle_visits_each_sample_once_and_follows_the_seed():
    x = np.arange(100)

    def orders():
        keras.utils.set_random_seed(1)
        adapter = get_data_adapter(x, batch_size=16, shuffle=True)
        return [np.concatenate(seen(adapter)) for _ in range(2)]

    first, second = orders()
    np.testing.assert_array_equal(np.sort(first), x)
    assert (first != second).any() and (first != x).any()
    np.testing.assert_array_equal(orders(), [first, second])


def test_shuffle_batch_keeps_batches_together():
    adapter = get_data_adapter(np.arange(10), batch_size=4, shuffle="batch")
    batches = [b.tolist() for b in seen(adapter)]
    assert sorted(batches[:2]) == [[0, 1, 2, 3], [4, 5, 6, 7]] and batches[2] == [8, 9]


def test_class_weights_of_integers_columns_and_one_hot():
    y = np.array([0, 2, 1, 2])
    expected = [1.0, 3.0, 0.5, 3.0]
    for labels in (y, y[:, None], np.eye(3)[y], y.astype("float32")):
        weights = class_weights(labels, None, {1: 0.5, 2: 3.0})
        np.testing.assert_array_equal(weights, expected)
    with pytest.raises(ValueError, match="either class_weight or sample_weight"):
        class_weights(y, np.ones(4), {0: 1.0})
    with pytest.raises(ValueError, match="only for models with one output"):
        class_weights([y, y], None, {0: 1.0})
    with pytest.raises(ValueError, match=r"expected a dict .* got \[1, 2\] of type list"):
        class_weights(y, None, [1, 2])


def test_validation_split_takes_the_end():
    x = np.arange(10)
    (train, _), (rest, _) = train_validation_split((x, None), 0.3)
    assert train.tolist() == list(range(7)) and rest.tolist() == [7, 8, 9]
    with pytest.raises(ValueError, match="leaves nothing for training"):
        train_validation_split((x[:1], None), 0.1)
    with pytest.raises(ValueError, match="validation_split needs arrays; got generator"):
        train_validation_split(((i for i in x), None), 0.1)


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (np.zeros((4, 2)), np.zeros(3), "number of samples .first axis.; got x 4, y 3"),
        (np.zeros((0, 2)), np.zeros(0), "the data set is empty"),
        (np.array(["a", "b"]), None, "cannot train on values of dtype <U1"),
        (np.array([1, None]), None, "cannot train on values of dtype object"),
        (np.float32(3.0), None, "x holds a scalar"),
        ("text", None, "unknown kind of x"),
        ([1, 2, 3], None, "unknown kind of x"),
        (iter([]), np.zeros(3), "with a generator as x, y must not be given"),
    ],
)
def test_bad_data_is_named(x, y, text):
    with pytest.raises(ValueError, match=text):
        get_data_adapter(x, y)


def test_foreign_arrays_are_taken_by_protocol():
    class Frame:
        def to_numpy(self):
            return np.arange(6.0).reshape(3, 2)

    class Column:
        def to_numpy(self):
            return np.arange(3)

    (batch,) = get_data_adapter(Frame(), Column(), batch_size=3).batches()
    np.testing.assert_array_equal(batch[0], np.arange(6).reshape(3, 2))
    assert batch[1].shape == (3, 1)
    assert as_array(np.asfortranarray(np.ones((3, 2)))).flags.c_contiguous


class Numbers(keras.utils.PyDataset):
    def __init__(self, count, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.epochs_ended = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((2, 1), index, "float32"), np.zeros((2, 1), "float32")

    def on_epoch_end(self):
        self.epochs_ended += 1


@pytest.mark.parametrize("workers", [1, 3])
def test_py_dataset_batches_come_in_order(workers):
    adapter = get_data_adapter(Numbers(7, workers=workers, max_queue_size=2))
    assert [int(b[0, 0]) for b in seen(adapter)] == list(range(7))


def test_py_dataset_in_processes_comes_in_order(tmp_path, monkeypatch):
    (tmp_path / "spawned_numbers.py").write_text(
        "import numpy as np\n"
        "from hornbeam.utils import PyDataset\n"
        "class Numbers(PyDataset):\n"
        "    def __len__(self):\n"
        "        return 3\n"
        "    def __getitem__(self, index):\n"
        "        return np.full((2, 1), index, 'float32')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    numbers = __import__("spawned_numbers").Numbers(workers=2, use_multiprocessing=True)
    assert [int(b[0, 0]) for b in seen(get_data_adapter(numbers))] == [0, 1, 2]


def test_an_error_in_a_worker_reaches_the_user():
    class Broken(Numbers):
        def __getitem__(self, index):
            if index == 2:
                raise OSError("disk gone")
            return super().__getitem__(index)

    with pytest.raises(OSError, match="disk gone"):
        seen(get_data_adapter(Broken(5, workers=2)))


def test_steps_per_epoch_goes_on_in_the_next_epoch():
    source = loop.Source(get_data_adapter(Numbers(5)), steps=2)
    epochs = [[int(b[0][0, 0]) for b in source.batches()] for _ in range(2)]
    assert epochs == [[0, 1], [2, 3]]


def test_steps_per_epoch_of_arrays_goes_on_and_starts_again():
    source = loop.Source(get_data_adapter(np.arange(6), batch_size=2), steps=2)
    assert [source.spans()[1:] for _ in range(3)] == [(0, 2), (2, 1), (0, 2)]


def test_a_generator_is_used_up_after_one_pass():
    source = loop.Source(get_data_adapter(np.full((1, 1), i) for i in range(3)))
    assert len(list(source.batches())) == 3
    with pytest.warns(UserWarning, match="the input ran out after 0 batches"):
        assert list(source.batches()) == []


def test_peek_does_not_lose_the_first_batch():
    source = loop.Source(get_data_adapter(np.full((1, 1), i) for i in range(3)))
    assert source.peek().item() == 0
    assert [b.item() for b in source.batches()] == [0, 1, 2]
    with pytest.raises(ValueError, match="the data set is empty"):
        loop.Source(get_data_adapter(iter([]))).peek()


def test_lists_of_a_loader_count_as_tuples():
    class Loader:
        def __iter__(self):
            return iter([[np.zeros((2, 1)), np.ones(2)]])

        def __len__(self):
            return 1

    (batch,) = get_data_adapter(Loader()).batches()
    assert isinstance(batch, tuple) and batch[0].dtype == np.float32


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_must_be_positive(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be positive; got {batch_size}"):
        get_data_adapter(np.arange(6), batch_size=batch_size)
