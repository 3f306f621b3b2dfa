"""Records numbers of real Keras, so that hornbeam can be compared with it where Keras is not there.

    pip install keras==3.15.1 jax==0.10.2 jaxlib==0.10.2
    KERAS_BACKEND=jax python tests/parity/record.py tests/parity/recorded [GROUP ...]

Writes `GROUP.npz`, or `GROUP.json` where there are no arrays, for each group of cases in
`recording/`, or for those named. See README.md for what they hold; `recorded.py` reads them.
"""

import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from recording import (  # noqa: E402
    dtypes,
    layers,
    losses,
    metrics,
    operations,
    optimizers,
    store,
    texts,
    training,
)

GROUPS = {
    "layers": layers.cases,
    "losses": losses.cases,
    "metrics": metrics.cases,
    "optimizers": optimizers.cases,
    "schedules": optimizers.schedule_cases,
    "training": training.cases,
    "operations": operations.cases,
    "dtypes": dtypes.cases,
    "texts": texts.cases,
}


def main(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or GROUPS:
        cases = list(GROUPS[name]())
        store.write(folder, name, cases)
        size = sum(p.stat().st_size for p in folder.glob(f"{name}.*"))
        print(f"{name}: {len(cases)} cases, {size / 1024:.0f} KiB", flush=True)
    total = sum(p.stat().st_size for p in folder.iterdir())
    print(f"{total / 1024:.0f} KiB in all")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
