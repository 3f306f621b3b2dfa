"""Callbacks: hooks, logs and what each of them does."""

import csv
import os

import numpy as np
import pytest

import hornbeam as keras
from hornbeam import callbacks


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype("float32")
    return x, (x.sum(axis=1) > 0).astype("int32")


def make_model(learning_rate=0.01, **kwargs):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **kwargs,
    )
    return model


class Recorder(callbacks.Callback):
    """Notes every hook with its number and the names in its logs."""

    def __init__(self):
        super().__init__()
        self.calls = []


def _recording(hook):
    def call(self, *args, logs=None):
        self.calls.append((hook, *args, sorted(logs or ())))

    return call


for _hook in (
    "on_train_begin on_train_end on_epoch_begin on_epoch_end on_train_batch_begin "
    "on_train_batch_end on_test_begin on_test_end on_test_batch_begin on_test_batch_end "
    "on_predict_begin on_predict_end on_predict_batch_begin on_predict_batch_end"
).split():
    setattr(Recorder, _hook, _recording(_hook))


def test_order_of_hooks_and_names_in_logs(data):
    x, y = data
    recorder = Recorder()
    model = make_model()
    model.fit(x, y, batch_size=8, epochs=1, validation_split=0.2, verbose=0, callbacks=[recorder])
    names = ["accuracy", "loss"]
    assert recorder.calls == [
        ("on_train_begin", []),
        ("on_epoch_begin", 0, []),
        ("on_train_batch_begin", 0, []),
        ("on_train_batch_end", 0, names),
        ("on_train_batch_begin", 1, []),
        ("on_train_batch_end", 1, names),
        ("on_test_begin", []),
        ("on_test_batch_begin", 0, []),
        ("on_test_batch_end", 0, names),
        ("on_test_end", names),
        ("on_epoch_end", 0, [*names, "val_accuracy", "val_loss"]),
        ("on_train_end", [*names, "val_accuracy", "val_loss"]),
    ]
    recorder.calls.clear()
    model.predict(x, batch_size=16, verbose=0, callbacks=[recorder])
    assert [call[:2] for call in recorder.calls] == [
        ("on_predict_begin", []),
        ("on_predict_batch_begin", 0),
        ("on_predict_batch_end", 0),
        ("on_predict_batch_begin", 1),
        ("on_predict_batch_end", 1),
        ("on_predict_end", []),
    ]


def test_batch_logs_are_running_means_that_end_in_the_epoch_logs(data):
    x, y = data
    seen = []
    log = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(dict(logs)))
    history = make_model().fit(x, y, batch_size=6, verbose=0, callbacks=[log])
    assert len(seen) == 4
    assert seen[-1]["loss"] == history.history["loss"][0]
    # a run without batch hooks takes another way to the same numbers
    keras.utils.set_random_seed(3)
    with_hooks = make_model().fit(x, y, batch_size=6, verbose=0, callbacks=[log]).history
    keras.utils.set_random_seed(3)
    assert make_model().fit(x, y, batch_size=6, verbose=0).history == with_hooks


def test_steps_per_execution_groups_batch_hooks(data):
    x, y = data
    ends = []
    log = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(batch))
    make_model(steps_per_execution=3).fit(x, y, batch_size=2, verbose=0, callbacks=[log])
    assert ends == [2, 5, 8, 9]


def test_a_callback_that_is_none_is_refused(data):
    with pytest.raises(TypeError, match="callbacks: expected Callback objects, got 3"):
        make_model().fit(*data, verbose=0, callbacks=[3])


def test_the_class_of_a_callback_is_no_callback(data):
    with pytest.raises(TypeError, match="expected Callback objects.*make an object"):
        make_model().fit(*data, callbacks=[callbacks.TerminateOnNaN], verbose=0)


def test_history_of_two_fits_adds_up(data):
    model = make_model()
    model.fit(*data, epochs=2, verbose=0)
    history = model.fit(*data, epochs=1, verbose=0)
    assert model.history is history
    assert history.epoch == [0] and sorted(history.history) == ["accuracy", "loss"]


def test_early_stopping_restores_the_best_weights(data):
    x, y = data
    model = make_model(learning_rate=0.0)
    weights = {}

    def change(epoch, logs):
        weights[epoch] = model.get_weights()
        logs["watched"] = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0][epoch]
        model.set_weights([w + 1.0 for w in weights[epoch]])

    stop = callbacks.EarlyStopping("watched", patience=2, mode="min", restore_best_weights=True)
    history = model.fit(
        x, y, epochs=6, verbose=0, callbacks=[callbacks.LambdaCallback(on_epoch_end=change), stop]
    )
    assert history.epoch == [0, 1, 2, 3]
    assert (stop.stopped_epoch, stop.best_epoch, stop.best) == (3, 1, 1.0)
    # the best weights are those at the end of epoch 1, after the change above
    for w, best in zip(model.get_weights(), weights[1], strict=True):
        np.testing.assert_array_equal(w, best + 1.0)


def test_early_stopping_knows_which_way_is_better(data):
    stop = callbacks.EarlyStopping("val_accuracy", patience=0)
    make_model().fit(*data, validation_split=0.3, epochs=2, verbose=0, callbacks=[stop])
    assert stop._sign == 1
    unknown = callbacks.EarlyStopping("something")
    log = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: logs.update(something=1.0))
    with pytest.raises(ValueError, match="pass mode='max' or mode='min'"):
        make_model().fit(*data, verbose=0, callbacks=[log, unknown])


def test_early_stopping_warns_about_a_missing_value(data):
    with pytest.warns(UserWarning, match="'val_loss' is not in the logs; available: accuracy"):
        make_model().fit(*data, verbose=0, callbacks=[callbacks.EarlyStopping()])


def test_terminate_on_nan_stops_at_the_batch(data, capsys):
    x, y = data
    x = x.copy()
    x[8] = np.nan
    model = make_model()
    ends = []
    log = callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: ends.append(b))
    history = model.fit(
        x, y, batch_size=4, epochs=3, shuffle=False, verbose=0,
        callbacks=[log, callbacks.TerminateOnNaN()],
    )  # fmt: skip
    assert ends == [0, 1, 2] and history.epoch == [0]
    assert capsys.readouterr().out == "Batch 2: Invalid loss, terminating training\n"
    with pytest.raises(RuntimeError, match="TerminateOnNaN: batch 2 has the loss nan"):
        make_model().fit(
            x, y, batch_size=4, shuffle=False, verbose=0,
            callbacks=[callbacks.TerminateOnNaN(raise_error=True)],
        )  # fmt: skip


def test_csv_logger_writes_a_row_per_epoch(data, tmp_path):
    path = tmp_path / "log.csv"
    model = make_model()
    model.fit(*data, epochs=2, verbose=0, callbacks=[callbacks.CSVLogger(path)])
    model.fit(*data, epochs=1, verbose=0, callbacks=[callbacks.CSVLogger(path, append=True)])
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["epoch"] for row in rows] == ["0", "1", "0"]
    assert list(rows[0]) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert float(rows[2]["loss"]) == model.history.history["loss"][0]
    assert rows[0]["val_loss"] == "NA"


def test_csv_logger_closes_its_file_on_an_error(data, tmp_path):
    logger = callbacks.CSVLogger(tmp_path / "log.csv")
    broken = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_model().fit(*data, verbose=0, callbacks=[logger, broken])
    assert logger.csv_file is None


def test_reduce_lr_on_plateau(data):
    x, y = data
    values = iter([1.0, 1.0, 1.0, 1.0, 1.0])
    watch = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: logs.update(v=next(values)))
    reduce = callbacks.ReduceLROnPlateau("v", factor=0.5, patience=2, mode="min", min_lr=0.004)
    history = make_model(0.01).fit(x, y, epochs=5, verbose=0, callbacks=[watch, reduce])
    rates = history.history["learning_rate"]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.01, 0.005, 0.005], rtol=1e-6)
    with pytest.raises(ValueError, match="factor must be below 1; got 1.0"):
        callbacks.ReduceLROnPlateau(factor=1.0)


@pytest.mark.parametrize("schedule", [lambda e: 0.1 / (e + 1), lambda e, rate: 0.1 / (e + 1)])
def test_learning_rate_scheduler(data, schedule):
    model = make_model()
    scheduler = callbacks.LearningRateScheduler(schedule)
    history = model.fit(*data, epochs=2, verbose=0, callbacks=[scheduler])
    np.testing.assert_allclose(history.history["learning_rate"], [0.1, 0.05], rtol=1e-6)
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.05, rtol=1e-6)
    with pytest.raises(ValueError, match="must return a float; got 'x'"):
        model.fit(*data, verbose=0, callbacks=[callbacks.LearningRateScheduler(lambda e: "x")])


def test_model_checkpoint_saves_only_the_best(data, tmp_path):
    x, y = data
    values = iter([2.0, 1.0, 3.0])
    watch = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: logs.update(v=next(values)))
    path = str(tmp_path / "deep" / "{epoch:02d}-{v:.1f}.weights.h5")
    keep = callbacks.ModelCheckpoint(
        path, "v", mode="min", save_best_only=True, save_weights_only=True
    )
    make_model().fit(x, y, epochs=3, verbose=0, callbacks=[watch, keep])
    assert sorted(os.listdir(tmp_path / "deep")) == ["01-2.0.weights.h5", "02-1.0.weights.h5"]


def test_model_checkpoint_by_batches_can_be_loaded(data, tmp_path):
    x, y = data
    model = make_model()
    keep = callbacks.ModelCheckpoint(str(tmp_path / "m{batch}.keras"), save_freq=2)
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[keep])
    assert sorted(os.listdir(tmp_path)) == ["m2.keras", "m4.keras"]
    loaded = keras.models.load_model(tmp_path / "m4.keras")
    assert loaded.predict(x, verbose=0).shape == (20, 2)


def test_model_checkpoint_checks_its_arguments():
    with pytest.raises(ValueError, match=r"filepath must end in \.weights\.h5"):
        callbacks.ModelCheckpoint("m.keras", save_weights_only=True)
    with pytest.raises(ValueError, match=r"filepath must end in \.keras or \.h5"):
        callbacks.ModelCheckpoint("m.txt")
    with pytest.raises(ValueError, match="save_freq must be 'epoch' or a number"):
        callbacks.ModelCheckpoint("m.keras", save_freq="day")


def test_backup_and_restore_continues_where_it_stopped(data, tmp_path):
    x, y = data

    def run(interrupt_after=None):
        keras.utils.set_random_seed(5)
        model = make_model(0.1)
        backup = callbacks.BackupAndRestore(tmp_path / "backup")

        def stop(epoch, logs):
            if epoch == interrupt_after:
                raise KeyboardInterrupt

        hooks = [backup, callbacks.LambdaCallback(on_epoch_end=stop)]
        model.fit(x, y, epochs=4, shuffle=False, verbose=0, callbacks=hooks)
        return model

    straight = run().get_weights()
    assert not os.listdir(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        run(interrupt_after=1)
    resumed = run()
    assert resumed.history.epoch == [2, 3]
    for a, b in zip(straight, resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_resumed_run_ends_with_the_same_bits(data, tmp_path):
    """Orders of the samples, Dropout and the optimizer's state go on where they were."""
    x, y = data

    def run(interrupt_after=None):
        keras.utils.set_random_seed(5)
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(8), keras.layers.Dropout(0.5),
             keras.layers.Dense(2)]
        )  # fmt: skip
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

        def stop(epoch, logs):
            if epoch == interrupt_after:
                raise KeyboardInterrupt

        hooks = [
            callbacks.BackupAndRestore(tmp_path / "backup"),
            callbacks.LambdaCallback(on_epoch_end=stop),
        ]
        model.fit(x, y, batch_size=6, epochs=5, verbose=0, callbacks=hooks)
        return model

    straight = run().get_weights()
    for interrupt_after in range(4):
        with pytest.raises(KeyboardInterrupt):
            run(interrupt_after)
        resumed = run()
        assert resumed.history.epoch == list(range(interrupt_after + 1, 5))
        for a, b in zip(straight, resumed.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_swap_ema_weights_evaluates_the_averages(data):
    x, y = data
    model = make_model()
    model.compile(
        optimizer=keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    during = []
    look = callbacks.LambdaCallback(on_test_end=lambda logs: during.append(model.get_weights()))
    # the swap back comes after the look
    swap = callbacks.SwapEMAWeights()
    model.fit(x, y, validation_data=(x, y), epochs=1, verbose=0, callbacks=[look, swap])
    averages = [v.numpy() for v in model.optimizer._averages]
    for a, b in zip(during[0], averages, strict=True):
        np.testing.assert_array_equal(a, b)


def test_progress_is_one_plain_line_per_epoch_outside_of_a_terminal(data, capsys):
    make_model().fit(*data, batch_size=5, epochs=2, validation_split=0.2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2" and lines[2] == "Epoch 2/2" and len(lines) == 4
    parts = lines[1].split(" - ")
    assert parts[0] == "4/4" and parts[1].endswith("s") and parts[2].endswith("/step")
    names = [part.split(":")[0] for part in parts[3:]]
    assert names == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert all(" " <= c <= "~" for line in lines for c in line)


def test_verbose_zero_is_silent(data, capsys):
    model = make_model()
    model.fit(*data, verbose=0)
    model.evaluate(*data, verbose=0)
    model.predict(data[0], verbose=0)
    assert capsys.readouterr().out == ""


def test_a_bar_is_drawn_in_a_terminal(data, monkeypatch, capsys):
    from hornbeam.utils import progbar

    monkeypatch.setattr(progbar, "can_draw", lambda: True)
    make_model().fit(*data, batch_size=5, verbose=1)
    out = capsys.readouterr().out
    assert "4/4" in out and "loss: " in out and "accuracy: " in out
