"""Tell praise from blame in sentences of film reviews, with averaged embeddings.

    python examples/sentiment.py FOLDER [--epochs N] [--limit N] [--sentence TEXT]

FOLDER holds train.tsv, dev.tsv and test.tsv with lines `sentence<TAB>label`, label 0 or 1, words
separated by blanks: the Stanford Sentiment Treebank (SST-2) in its usual form. A sentence is the
set of its words, of their beginnings (which hold together `bore`, `bored` and `boring`) and of
its pairs of neighbours (`not good`); each of them has a learned vector, and a linear layer judges
the mean of the vectors. The dev sentences say when to stop. Ends with the test accuracy.
"""

import argparse
import collections
import os

import numpy as np

import hornbeam as keras

PADDING, UNKNOWN = 0, 1  # ids; those of the vocabulary follow


def read(folder, part, limit):
    path = os.path.join(folder, f"{part}.tsv")
    with open(path, encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f][:limit]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or row[1] not in ("0", "1"):
            raise SystemExit(f"{path}:{number}: expected a sentence, a tab, and 0 or 1; got {row}")
    return [sentence for sentence, _ in rows], np.array([int(label) for _, label in rows])


def features(sentence):
    words = sentence.lower().split()
    beginnings = [word[:4] + "…" for word in words if len(word) > 4]
    pairs = [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]
    return words, beginnings + pairs


def build_vocabulary(sentences):
    """Ids of all features that occur at least twice."""
    count = collections.Counter(f for s in sentences for part in features(s) for f in part)
    return {f: i for i, f in enumerate((f for f, n in count.items() if n > 1), start=2)}


def encode(sentences, vocabulary, length):
    ids = np.full((len(sentences), length), PADDING, "int32")
    for row, sentence in zip(ids, sentences, strict=True):
        words, others = features(sentence)
        known = [vocabulary.get(word, UNKNOWN) for word in words]
        known += [vocabulary[f] for f in others if f in vocabulary]
        row[: len(known)] = known[:length]
    return ids


def build(vocabulary_size, length):
    layers = keras.layers
    inputs = keras.Input((length,), dtype="int32")
    small = keras.initializers.RandomUniform(-0.05, 0.05)
    x = layers.Embedding(vocabulary_size, 32, small, mask_zero=True)(inputs)
    x = layers.Dropout(0.5, noise_shape=(None, length, 1))(x)  # forgets whole features
    x = layers.GlobalAveragePooling1D()(x)  # knows by the mask what is padding
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder with train.tsv, dev.tsv and test.tsv")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, help="use only so many sentences of each part")
    parser.add_argument("--sentence", help="judge this sentence, too")
    args = parser.parse_args()

    keras.utils.set_random_seed(1)
    texts, y_train = read(args.data, "train", args.limit)
    vocabulary = build_vocabulary(texts)
    length = max(sum(map(len, features(text))) for text in texts)
    print(f"{len(texts)} sentences, {len(vocabulary)} features, at most {length} a sentence")

    x_train = encode(texts, vocabulary, length)
    texts, y_dev = read(args.data, "dev", args.limit)
    x_dev = encode(texts, vocabulary, length)
    model = build(len(vocabulary) + 2, length)
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy", metrics=["accuracy"])
    stop = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    model.fit(x_train, y_train, 64, args.epochs, validation_data=(x_dev, y_dev), callbacks=[stop])

    if args.sentence:
        praise = model.predict(encode([args.sentence], vocabulary, length), verbose=0)[0, 0]
        print(f"{args.sentence!r} is praise with probability {praise:.2f}")
    texts, y_test = read(args.data, "test", args.limit)
    _, accuracy = model.evaluate(encode(texts, vocabulary, length), y_test, verbose=0)
    print(f"test accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
