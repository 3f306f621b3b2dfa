"""Cases of differences, correlation, frames, Fourier transforms, and regrouped axes."""

import numpy as np
from support.op_case import OpCase, normal

trapezoid = getattr(np, "trapezoid", None) or np.trapz
PAIR = [[normal(2, 4, 6), normal(2, 4, 6)]]
WIDE = ("float64", "float32")


def parts(z):
    return z.real, z.imag


def transform(f):
    return lambda x: parts(f(x[0] + 1j * x[1]))


def irfft(x, fft_length=None):
    return np.fft.irfft(x[0] + 1j * x[1], fft_length)


def frames(x, sequence_length, sequence_stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, sequence_length, -1)
    return windows[..., ::sequence_stride, :]


def stft(x, sequence_length, sequence_stride, fft_length, center):
    if center:
        x = np.pad(x, ((0, 0), (fft_length // 2,) * 2), "reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(sequence_length) / sequence_length)
    before = (fft_length - sequence_length) // 2
    hann = np.pad(hann, (before, fft_length - sequence_length - before))
    return parts(np.fft.rfft(frames(x, fft_length, sequence_stride) * hann))


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    x = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    kh, kw = kernel_size
    rows = range(0, x.shape[2] - dilation * (kh - 1), stride)
    columns = range(0, x.shape[3] - dilation * (kw - 1), stride)
    patches = [
        x[:, :, r : r + dilation * (kh - 1) + 1 : dilation, c : c + dilation * (kw - 1) + 1 : dilation]
        for r in rows for c in columns
    ]  # fmt: skip
    return np.stack([p.reshape(x.shape[0], -1) for p in patches], -1)


def fold(x, output_size, kernel_size):
    """Through the matrix of unfold, column by column."""
    n, c = x.shape[0], x.shape[1] // (kernel_size[0] * kernel_size[1])
    size = c * output_size[0] * output_size[1]
    units = np.eye(size).reshape(size, c, *output_size)
    matrix = unfold(units, kernel_size).reshape(size, -1)
    return (x.reshape(n, -1) @ matrix.T).reshape(n, c, *output_size)


def space_to_depth(x, block_size):
    n, h, w, c = x.shape
    b = block_size
    x = x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // b, w // b, b * b * c)


def depth_to_space(x, block_size):
    n, h, w, c = x.shape
    b = block_size
    x = x.reshape(n, h, w, b, b, c // b // b).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * b, w * b, c // b // b)


CASES = [
    OpCase("diff", [normal(3, 6)], dict(n=[0, 1, 2], axis=[0, -1]), dtypes=WIDE + ("int32",),
           errors=(((np.ones(3), -1), {}, ValueError, "diff: expected n >= 0"),)),
    OpCase("trapezoid", [normal(3, 6)], dict(dx=[1.0, 0.5], axis=[0, 1]), tolerance=2,
           reference=lambda y, dx, axis: trapezoid(y, dx=dx, axis=axis)),
    OpCase("trapezoid", [normal(3, 6), normal(6)], reference=lambda y, x: trapezoid(y, x),
           label="points", tolerance=4),
    *[OpCase("correlate", [normal(n), normal(m)], dict(mode=["valid", "same", "full"]), tolerance=4,
             label=f"{n} {m}", dtypes=WIDE + ("int32",)) for n, m in ((7, 3), (3, 7), (6, 4), (4, 6))],
    OpCase("corrcoef", [normal(3, 9)], tolerance=8, second=False),
    OpCase("extract_sequences", [normal(2, 12)],
           dict(sequence_length=[4, 12], sequence_stride=[1, 3]), reference=frames),
    OpCase("fft", PAIR, reference=transform(np.fft.fft), dtypes=WIDE, tolerance=8),
    OpCase("fft2", PAIR, reference=transform(np.fft.fft2), dtypes=WIDE, tolerance=8),
    OpCase("ifft2", PAIR, reference=transform(np.fft.ifft2), dtypes=WIDE, tolerance=8, errors=(
        ((np.ones((2, 2)), np.ones(2), 3), {}, TypeError, "positional"),
        ((np.ones((3, 2, 2)),), {}, ValueError, r"ifft2: expected a pair \(real, imaginary\)"))),
    OpCase("rfft", [normal(2, 9)], dict(fft_length=[None, 8, 12]), dtypes=WIDE, tolerance=8,
           reference=lambda x, fft_length: parts(np.fft.rfft(x, fft_length))),
    OpCase("irfft", [[normal(2, 6), normal(2, 6)]], dict(fft_length=[None, 7, 8, 14]),
           reference=irfft, dtypes=WIDE, tolerance=8),
    OpCase("stft", [normal(2, 40)], dict(sequence_length=[8], sequence_stride=[3], fft_length=[8, 11],
           center=[False, True]), reference=stft, dtypes=WIDE, tolerance=8, errors=(
               ((np.ones(20), 9, 3, 8), {}, ValueError, "stft: expected fft_length >= sequence_len"),)),
    OpCase("depth_to_space", [normal(2, 2, 3, 8)], dict(block_size=[2, 1]), reference=depth_to_space,
           errors=(((np.ones((1, 1, 1, 3)), 2), {}, ValueError, "depth_to_space: expected channels"),)),
    OpCase("space_to_depth", [normal(2, 4, 6, 3)], dict(block_size=[2, 1]), reference=space_to_depth),
    OpCase("unfold", [normal(2, 3, 6, 5)], dict(kernel_size=[(2, 3)], dilation=[1, 2], padding=[0, 1],
           stride=[1, 2]), reference=unfold, second=False),
    OpCase("fold", [normal(2, 12, 12)], dict(output_size=[(5, 4)], kernel_size=[(2, 2)]),
           reference=fold, second=False),
    OpCase("rearrange", [normal(2, 3, 4, 8)], dict(pattern=["b h w (c d) -> (b h) d w c"], d=[4]),
           reference=lambda x, pattern, d: x.reshape(2, 3, 4, 2, 4).transpose(0, 1, 4, 2, 3)
           .reshape(6, 4, 4, 2), errors=(
               ((np.ones((2, 3)), "a b -> a"), {}, ValueError, "rearrange: expected the same names"),
               ((np.ones((2, 3)), "(a c) b -> a b c"), {}, ValueError, "cannot be split into"))),
    OpCase("rearrange", [normal(2, 3, 4)], dict(pattern=["... c -> c ..."]), label="dots",
           reference=lambda x, pattern: np.moveaxis(x, -1, 0)),
    OpCase("psnr", [normal(3, 4), normal(3, 4)], dict(max_val=[2.0]), tolerance=4,
           reference=lambda a, b, max_val: 20 * np.log10(max_val) - 10 * np.log10(np.mean((a - b) ** 2))),
]  # fmt: skip
