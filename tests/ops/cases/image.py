"""Cases of image ops."""

import colorsys

import numpy as np
from support.op_case import OpCase, normal, uniform, values

IMAGES = uniform(2, 5, 7, 3)
IDENTITY = [1.0, 0, 0, 0, 1, 0, 0, 0]
SHIFT = [1.0, 0, 1, 0, 1, 2, 0, 0]  # shows the input one column and two rows further


def interpolated(x, out, axis):
    n = x.shape[axis]
    place = np.clip((np.arange(out) + 0.5) * n / out - 0.5, 0, n - 1)
    low = np.floor(place).astype(int)
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    share = (place - low).reshape(shape)
    high = np.minimum(low + 1, n - 1)
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


def bilinear(x, size):
    return interpolated(interpolated(x, size[0], 1), size[1], 2)


def nearest(x, size, interpolation):
    for axis, out in ((1, size[0]), (2, size[1])):
        n = x.shape[axis]
        x = np.take(x, np.floor((np.arange(out) + 0.5) * n / out).astype(int), axis)
    return x


def cropped_to_square(x, size, crop_to_aspect_ratio):
    edge = (x.shape[2] - x.shape[1]) // 2
    return bilinear(x[:, :, edge : edge + x.shape[1]], size)


def padded_to_square(x, size, pad_to_aspect_ratio):
    rest = x.shape[2] - x.shape[1]
    return bilinear(np.pad(x, ((0, 0), (rest // 2, rest - rest // 2), (0, 0), (0, 0))), size)


def patches(x, size, strides, padding="valid"):
    n, h, w, c = x.shape
    if padding == "same":
        total = [max((-(-k // strides) - 1) * strides + size - k, 0) for k in (h, w)]
        x = np.pad(x, ((0, 0), *[(t // 2, t - t // 2) for t in total], (0, 0)))
    rows = range(0, x.shape[1] - size + 1, strides)
    columns = range(0, x.shape[2] - size + 1, strides)
    return np.stack([np.stack([x[:, r : r + size, q : q + size].reshape(n, -1) for q in columns], 1)
                     for r in rows], 1)  # fmt: skip


def by_pixel(f):
    return lambda x: np.array([f(*v) for v in x.reshape(-1, 3)]).reshape(x.shape)


def sobel(x):
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    smooth_w = x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]
    smooth_h = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    return np.stack(
        [smooth_w[:, 2:] - smooth_w[:, :-2], smooth_h[:, :, 2:] - smooth_h[:, :, :-2]], -1
    )


def blur(x, kernel_size, sigma):
    for axis, (k, s) in enumerate(zip(kernel_size, sigma, strict=True), start=1):
        g = np.exp(-0.5 * ((np.arange(k) - (k - 1) / 2) / s) ** 2)
        g /= g.sum()
        x = np.apply_along_axis(
            lambda v, g=g, k=k: np.convolve(v, g)[k // 2 : k // 2 + len(v)], axis, x
        )
    return x


def shifted(x, transform):
    y = np.zeros_like(x)
    y[:, :-2, :-1] = x[:, 2:, 1:]
    return y


def sampled(x, coordinates, order, fill_mode):
    """One place after the other; "reflect" repeats the edge element, "mirror" does not."""
    modes = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}
    wide = np.pad(x, 20, modes[fill_mode]) if fill_mode != "constant" else np.pad(x, 20)
    out = np.zeros(coordinates.shape[1:])
    for at in np.ndindex(*out.shape):
        place = coordinates[(slice(None), *at)] + 20
        if order == 0:
            out[at] = wide[tuple(np.floor(place + 0.5).astype(int))]
            continue
        low = np.floor(place).astype(int)
        for corner in np.ndindex(*(2,) * len(low)):
            share = np.prod([s if c else 1 - s for s, c in zip(place - low, corner, strict=True)])
            out[at] += share * wide[tuple(low + corner)]
    return out


CASES = [
    OpCase("image.resize", [IMAGES], dict(size=[(10, 4), (3, 14), (5, 7)]), reference=bilinear,
           tolerance=4, second=False, errors=(
               ((np.ones((4, 4, 3)), (2, 2), "box"), {}, ValueError, "resize: expected interpolation"),
               ((np.ones((4, 4)), (2, 2)), {}, ValueError, "resize: expected an image or a batch"))),
    OpCase("image.resize", [IMAGES], dict(size=[(10, 4), (3, 14)], interpolation=["nearest"]),
           reference=nearest, label="nearest", dtypes=("float32", "uint8"), second=False),
    OpCase("image.resize", [IMAGES], dict(size=[(4, 4)], crop_to_aspect_ratio=[True]),
           reference=cropped_to_square, label="crop", tolerance=4, second=False),
    OpCase("image.resize", [IMAGES], dict(size=[(4, 4)], pad_to_aspect_ratio=[True]),
           reference=padded_to_square, label="pad", tolerance=4, second=False),
    # of a constant image every filter makes the same constant
    OpCase("image.resize", [values(np.ones((1, 5, 7, 2)))],
           dict(size=[(3, 11)], interpolation=["bicubic", "lanczos3", "lanczos5"], antialias=[False, True]),
           reference=lambda x, size, **_: np.ones((1, *size, 2)), label="filters", second=False),
    OpCase("image.scale_and_translate", [IMAGES],
           dict(output_shape=[(2, 10, 7, 3)], scale=[np.array([2.0])], translation=[np.array([0.0])],
                spatial_dims=[(1,)], method=["linear"]), tolerance=4, second=False,
           reference=lambda x, **_: interpolated(x, 10, 1)),
    OpCase("image.pad_images", [IMAGES], dict(top_padding=[1], left_padding=[2], target_height=[8],
           right_padding=[3]), reference=lambda x, **_: np.pad(x, ((0, 0), (1, 2), (2, 3), (0, 0))),
           errors=(((np.ones((4, 4, 1)), 1, 1), {}, ValueError, "expected exactly two of the margins"),)),
    OpCase("image.crop_images", [IMAGES], dict(bottom_cropping=[1], left_cropping=[2],
           target_height=[3], target_width=[4]), reference=lambda x, **_: x[:, 1:4, 2:6]),
    OpCase("image.extract_patches", [IMAGES], dict(size=[3], strides=[1, 2], padding=["valid", "same"]),
           reference=patches, second=False),
    OpCase("image.extract_patches_3d", [normal(1, 3, 4, 4, 2)], dict(size=[2]), second=False,
           reference=lambda x, size: x[:, :2].reshape(1, 1, 2, 2, 2, 2, 2, 2)
           .transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(1, 1, 2, 2, 16)),
    OpCase("image.rgb_to_grayscale", [IMAGES], tolerance=2,
           reference=lambda x: (x * [0.2989, 0.587, 0.114]).sum(-1, keepdims=True)),
    OpCase("image.rgb_to_hsv", [IMAGES], reference=by_pixel(colorsys.rgb_to_hsv), tolerance=4,
           second=False),
    OpCase("image.hsv_to_rgb", [IMAGES], reference=by_pixel(colorsys.hsv_to_rgb), tolerance=4,
           second=False),
    OpCase("image.gaussian_blur", [IMAGES], dict(kernel_size=[(3, 5)], sigma=[(1.0, 2.0)]),
           reference=blur, tolerance=4, second=False),
    OpCase("image.sobel_edges", [IMAGES], reference=sobel, tolerance=8, second=False),
    OpCase("image.ssim", [values(np.tile(np.linspace(0, 1, 48).reshape(1, 6, 8, 1), (2, 2, 2, 1)))] * 2,
           reference=lambda a, b: np.ones(2), differentiable=False, tolerance=8),
    OpCase("image.affine_transform", [IMAGES], dict(transform=[np.array(IDENTITY)]), second=False,
           reference=lambda x, transform: x, label="identity", tolerance=8, differentiable=False),
    OpCase("image.affine_transform", [IMAGES], dict(transform=[np.array(SHIFT)]), second=False,
           reference=shifted, tolerance=8, dtypes=("float64", "float32", "uint8"), errors=(
               ((np.ones((4, 4, 1)), np.ones(6)), {}, ValueError, "affine_transform: expected a tr"),)),
    OpCase("image.perspective_transform", [IMAGES],
           dict(start_points=[np.array([[1.0, 2], [3, 2], [1, 4], [3, 4]])],
                end_points=[np.array([[0.0, 0], [2, 0], [0, 2], [2, 2]])]),
           reference=lambda x, start_points, end_points: shifted(x, None), tolerance=30,
           dtypes=("float32",), differentiable=False),
    OpCase("image.map_coordinates", [normal(5, 6), uniform(2, 3, 4, low=-4, high=9)],
           dict(order=[0, 1], fill_mode=["constant", "nearest", "wrap", "mirror", "reflect"]),
           reference=sampled, tolerance=10, second=False, differentiable=(0,)),
]  # fmt: skip
