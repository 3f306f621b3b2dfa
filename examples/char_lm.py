"""Learn to write in the style of a text file, character by character.

    python examples/char_lm.py FILE [--model lstm|transformer] [--epochs N] [--limit N]
                               [--name NAME] [--prompt TEXT] [--characters N]

From each character of a piece of text the model guesses the next one; the last tenth of the file
only checks the guesses. The weights are saved after training; `--epochs 0` reads them instead
and only writes. Ends with a sample and the loss on the last tenth, in nats a character
(about 3.3 knows how frequent letters are, 2.5 knows pairs of letters, 1.6 spells most words).
"""

import argparse

import numpy as np

import hornbeam as keras

SPAN = 128  # characters that the model sees at once


def lstm(ids, characters):
    x = keras.layers.Embedding(characters, 64)(ids)
    return keras.layers.LSTM(256, return_sequences=True)(x)


def transformer(ids, characters, width=128, heads=4, blocks=2):
    layers = keras.layers
    positions = keras.ops.cumsum(keras.ops.ones_like(ids), axis=1) - 1
    x = layers.Embedding(characters, width)(ids) + layers.Embedding(SPAN, width)(positions)
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(y, y, use_causal_mask=True)
        y = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(width)(y)
    return layers.LayerNormalization()(x)


def build(body, characters):
    ids = keras.Input((SPAN,), dtype="int32")
    x = keras.layers.Dropout(0.1)(body(ids, characters))
    return keras.Model(ids, keras.layers.Dense(characters)(x))


def pieces(ids):
    """Cuts ids into rows: `x` of SPAN characters each, and `y`, the characters after those."""
    rows = (len(ids) - 1) // SPAN
    return ids[: rows * SPAN].reshape(rows, SPAN), ids[1 : rows * SPAN + 1].reshape(rows, SPAN)


def write(model, start, count, rng, temperature=0.8):
    ids = list(start)
    for _ in range(count):
        recent = ids[-SPAN:]
        window = np.array([recent + [0] * (SPAN - len(recent))], "int32")
        logits = model.predict_on_batch(window)[0, len(recent) - 1].astype(float)
        p = np.exp((logits - logits.max()) / temperature)
        ids.append(rng.choice(len(p), p=p / p.sum()))
    return ids


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="text file")
    parser.add_argument("--model", choices=["lstm", "transformer"], default="lstm")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--limit", type=int, help="use only so many characters of the file")
    parser.add_argument("--name", default="char_lm", help="weights are in NAME.weights.h5")
    parser.add_argument("--prompt", help="how the sample begins; default: as the file does")
    parser.add_argument("--characters", type=int, default=400, help="length of the sample")
    args = parser.parse_args()
    keras.utils.set_random_seed(1)
    with open(args.data, encoding="utf-8") as f:
        text = f.read(args.limit)
    if len(text) < 20 * SPAN:
        parser.error(f"{args.data}: expected at least {20 * SPAN} characters, got {len(text)}")
    alphabet = {c: i for i, c in enumerate(sorted(set(text)))}
    if unknown := set(args.prompt or "") - set(alphabet):
        parser.error(f"--prompt: {sorted(unknown)} do not occur in the file")
    ids = np.array([alphabet[c] for c in text], "int32")
    train, validation = map(pieces, np.split(ids, [len(ids) * 9 // 10]))

    model = build({"lstm": lstm, "transformer": transformer}[args.model], len(alphabet))
    if args.epochs == 0:
        model.load_weights(f"{args.name}.weights.h5")
    steps = max(1, args.epochs * len(train[0]) // 32)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    if args.epochs > 0:
        model.fit(*train, 32, args.epochs, validation_data=validation)
        model.save_weights(f"{args.name}.weights.h5")
    start = [alphabet[c] for c in args.prompt or text[0]]
    ids = write(model, start, args.characters, np.random.default_rng(1))
    print("".join(sorted(alphabet)[i] for i in ids).strip("\n"))
    print(f"validation loss: {model.evaluate(*validation, verbose=0)[0]:.4f}")


if __name__ == "__main__":
    main()
