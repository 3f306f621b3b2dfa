#!/usr/bin/env python
"""hornbeam against torch (eager and torch.compile) on one NVIDIA GPU, in one run.

    python gpu.py [--torch-python PYTHON] [--only SUBSTRING] [--json FILE] [--tiny]

Starts this file once for each implementation (`--impl`), one after the other, and prints for every
case the rate (TFLOP/s, GB/s or steps/s), its share of the peak, and the ratio to the better of the
two torch variants. Results of the implementations are compared by their mean magnitude, so that what
is timed is the same computation. `--torch-python` is an interpreter that has torch.

`--tiny` takes small shapes, to prove that everything runs: without a GPU torch takes the CPU and
hornbeam the emulated device (HORNBEAM_CUDA_EMULATED, see docs/gpu.md); its rates mean nothing.
"""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

IMPLS = ["hornbeam", "torch", "torch-compile"]
#: What an H200 reaches: TFLOP/s of products and GB/s of a copy, measured; float32 without tensor
#: cores as specified.
PEAK = {"bfloat16": 790.0, "tf32": 395.0, "float32": 60.0, "GB/s": 4300.0}
R = np.random.default_rng(0)


@dataclasses.dataclass
class Case:
    """fn(library, *tensors) → tensor or list. `library` is Hornbeam or Torch.

    work: in units of 1e12 operations or 1e9 bytes for one call, else None. mode: the dtype's name or
    "tf32" (float32 operands that may be rounded).
    """

    name: str
    fn: object
    shapes: list
    mode: str
    work: float
    unit: str = "TFLOP/s"
    gradient: bool = False  # of the sum, for all operands


# --------------------------------------------------------------------------- cases


def matmul_cases(tiny):
    squares = [64] if tiny else [512, 1024, 2048, 4096, 8192]
    dense = (
        [(33, 48, 40)]
        if tiny
        else [(128, 784, 512), (8192, 768, 3072), (8192, 3072, 768), (8192, 768, 50257)]
    )
    for mode in ("float32", "tf32", "bfloat16"):
        for m, k, n in [(s, s, s) for s in squares] + dense:
            yield Case(f"matmul {mode} {m}x{k}x{n}", lambda lib, a, b: lib.matmul(a, b),
                       [(m, k), (k, n)], mode, 2e-12 * m * n * k)  # fmt: skip
        m, k, n = dense[-1]
        yield Case(f"dense {mode} {m}x{k}x{n}", lambda lib, x, w, b: lib.relu(lib.matmul(x, w) + b),
                   [(m, k), (k, n), (n,)], mode, 2e-12 * m * n * k)  # fmt: skip


#: side, channels in and out, kernel, stride: the convolutions of ResNet-50
CONVOLUTIONS = [
    (224, 3, 64, 7, 2), (56, 64, 64, 1, 1), (56, 64, 64, 3, 1), (56, 64, 256, 1, 1),
    (56, 256, 128, 1, 1), (56, 128, 128, 3, 2), (28, 512, 128, 1, 1), (28, 128, 128, 3, 1),
    (28, 256, 256, 3, 2), (14, 256, 256, 3, 1), (14, 256, 1024, 1, 1), (14, 512, 512, 3, 2),
    (7, 512, 512, 3, 1), (7, 512, 2048, 1, 1),
]  # fmt: skip


def conv_cases(tiny):
    batch, table = (1, [(8, 3, 8, 3, 2), (6, 8, 8, 1, 1)]) if tiny else (64, CONVOLUTIONS)
    for mode in ("bfloat16", "tf32"):
        for side, i, o, k, s in table:
            out = -(-side // s)
            work = 2e-12 * batch * out * out * k * k * i * o
            for gradient in (False, True):
                yield Case(
                    f"conv {mode} {side} {i}-{o} {k}x{k}/{s}" + (" + gradients" if gradient else ""),
                    lambda lib, x, w, s=s: lib.conv(x, w, s),
                    [(batch, side, side, i), (k, k, i, o)], mode,
                    work * (3 if gradient else 1), gradient=gradient,
                )  # fmt: skip


def attention_cases(tiny):
    table = (
        [(1, 32, 2, 16)] if tiny else [(8, 1024, 12, 64), (4, 4096, 16, 128), (1, 16384, 16, 64)]
    )
    for mode in ("bfloat16",) if not tiny else ("bfloat16", "tf32"):
        for b, t, n, h in table:
            for causal in (False, True):
                work = 4e-12 * b * n * t * t * h / (2 if causal else 1)
                for gradient in (False, True):
                    yield Case(
                        f"attention {mode} {b}x{t}x{n}x{h}" + " causal" * causal
                        + " + gradients" * gradient,
                        lambda lib, q, k, v, causal=causal: lib.attention(q, k, v, causal),
                        [(b, t, n, h)] * 3, mode, work * (3.5 if gradient else 1), gradient=gradient,
                    )  # fmt: skip


def memory_cases(tiny):
    """Bytes: the least that must be read and written."""
    n, rows, width = (1000, 20, 64) if tiny else (1 << 26, 1 << 16, 1024)
    for mode, size in (("float32", 4), ("bfloat16", 2)):

        def case(name, fn, shapes, elements, gradient=False, mode=mode, size=size):
            return Case(f"{name} {mode}", fn, shapes, mode, 1e-9 * size * elements, "GB/s", gradient)  # fmt: skip

        matrix, all_ = (rows, width), rows * width
        yield case("add", lambda lib, a, b: a + b, [(n,), (n,)], 3 * n)
        yield case("chain", lambda lib, a, b: lib.relu(a * b + a) * 0.5 - b, [(n,), (n,)], 3 * n)
        yield case("gelu", lambda lib, a: lib.gelu(a), [(n,)], 2 * n)
        yield case("row bias", lambda lib, a, b: a + b, [matrix, (width,)], 2 * all_)
        yield case("sum", lambda lib, a: lib.sum(a), [matrix], all_)
        yield case("row sums", lambda lib, a: lib.sum(a, -1), [matrix], all_)
        yield case("column sums", lambda lib, a: lib.sum(a, 0), [matrix], all_)
        yield case("softmax", lambda lib, a: lib.softmax(a), [matrix], 2 * all_)
        yield case("layer norm", lambda lib, a, g, b: lib.layer_norm(a, g, b),
                   [matrix, (width,), (width,)], 2 * all_)  # fmt: skip
        yield case("layer norm + gradients", lambda lib, a, g, b: lib.layer_norm(a, g, b),
                   [matrix, (width,), (width,)], 4 * all_, True)  # fmt: skip
        yield case("transpose", lambda lib, a: lib.transpose(a), [matrix], 2 * all_)
        yield case("cumulative sum", lambda lib, a: lib.cumsum(a), [matrix], 2 * all_)
    yield Case("sort float32", lambda lib, a: lib.sort(a), [(n // 4,)], "float32", 2e-9 * n, "GB/s")


def op_cases(tiny):
    for family in (matmul_cases, conv_cases, attention_cases, memory_cases):
        yield from family(tiny)


#: name: (workload of workloads.py, its sizes, batch, steps); the first set for --tiny
TRAINING = {
    "mlp": ({"units": 8}, {}, 128),
    "lstm": ({"vocab": 50, "units": 8, "length": 5}, {}, 256),
    "transformer": (
        {"vocab": 64, "d": 16, "heads": 2, "layers": 1, "seq": 8},
        {"vocab": 50257, "d": 768, "heads": 12, "layers": 12, "seq": 1024},
        8,
    ),
    "resnet50": ({"size": 16, "stages": ((4, 1, 1), (8, 1, 2)), "classes": 5}, {}, 64),
}


# --------------------------------------------------------------------------- implementations


class Hornbeam:
    def __init__(self, impl):
        import hornbeam

        self.keras, self.ops = hornbeam, hornbeam.ops
        found = hornbeam.backend.list_devices("cuda")
        if not found:
            raise SystemExit("hornbeam: no CUDA device")
        self.device = found[0]
        self.description = hornbeam.backend._core.device_description(self.device)

    def matmul(self, a, b):
        return self.ops.matmul(a, b)

    def conv(self, x, w, stride):
        return self.ops.conv(x, w, stride, "same")

    def attention(self, q, k, v, causal):
        return self.ops.dot_product_attention(q, k, v, is_causal=causal)

    def relu(self, x):
        return self.ops.relu(x)

    def gelu(self, x):
        return self.ops.gelu(x, approximate=False)

    def sum(self, x, axis=None):
        return self.ops.sum(x, axis=axis)

    def softmax(self, x):
        return self.ops.softmax(x)

    def layer_norm(self, x, gamma, beta):
        return self.ops.layer_normalization(x, gamma, beta, epsilon=1e-5)

    def transpose(self, x):
        return self.ops.transpose(x)

    def cumsum(self, x):
        return self.ops.cumsum(x, axis=-1)

    def sort(self, x):
        return self.ops.sort(x)

    def prepare(self, case, arrays):
        """(call, synchronize, value of a result)"""
        backend = self.keras.backend
        self.keras.config.set_matmul_precision("medium" if case.mode == "tf32" else "highest")
        dtype = "float32" if case.mode == "tf32" else case.mode

        def f(*xs):
            if not case.gradient:
                return case.fn(self, *xs)
            with backend.GradientTape() as tape:
                for x in xs:
                    tape.watch(x)
                y = case.fn(self, *xs)
                total = self.ops.sum(y)
            return tape.gradient(total, list(xs))

        with self.keras.device(self.device):
            tensors = [backend.convert_to_tensor(a, dtype) for a in arrays]
            run = backend.function(f).concrete(*tensors).run
        return (
            lambda: run(tensors),
            lambda: backend._core.synchronize(self.device),
            lambda y: np.asarray(self.ops.cast(y, "float32")),
        )

    def trainer(self, name, sizes, batch, steps, bf16):
        """A function that trains for `steps` steps and returns the last loss."""
        import workloads

        keras = self.keras
        keras.config.set_matmul_precision("medium")
        keras.config.set_dtype_policy("mixed_bfloat16" if bf16 else "float32")
        keras.utils.set_random_seed(0)
        with keras.device(self.device):
            w = workloads.training(name, sizes)
            model = w.build(keras)
            loss = w.loss(keras) if callable(w.loss) else w.loss
            model.compile(optimizer=w.opt(keras), loss=loss)
        x, y = w.data(batch * steps)

        def train():
            with keras.device(self.device):
                fitted = model.fit(x, y, batch_size=batch, epochs=1, shuffle=False, verbose=0)
            return fitted.history["loss"][-1]

        return train


class Torch:
    def __init__(self, impl):
        import torch

        self.torch, self.compiled = torch, impl == "torch-compile"
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.description = torch.cuda.get_device_name() if self.device == "cuda" else "CPU"
        self.description += f", torch {torch.__version__}"

    def matmul(self, a, b):
        return a @ b

    def conv(self, x, w, stride):  # channels last, kernels as in Keras; padding "same"
        k, side = w.shape[0], x.shape[1]
        extra = max((-(-side // stride) - 1) * stride + k - side, 0)
        f = self.torch.nn.functional
        x, w = x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1)
        if extra % 2:
            x = f.pad(x, (extra // 2, extra - extra // 2) * 2)
            y = f.conv2d(x, w, stride=stride)
        else:
            y = f.conv2d(x, w, stride=stride, padding=extra // 2)
        return y.permute(0, 2, 3, 1)

    def attention(self, q, k, v, causal):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        f = self.torch.nn.functional.scaled_dot_product_attention
        return f(q, k, v, is_causal=causal).transpose(1, 2)

    def relu(self, x):
        return self.torch.relu(x)

    def gelu(self, x):
        return self.torch.nn.functional.gelu(x)

    def sum(self, x, axis=None):
        return x.sum() if axis is None else x.sum(axis)

    def softmax(self, x):
        return x.softmax(-1)

    def layer_norm(self, x, gamma, beta):
        return self.torch.nn.functional.layer_norm(x, gamma.shape, gamma, beta, 1e-5)

    def transpose(self, x):
        return x.T.contiguous()

    def cumsum(self, x):
        return x.cumsum(-1)

    def sort(self, x):
        return x.sort().values

    def synchronize(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def prepare(self, case, arrays):
        torch = self.torch
        torch.set_float32_matmul_precision("high" if case.mode == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = case.mode == "tf32"
        torch.backends.cudnn.benchmark = True
        dtype = torch.bfloat16 if case.mode == "bfloat16" else torch.float32
        tensors = [torch.from_numpy(a).to(self.device, dtype) for a in arrays]
        if case.name.startswith("conv"):  # the kernels as torch likes them
            o = tensors[1].permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
            tensors[1] = o.permute(2, 3, 1, 0)

        def f(*xs):
            return case.fn(self, *xs)

        if self.compiled:
            f = torch.compile(f)
        if case.gradient:
            for t in tensors:
                t.requires_grad_()

        def call():
            if not case.gradient:
                return f(*tensors)
            return list(torch.autograd.grad(f(*tensors).sum(), tensors))

        return call, self.synchronize, lambda y: y.detach().float().cpu().numpy()

    def trainer(self, name, sizes, batch, steps, bf16):
        import contextlib

        import native_torch
        import workloads

        torch = self.torch
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        w = workloads.training(name, sizes)
        model = native_torch.MODELS[w.name](**sizes).to(self.device)
        if name == "resnet50":
            model = model[:-1]  # the softmax is in the loss
        image = w.name in native_torch.IMAGES
        if image:
            model = model.to(memory_format=torch.channels_last)
        fn = torch.compile(model) if self.compiled else model
        optimizer = native_torch.optimizer(w.name, model, fused=self.device == "cuda")
        loss_of = native_torch.LOSS.get(w.name, native_torch._ce)
        x, y = (torch.from_numpy(a) for a in w.data(batch * steps))
        if self.device == "cuda":
            x, y = x.pin_memory(), y.pin_memory()
        autocast = torch.autocast(self.device, torch.bfloat16) if bf16 else contextlib.nullcontext()

        def train():
            for i in range(0, batch * steps, batch):
                xb, yb = (a[i : i + batch].to(self.device, non_blocking=True) for a in (x, y))
                if image:
                    xb = xb.permute(0, 3, 1, 2)
                optimizer.zero_grad(set_to_none=True)
                with autocast:
                    out = fn(xb)
                loss = loss_of(out.float(), yb)
                loss.backward()
                optimizer.step()
            return float(loss.detach())

        return train


# --------------------------------------------------------------------------- timing


def seconds_per_call(call, synchronize, target):
    """The best of five repetitions that together take about `target` seconds."""
    call()
    synchronize()
    t = time.perf_counter()
    call()
    synchronize()
    count = max(1, min(1000, int(target / 5 / max(1e-7, time.perf_counter() - t))))
    best = math.inf
    for _ in range(5 if target else 1):
        t = time.perf_counter()
        for _ in range(count):
            call()
        synchronize()
        best = min(best, (time.perf_counter() - t) / count)
    return best


def run_impl(impl, only, tiny):
    """Measures everything with one implementation; prints a JSON line for each case."""
    lib = Hornbeam(impl) if impl == "hornbeam" else Torch(impl)

    def put(**row):
        print(json.dumps({"impl": impl, **row}), flush=True)

    put(device=lib.description)
    for case in op_cases(tiny):
        if only not in case.name:
            continue
        try:
            arrays = [R_of(case, i).standard_normal(s, dtype=np.float32) * (0.1 if len(s) > 1 else 1)
                      for i, s in enumerate(case.shapes)]  # fmt: skip
            call, synchronize, value = lib.prepare(case, arrays)
            y = call()
            y = [value(v) for v in (y if isinstance(y, (list, tuple)) else [y])]
            check = float(np.mean([np.abs(v.astype("float64")).mean() for v in y]))
            s = seconds_per_call(call, synchronize, 0 if tiny else 1.0)
            put(name=case.name, seconds=s, rate=case.work / s, unit=case.unit, mode=case.mode,
                check=check)  # fmt: skip
        except Exception as e:  # one case less, not a run less
            put(name=case.name, error=f"{type(e).__name__}: {e}"[:300])
    for name, (small, large, batch) in TRAINING.items():
        for bf16 in (False, True):
            title = f"train {name} {'bfloat16' if bf16 else 'tf32'}"
            if only not in title:
                continue
            batch, steps = (4, 2) if tiny else (batch, 20)
            try:
                train = lib.trainer(name, small if tiny else large, batch, steps, bf16)
                loss = train()
                if not math.isfinite(loss):
                    raise ValueError(f"the loss is {loss}")
                seconds = []
                for _ in range(1 if tiny else 5):
                    t = time.perf_counter()
                    train()
                    seconds.append(time.perf_counter() - t)
                s = min(seconds) / steps
                put(name=title, seconds=s, rate=1 / s, unit="steps/s", mode="", loss=loss)
            except Exception as e:
                put(name=title, error=f"{type(e).__name__}: {e}"[:300])


def R_of(case, i):
    """Every implementation gets the same numbers."""
    return np.random.default_rng([len(case.name), i])


# --------------------------------------------------------------------------- all of them


def collect(impl, python, only, tiny):
    command = [python, os.path.abspath(__file__), "--impl", impl, "--only", only]
    command += ["--tiny"] * tiny
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    rows = [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]
    if out.returncode != 0 or not rows:
        print(f"{impl}: ended with status {out.returncode}", file=sys.stderr)
    return rows


def report(rows):
    """Lines of the table, and what is wrong."""
    by_name, problems = {}, []
    for row in rows:
        if "device" in row:
            yield f"{row['impl']}: {row['device']}"
        elif "error" in row:
            problems.append(f"{row['impl']}: {row['name']}: {row['error']}")
        else:
            by_name.setdefault(row["name"], {})[row["impl"]] = row
    yield "| case | unit | " + " | ".join(IMPLS) + " | of peak | ratio |"
    yield "| --- | --- |" + " ---: |" * (len(IMPLS) + 2)
    for name, found in by_name.items():
        first = next(iter(found.values()))
        mine = found.get("hornbeam", {}).get("rate")
        theirs = max((r["rate"] for i, r in found.items() if i != "hornbeam"), default=None)
        peak = PEAK.get("GB/s" if first["unit"] == "GB/s" else first["mode"])
        cells = [f"{found[i]['rate']:.4g}" if i in found else "" for i in IMPLS]
        share = f"{mine / peak:.0%}" if mine and peak else ""
        ratio = f"{mine / theirs:.2f}" if mine and theirs else ""
        yield f"| {name} | {first['unit']} | " + " | ".join(cells) + f" | {share} | {ratio} |"
        checks = [r["check"] for r in found.values() if "check" in r]
        if checks and max(checks) - min(checks) > 0.02 * max(checks) + 1e-3:
            problems.append(f"{name}: different results, mean magnitudes {checks}")
    for problem in problems:
        yield f"! {problem}"


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--impl", choices=IMPLS, help="measure only this one, as JSON lines")
    ap.add_argument("--torch-python", help="interpreter with torch; without it only hornbeam runs")
    ap.add_argument("--only", default="")
    ap.add_argument("--json", help="file for all rows")
    ap.add_argument("--tiny", action="store_true")
    a = ap.parse_args()
    if a.impl:
        run_impl(a.impl, a.only, a.tiny)
        return
    rows = []
    for impl in IMPLS if a.torch_python else IMPLS[:1]:
        python = sys.executable if impl == "hornbeam" else a.torch_python
        rows += collect(impl, python, a.only, a.tiny)
    if a.json:
        with open(a.json, "w") as f:
            f.writelines(json.dumps(r) + "\n" for r in rows)
    lines = list(report(rows))
    print("\n".join(lines))
    sys.exit(any(line.startswith("! ") for line in lines))


if __name__ == "__main__":
    main()
