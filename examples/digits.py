"""Train a small convolutional network on handwritten digits; save it, load it, predict the same.

    python examples/digits.py [--data FILE.npz] [--epochs N]

The data (UCI optical digits: 1,797 grey images of 8×8 pixels) come with hornbeam; FILE.npz with the
arrays x_train, y_train, x_test, y_test replaces them. Takes seconds on two cores and ends with the
accuracy on the test images.
"""

import argparse
import os
import tempfile

import numpy as np

import hornbeam as keras


def load(path):
    if path is None:
        (x_train, y_train), (x_test, y_test) = keras.datasets.digits.load_data()
    else:
        with np.load(path) as f:
            x_train, y_train, x_test, y_test = (
                f[k] for k in ("x_train", "y_train", "x_test", "y_test")
            )
    scale = float(x_train.max())
    return (
        (x_train[..., None].astype("float32") / scale, y_train.astype("int32")),
        (x_test[..., None].astype("float32") / scale, y_test.astype("int32")),
    )


def build(input_shape):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(10),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, default=25)
    args = parser.parse_args()

    keras.utils.set_random_seed(1)
    (x_train, y_train), (x_test, y_test) = load(args.data)
    model = build(x_train.shape[1:])
    model.summary()
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x_train, y_train, batch_size=32, epochs=args.epochs, validation_split=0.1)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.keras")
        model.save(path)
        again = keras.models.load_model(path)
    if not np.array_equal(again.predict(x_test, verbose=0), model.predict(x_test, verbose=0)):
        raise SystemExit("the loaded model predicts something else than the saved one")

    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
