"""Optimizers and schedules: the weights after each step on the same few gradients."""

import keras
import numpy as np
import recorded

from recording import store

STEPS = 6


def S(name, **kwargs):
    return {"class": f"optimizers.schedules.{name}", "kwargs": kwargs}


def specs():
    sgd, rms = {"learning_rate": 0.1}, {"learning_rate": 0.05}
    yield "sgd", "SGD", sgd
    yield "sgd/momentum", "SGD", {"momentum": 0.9, **sgd}
    yield "sgd/nesterov", "SGD", {"momentum": 0.9, "nesterov": True, **sgd}
    yield "sgd/weight_decay", "SGD", {"weight_decay": 0.1, "momentum": 0.5, **sgd}
    yield "sgd/clipnorm", "SGD", {"clipnorm": 0.5, **sgd}
    yield "sgd/clipvalue", "SGD", {"clipvalue": 0.3, **sgd}
    yield "sgd/global_clipnorm", "SGD", {"global_clipnorm": 0.7, **sgd}
    yield "sgd/ema", "SGD", {"use_ema": True, "ema_momentum": 0.9, **sgd}
    ema = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}
    yield "sgd/ema_overwrite", "SGD", {**ema, **sgd}
    yield "sgd/accumulate", "SGD", {"gradient_accumulation_steps": 2, "momentum": 0.9, **sgd}
    yield (
        "sgd/schedule",
        "SGD",
        {
            "learning_rate": S(
                "ExponentialDecay", initial_learning_rate=0.1, decay_steps=2, decay_rate=0.5
            )
        },
    )
    yield "rmsprop", "RMSprop", rms
    yield "rmsprop/momentum", "RMSprop", {"momentum": 0.9, **rms}
    yield "rmsprop/centered", "RMSprop", {"centered": True, **rms}
    yield "rmsprop/both", "RMSprop", {"centered": True, "momentum": 0.5, "rho": 0.8, **rms}
    yield "adam", "Adam", rms
    yield "adam/amsgrad", "Adam", {"amsgrad": True, **rms}
    yield "adam/options", "Adam", {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3, **rms}
    yield "adam/weight_decay", "Adam", {"weight_decay": 0.1, **rms}
    yield "adam/clipnorm", "Adam", {"clipnorm": 0.5, **rms}
    yield "adam/global_clipnorm", "Adam", {"global_clipnorm": 0.5, **rms}
    yield "adam/accumulate", "Adam", {"gradient_accumulation_steps": 3, **rms}
    yield "adam/ema", "Adam", {"use_ema": True, "ema_momentum": 0.9, **rms}
    yield (
        "adam/schedule",
        "Adam",
        {"learning_rate": S("CosineDecay", initial_learning_rate=0.1, decay_steps=5)},
    )
    yield "adamw", "AdamW", rms
    yield "adamw/amsgrad", "AdamW", {"amsgrad": True, "weight_decay": 0.1, **rms}
    yield "adamw/all", "AdamW", {"weight_decay": 0.05, "clipvalue": 0.5, "use_ema": True, **rms}


def cases():
    r = store.rng("optimizers")
    start = [store.normal(r, 3, 2), store.normal(r, 4)]
    gradients = [[store.normal(r, 3, 2), store.normal(r, 4)] for _ in range(STEPS)]
    yield {"name": "shared", "weights": start, "gradients": gradients}
    for name, kind, kwargs in specs():
        recipe = {"class": f"optimizers.{kind}", "kwargs": kwargs}
        optimizer = recorded.construct(recipe, keras)
        weights = [keras.Variable(w, name=n) for w, n in zip(start, "ab", strict=True)]
        optimizer.build(weights)
        trajectory = []
        for step in gradients:
            optimizer.apply(step)
            trajectory.append([w.numpy() for w in weights])
        case = {
            "name": name,
            "optimizer": recipe,
            "trajectory": trajectory,
            "variable_names": [v.path.split("/", 1)[1] for v in optimizer.variables],
            "variables": [v.numpy() for v in optimizer.variables],
            "config": {k: v for k, v in optimizer.get_config().items() if k != "learning_rate"},
        }
        if kwargs.get("use_ema"):
            optimizer.finalize_variable_values(weights)
            case["finalized"] = [w.numpy() for w in weights]
        yield case


def schedule_specs():
    first = {"initial_learning_rate": 0.5}
    for staircase in (False, True):
        s = {"staircase": staircase, "decay_steps": 4, "decay_rate": 0.6, **first}
        yield S("ExponentialDecay", **s)
        yield S("InverseTimeDecay", **s)
    yield S("PiecewiseConstantDecay", boundaries=[3, 7], values=[1.0, 0.5, 0.125])
    p = {"decay_steps": 6, "end_learning_rate": 0.01, **first}
    for power in (1.0, 0.5, 2.0):
        for cycle in (False, True):
            yield S("PolynomialDecay", power=power, cycle=cycle, **p)
    yield S("CosineDecay", decay_steps=8, **first)
    yield S("CosineDecay", decay_steps=8, alpha=0.1, **first)
    warm = {"warmup_target": 0.5, "warmup_steps": 4}
    yield S("CosineDecay", initial_learning_rate=0.1, decay_steps=6, **warm)
    restarts = {"first_decay_steps": 4, **first}
    yield S("CosineDecayRestarts", **restarts)
    yield S("CosineDecayRestarts", t_mul=1.5, m_mul=0.5, alpha=0.05, **restarts)
    yield S("CosineDecayRestarts", t_mul=1.0, m_mul=0.9, **restarts)


def schedule_cases():
    steps = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 20, 50]
    for number, recipe in enumerate(schedule_specs()):
        rate = recorded.construct(recipe, keras)
        yield {
            "name": f"{recipe['class'].rsplit('.', 1)[1]}/{number}",
            "schedule": recipe,
            "steps": steps,
            "values": np.array([float(rate(s)) for s in steps], "float32"),
            "config": rate.get_config(),
        }
