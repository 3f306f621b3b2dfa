"""A dense network on a table of measurements: cancer, wine (classes) or diabetes (a number).

    python examples/tabular.py [--data breast_cancer|wine|diabetes] [--epochs N]

The three tables come with hornbeam. Each column is scaled by a Normalization layer with the mean
and variance of the training part, so the model takes the raw measurements and its file is all
that a prediction needs. Ends with the test accuracy or, for diabetes, with the mean absolute
error beside that of always guessing the median.
"""

import argparse

import numpy as np

import hornbeam as keras


def build(x_train, outputs):
    layers = keras.layers
    normalization = layers.Normalization()
    normalization.adapt(x_train)
    return keras.Sequential(
        [
            keras.Input(x_train.shape[1:]),
            normalization,
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(outputs),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default="breast_cancer", choices=["breast_cancer", "wine", "diabetes"]
    )
    parser.add_argument("--epochs", type=int, default=60)
    args = parser.parse_args()

    keras.utils.set_random_seed(1)
    (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, args.data).load_data()
    regression = args.data == "diabetes"
    if regression:
        mean, spread = y_train.mean(), y_train.std()
        model = build(x_train, 1)
        model.compile("adam", "mean_squared_error", metrics=["mean_absolute_error"])
        model.fit(x_train, (y_train - mean) / spread, 16, args.epochs, validation_split=0.1)
        guess = model.predict(x_test, verbose=0)[:, 0] * spread + mean
        median = np.abs(np.median(y_train) - y_test).mean()
        print(f"always guessing the median: mean absolute error {median:.1f}")
        print(f"test mean absolute error: {np.abs(guess - y_test).mean():.1f}")
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model = build(x_train, int(y_train.max()) + 1)
        model.compile("adam", loss, metrics=["accuracy"])
        model.fit(x_train, y_train, 16, args.epochs, validation_split=0.1)
        _, accuracy = model.evaluate(x_test, y_test, verbose=0)
        print(f"test accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
