"""Images: resizing, cropping, padding, colours, patches, filters; (batch,) height, width, channels.

A single image (rank 3) is taken as a batch of one. Geometric transforms are in image_transform.py.
"""

from __future__ import annotations

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import op
from hornbeam.ops import convolution, creation, index, joining, products, shapes
from hornbeam.ops._common import as_float
from hornbeam.ops.image_transform import affine_transform as affine_transform
from hornbeam.ops.image_transform import elastic_transform as elastic_transform
from hornbeam.ops.image_transform import map_coordinates as map_coordinates
from hornbeam.ops.image_transform import perspective_transform as perspective_transform
from hornbeam.ops.image_transform import restored, to_batch
from hornbeam.ops.pool import is_channels_first, per_dimension, window_padding

OPS = backend.OPS


# ------------------------------------------------------------------ resampling


def _triangle(x):
    return OPS["maximum"](1 - OPS["absolute"](x), 0)


def _cubic(x):
    # Keys, 1981, with a = -1/2
    x = OPS["absolute"](x)
    near = ((1.5 * x - 2.5) * x) * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return OPS["where"](x < 1, near, OPS["where"](x < 2, far, creation.zeros((), x.dtype)))


def _lanczos(radius):
    def kernel(x):
        y = OPS["sinc"](x) * OPS["sinc"](x / radius)
        return OPS["where"](OPS["absolute"](x) < radius, y, creation.zeros((), x.dtype))

    return kernel


_KERNELS = {
    "linear": _triangle,
    "bilinear": _triangle,
    "trilinear": _triangle,
    "triangle": _triangle,
    "cubic": _cubic,
    "bicubic": _cubic,
    "tricubic": _cubic,
    "lanczos3": _lanczos(3),
    "lanczos5": _lanczos(5),
}


def _weights(size, out, scale, translation, kernel, antialias):
    """[size, out]: the share of every input in every output along one axis.

    Output i lies at (i + 1/2 - translation) / scale - 1/2 in the input. Shares are normalised;
    outputs outside of the input get none.
    """
    inverse = 1.0 / scale
    width = max(inverse, 1.0) if antialias else 1.0
    place = creation.iota(out, "float64", (0.5 - translation) * inverse - 0.5, inverse)
    inputs = shapes.reshape(creation.iota(size, "float64", 0.0, 1.0), (size, 1))
    w = kernel((place - inputs) / width)
    total = OPS["sum"](w, axis=0, keepdims=True)
    small = OPS["absolute"](total) <= 1e-6
    one, zero = creation.ones((), "float64"), creation.zeros((), "float64")
    inside = OPS["logical_and"](place >= -0.5, place <= size - 0.5)
    return OPS["where"](
        OPS["logical_and"](inside, OPS["logical_not"](small)),
        w / OPS["where"](small, one, total),
        zero,
    )


def _along_axis(x, w, axis):
    """x with `axis` replaced by its product with the matrix w [size, out]."""
    y = products._contract(x, backend.cast(w, x.dtype), (axis,), (0,))
    return shapes.moveaxis(y, -1, axis)


def _resize_batch(x, size, interpolation, antialias):
    """x (n, h, w, c) → (n, *size, c)."""
    dtype = x.dtype
    if interpolation == "nearest":
        for axis, out in ((1, size[0]), (2, size[1])):
            n = x.shape[axis]
            if n != out:
                places = np.floor((np.arange(out) + 0.5) * n / out).astype("int32")
                x = index._gather(x, backend.convert_to_tensor(places), axis=axis)
        return x
    x = as_float(x)
    for axis, out in ((1, size[0]), (2, size[1])):
        n = x.shape[axis]
        if n != out:
            kernel = _KERNELS[interpolation]
            x = _along_axis(x, _weights(n, out, out / n, 0.0, kernel, antialias), axis)
    if dtype == x.dtype or not backend.dtypes.is_int(dtype):
        return x
    return OPS["saturate_cast"](OPS["round"](x), dtype)


@op(inputs=("images",))
def resize(
    images,
    size,
    interpolation="bilinear",
    antialias=False,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    fill_mode="constant",
    fill_value=0.0,
    data_format=None,
):
    """Images resampled to `size` = (height, width).

    Args:
        interpolation: "nearest", "bilinear", "bicubic", "lanczos3" or "lanczos5". Pixels are areas:
            output i is taken at (i + 1/2) * n / out - 1/2.
        antialias: widen the filter where the image shrinks.
        crop_to_aspect_ratio: cut the middle of the aspect ratio of `size` out first.
        pad_to_aspect_ratio: fill up to that aspect ratio first, with `fill_value`.
    """
    if interpolation != "nearest" and interpolation not in _KERNELS:
        known = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
        raise ValueError(f"resize: expected interpolation among {known}, got {interpolation!r}")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("resize: expected either crop_to_aspect_ratio or pad_to_aspect_ratio")
    if fill_mode != "constant":
        raise ValueError(f"resize: expected fill_mode 'constant', got {fill_mode!r}")
    size = shapes.static_ints("resize", size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"resize: expected size = (height, width), got {size}")
    x, layout = to_batch("resize", images, data_format)
    h, w = x.shape[1:3]
    if crop_to_aspect_ratio:
        ch, cw = min(h, int(w * size[0] / size[1])), min(w, int(h * size[1] / size[0]))
        ch, cw = max(ch, 1), max(cw, 1)
        begin = (0, (h - ch) // 2, (w - cw) // 2, 0)
        x = shapes.strided_slice(x, begin, (x.shape[0], ch, cw, x.shape[3]), (1,) * 4)
    elif pad_to_aspect_ratio:
        ph, pw = max(h, int(w * size[0] / size[1])), max(w, int(h * size[1] / size[0]))
        top, left = (ph - h) // 2, (pw - w) // 2
        widths = ((0, 0), (top, ph - h - top), (left, pw - w - left), (0, 0))
        x = joining.pad(x, widths, constant_values=fill_value)
    return restored(_resize_batch(x, size, interpolation, antialias), layout)


@op(inputs=("images",))
def scale_and_translate(
    images, output_shape, scale, translation, spatial_dims, method, antialias=True
):
    """Images scaled and moved along some axes: output = scale * input + translation.

    Args:
        output_shape: full shape of the result.
        scale, translation: one number for each of `spatial_dims`.
        method: "linear", "cubic", "lanczos3" or "lanczos5" (and the names of 2D and 3D).
    """
    x = as_float(images)
    if method not in _KERNELS:
        raise ValueError(f"scale_and_translate: expected method among {sorted(_KERNELS)}")
    scale = np.asarray(backend.convert_to_numpy(scale), "float64").reshape(-1)
    translation = np.asarray(backend.convert_to_numpy(translation), "float64").reshape(-1)
    for axis, s, t in zip(spatial_dims, scale, translation, strict=True):
        n, out = x.shape[axis], int(output_shape[axis])
        w = _weights(n, out, float(s), float(t), _KERNELS[method], antialias)
        x = _along_axis(x, w, axis % x.ndim)
    return x


# ------------------------------------------------------------------ frames


@op(inputs=("images",))
def pad_images(
    images,
    top_padding=None,
    left_padding=None,
    bottom_padding=None,
    right_padding=None,
    target_height=None,
    target_width=None,
    data_format=None,
):
    """Zeros around images; of (top, bottom, target_height) two are given, likewise for the width."""
    x, layout = to_batch("pad_images", images, data_format)
    h, w = x.shape[1:3]
    top, bottom = _margins("pad_images", top_padding, bottom_padding, target_height, h, -1)
    left, right = _margins("pad_images", left_padding, right_padding, target_width, w, -1)
    return restored(joining.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))), layout)


@op(inputs=("images",))
def crop_images(
    images,
    top_cropping=None,
    left_cropping=None,
    bottom_cropping=None,
    right_cropping=None,
    target_height=None,
    target_width=None,
    data_format=None,
):
    """Images cut; of (top, bottom, target_height) two are given, likewise for the width."""
    x, layout = to_batch("crop_images", images, data_format)
    n, h, w, c = x.shape
    top, bottom = _margins("crop_images", top_cropping, bottom_cropping, target_height, h, 1)
    left, right = _margins("crop_images", left_cropping, right_cropping, target_width, w, 1)
    size = (n, h - top - bottom, w - left - right, c)
    return restored(shapes.strided_slice(x, (0, top, left, 0), size, (1,) * 4), layout)


def _margins(name, before, after, target, size, sign):
    """Both margins, from two of (before, after, target size). sign: 1 to cut, -1 to add."""
    if [before, after, target].count(None) != 1:
        raise ValueError(
            f"{name}: expected exactly two of the margins before and after and the target size, "
            f"got {before}, {after} and {target}"
        )
    if before is None:
        before = sign * (size - target) - after
    elif after is None:
        after = sign * (size - target) - before
    if before < 0 or after < 0 or (sign > 0 and before + after >= size):
        raise ValueError(
            f"{name}: expected margins >= 0 that leave something of {size} pixels, "
            f"got {before} and {after}"
        )
    return int(before), int(after)


# ------------------------------------------------------------------ patches


def _patches(name, x, size, strides, dilation_rate, padding):
    """x (n, *spatial, c) → (n, *out, taps * c)."""
    dims = x.ndim - 2
    size = per_dimension(name, "size", size, dims)
    strides = size if strides is None else per_dimension(name, "strides", strides, dims)
    dilation = per_dimension(name, "dilation_rate", dilation_rate, dims)
    reach = tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))
    pads, out = window_padding(name, padding, x.shape[1:-1], reach, strides)
    x = joining.pad(x, ((0, 0), *zip(pads[::2], pads[1::2], strict=True), (0, 0)))
    for i in range(dims):  # axis 1 + 2 i becomes (output, tap)
        places = np.arange(out[i])[:, None] * strides[i] + np.arange(size[i])[None, :] * dilation[i]
        x = index._gather(x, backend.convert_to_tensor(places, "int32"), axis=1 + 2 * i)
    order = [0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    return shapes.reshape(shapes.transpose(x, tuple(order)), (x.shape[0], *out, -1))


@op(inputs=("images",))
def extract_patches(images, size, strides=None, dilation_rate=1, padding="valid", data_format=None):
    """Patches of images, each flattened into channels.

    Shapes: (batch, h, w, c) → (batch, rows, columns, patch height * patch width * c).
    """
    x, layout = to_batch("extract_patches", images, data_format)
    return restored(_patches("extract_patches", x, size, strides, dilation_rate, padding), layout)


@op(inputs=("volumes",))
def extract_patches_3d(
    volumes, size, strides=None, dilation_rate=1, padding="valid", data_format=None
):
    """Patches of volumes, each flattened into channels.

    Shapes: (batch, d, h, w, c) → (batch, planes, rows, columns, volume of a patch * c).
    """
    x = backend.convert_to_tensor(volumes)
    single = x.ndim == 4
    x = shapes.expand_dims(x, 0) if single else x
    first = is_channels_first("extract_patches_3d", data_format)
    x = shapes.moveaxis(x, 1, -1) if first else x
    y = _patches("extract_patches_3d", x, size, strides, dilation_rate, padding)
    y = shapes.moveaxis(y, -1, 1) if first else y
    return shapes.squeeze(y, 0) if single else y


# ------------------------------------------------------------------ colours


def _channel_axis(name, x, data_format):
    axis = -3 if is_channels_first(name, data_format) else -1
    if x.ndim not in (3, 4) or x.shape[axis] != 3:
        raise ValueError(f"{name}: expected images with 3 channels, got {tuple(x.shape)}")
    return axis % x.ndim


@op(inputs=("images",))
def rgb_to_grayscale(images, data_format=None):
    """Luma 0.2989 R + 0.587 G + 0.114 B (ITU-R BT.601), as one channel."""
    x = backend.convert_to_tensor(images)
    axis = _channel_axis("rgb_to_grayscale", x, data_format)
    weights = np.array([0.2989, 0.5870, 0.1140]).reshape(
        [3 if i == axis else 1 for i in range(x.ndim)]
    )
    wide = as_float(x)
    y = OPS["sum"](wide * backend.convert_to_tensor(weights, wide.dtype), axis=axis, keepdims=True)
    return backend.cast(y, x.dtype)


@op(inputs=("images",))
def rgb_to_hsv(images, data_format=None):
    """Hue, saturation and value in [0, 1] of red, green and blue in [0, 1]."""
    x = as_float(images)
    axis = _channel_axis("rgb_to_hsv", x, data_format)
    r, g, b = joining.unstack(x, axis=axis)
    value = OPS["maximum"](OPS["maximum"](r, g), b)
    span = value - OPS["minimum"](OPS["minimum"](r, g), b)
    flat = OPS["equal"](span, 0)
    zero = creation.zeros((), x.dtype)
    safe = OPS["where"](flat, creation.ones((), x.dtype), span)
    red, green = OPS["equal"](value, r), OPS["equal"](value, g)
    hue = OPS["where"](green, (b - r) / safe + 2, (r - g) / safe + 4)
    hue = OPS["where"](red, (g - b) / safe, hue) / 6
    hue = OPS["where"](OPS["less"](hue, 0), hue + 1, hue)
    dark = OPS["equal"](value, 0)
    saturation = span / OPS["where"](dark, creation.ones((), x.dtype), value)
    hue, saturation = OPS["where"](flat, zero, hue), OPS["where"](dark, zero, saturation)
    return joining.stack([hue, saturation, value], axis=axis)


@op(inputs=("images",))
def hsv_to_rgb(images, data_format=None):
    """Red, green and blue in [0, 1] of hue, saturation and value in [0, 1]."""
    x = as_float(images)
    axis = _channel_axis("hsv_to_rgb", x, data_format)
    hue, saturation, value = joining.unstack(x, axis=axis)
    out = []
    for offset in (5, 3, 1):
        k = OPS["mod"](hue * 6 + offset, 6)
        ramp = OPS["clip"](OPS["minimum"](k, 4 - k), 0, 1)
        out.append(value - value * saturation * ramp)
    return joining.stack(out, axis=axis)


# ------------------------------------------------------------------ filters


def _filtered(x, w, padding="same"):
    """Every channel of x (n, h, w, c) convolved with the matrix w (kh, kw)."""
    c = x.shape[-1]
    w = np.tile(w[:, :, None, None], (1, 1, c, 1))
    return convolution.depthwise_conv(
        x, backend.convert_to_tensor(w, x.dtype), padding=padding, data_format="channels_last"
    )


def _gaussian(size, sigma):
    places = np.arange(size) - (size - 1) / 2
    w = np.exp(-0.5 * (places / sigma) ** 2)
    return w / w.sum()


@op(inputs=("images",))
def gaussian_blur(images, kernel_size=(3, 3), sigma=(1.0, 1.0), data_format=None):
    """Images smoothed with a Gaussian of deviations `sigma` (height, width), zeros outside."""
    x, layout = to_batch("gaussian_blur", images, data_format)
    x = as_float(x)
    sigma = np.broadcast_to(np.asarray(sigma, "float64"), (2,))
    kernel_size = np.broadcast_to(np.asarray(kernel_size), (2,))
    w = np.outer(_gaussian(int(kernel_size[0]), sigma[0]), _gaussian(int(kernel_size[1]), sigma[1]))
    return restored(_filtered(x, w), layout)


@op(inputs=("images",))
def sobel_edges(images, data_format=None):
    """Sobel's derivatives along height and width, in a new last axis of size 2."""
    x, layout = to_batch("sobel_edges", images, data_format)
    x = as_float(x)
    down = np.array([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]])
    padded = joining.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    edges = [restored(_filtered(padded, w, "valid"), layout) for w in (down, down.T)]
    return joining.stack(edges, axis=-1)


@op(inputs=("image1", "image2"))
def ssim(
    image1, image2, max_val=1.0, filter_size=11, filter_sigma=1.5, k1=0.01, k2=0.03,
    data_format=None,
):  # fmt: skip
    """Structural similarity of each pair of images (Wang et al., 2004), 1 for equal ones."""
    a, layout = to_batch("ssim", image1, data_format)
    b, _ = to_batch("ssim", image2, data_format)
    a, b = as_float(a), as_float(b)
    g = _gaussian(filter_size, filter_sigma)
    w = np.outer(g, g)
    mean_a, mean_b = _filtered(a, w, "valid"), _filtered(b, w, "valid")
    var_a = _filtered(a * a, w, "valid") - mean_a * mean_a
    var_b = _filtered(b * b, w, "valid") - mean_b * mean_b
    both = _filtered(a * b, w, "valid") - mean_a * mean_b
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    similar = similar / ((mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2))
    y = OPS["mean"](similar, axis=(1, 2, 3))
    return shapes.squeeze(y, 0) if layout[0] else y
