"""Geometric transforms of images: sampling at computed coordinates."""

from __future__ import annotations

import itertools

import numpy as np

from hornbeam import backend
from hornbeam.backend.registry import op
from hornbeam.ops import convolution, creation, index, joining, linalg, shapes
from hornbeam.ops._common import as_float
from hornbeam.ops.pool import channels_first, channels_last, is_channels_first

OPS = backend.OPS

FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")


def to_batch(name, images, data_format):
    """Images as (n, h, w, c), and what `restored` needs to undo it."""
    x = backend.convert_to_tensor(images)
    if x.ndim not in (3, 4):
        raise ValueError(
            f"{name}: expected an image or a batch of images (rank 3 or 4), got {tuple(x.shape)}"
        )
    single = x.ndim == 3
    x = shapes.expand_dims(x, 0) if single else x
    first = is_channels_first(name, data_format)
    return (channels_last(x) if first else x), (single, first)


def restored(x, layout):
    single, first = layout
    x = channels_first(x) if first else x
    return shapes.squeeze(x, 0) if single else x


# ------------------------------------------------------------------ sampling


def _inside(places, size, fill_mode):
    """Integer places brought into [0, size), and whether they were there ("constant")."""
    zero = creation.zeros((), places.dtype)
    if fill_mode == "constant":
        inside = OPS["logical_and"](OPS["greater_equal"](places, 0), OPS["less"](places, size))
        return OPS["where"](inside, places, zero), inside
    if fill_mode == "nearest":
        return OPS["clip"](places, 0, size - 1), None
    if fill_mode == "wrap":
        return OPS["mod"](places, size), None
    if fill_mode == "reflect":  # d c b a | a b c d | d c b a
        k = OPS["mod"](places, 2 * size)
        return OPS["minimum"](k, 2 * size - 1 - k), None
    if size == 1:
        return places * 0, None
    k = OPS["mod"](places, 2 * size - 2)  # mirror: d c b | a b c d | c b a
    return OPS["minimum"](k, 2 * size - 2 - k), None


def _sample(x, coordinates, order, fill_mode, fill_value):
    """Values of x (*spatial, …rest) at `coordinates`, a list of one tensor per spatial axis.

    order 0: the nearest element, 1: linear interpolation between the neighbours.
    """
    rest = (1,) * (x.ndim - len(coordinates))
    corners = []
    for c in coordinates:
        if order == 0:
            corners.append([(OPS["floor"](c + 0.5), None)])
        else:
            low = OPS["floor"](c)
            share = c - low
            corners.append([(low, 1 - share), (low + 1, share)])
    total = None
    for corner in itertools.product(*corners):
        places, valid, weight = [], None, None
        for (place, share), size in zip(corner, x.shape, strict=False):
            at, inside = _inside(backend.cast(place, "int32"), size, fill_mode)
            places.append(at)
            if inside is not None:
                valid = inside if valid is None else OPS["logical_and"](valid, inside)
            if share is not None:
                weight = share if weight is None else weight * share
        value = index._gather_nd(x, joining.stack(places, axis=-1))
        if valid is not None:
            valid = shapes.reshape(valid, (*valid.shape, *rest))
            value = OPS["where"](valid, value, backend.convert_to_tensor(fill_value, value.dtype))
        if weight is not None:
            value = value * shapes.reshape(
                backend.cast(weight, value.dtype), (*weight.shape, *rest)
            )
        total = value if total is None else total + value
    return total


def _order(name, interpolation):
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(
            f"{name}: expected interpolation 'nearest' or 'bilinear', got {interpolation!r}"
        )
    return 0 if interpolation == "nearest" else 1


def _fill_mode(name, fill_mode):
    if fill_mode not in FILL_MODES:
        raise ValueError(f"{name}: expected fill_mode among {FILL_MODES}, got {fill_mode!r}")


def _sample_images(x, rows, columns, order, fill_mode, fill_value):
    """Images x (n, h, w, c) at coordinates rows, columns (n, h', w')."""
    dtype = x.dtype
    x = as_float(x)
    n, h, w, c = x.shape
    batch = shapes.reshape(creation.iota(n), (n, 1, 1))
    total = None
    low_r = OPS["floor"](rows + 0.5) if order == 0 else OPS["floor"](rows)
    low_c = OPS["floor"](columns + 0.5) if order == 0 else OPS["floor"](columns)
    for i, j in itertools.product(range(order + 1), repeat=2):
        r, inside_r = _inside(backend.cast(low_r + i, "int32"), h, fill_mode)
        q, inside_c = _inside(backend.cast(low_c + j, "int32"), w, fill_mode)
        value = index._gather(shapes.reshape(x, (n * h * w, c)), (batch * h + r) * w + q, axis=0)
        if inside_r is not None:
            valid = shapes.expand_dims(OPS["logical_and"](inside_r, inside_c), -1)
            value = OPS["where"](valid, value, backend.convert_to_tensor(fill_value, value.dtype))
        if order:
            share_r, share_c = rows - low_r, columns - low_c
            share_r = share_r if i else 1 - share_r
            share_c = share_c if j else 1 - share_c
            value = value * shapes.expand_dims(backend.cast(share_r * share_c, value.dtype), -1)
        total = value if total is None else total + value
    total = OPS["round"](total) if backend.dtypes.is_int(dtype) else total
    return backend.cast(total, dtype)


def _grid(n, h, w):
    """Row and column numbers of all pixels, (1, h, w)."""
    rows = shapes.reshape(creation.iota(h, "float32", 0.0, 1.0), (1, h, 1))
    columns = shapes.reshape(creation.iota(w, "float32", 0.0, 1.0), (1, 1, w))
    return shapes.broadcast_to(rows, (n, h, w)), shapes.broadcast_to(columns, (n, h, w))


# ------------------------------------------------------------------ public


@op(inputs=("inputs", "coordinates"))
def map_coordinates(inputs, coordinates, order, fill_mode="constant", fill_value=0):
    """Values of `inputs` at coordinates between its elements, as `scipy.ndimage.map_coordinates`.

    Args:
        coordinates: (rank of inputs, …): one tensor of coordinates for each axis.
        order: 0 (nearest) or 1 (linear).
        fill_mode: what lies outside: "constant" (`fill_value`), "nearest", "wrap", "mirror" or
            "reflect".

    Returns:
        Tensor of the shape of one set of coordinates.
    """
    x = backend.convert_to_tensor(inputs)
    coordinates = as_float(coordinates)
    if coordinates.shape[0] != x.ndim:
        raise ValueError(
            f"map_coordinates: expected coordinates ({x.ndim}, …), got {tuple(coordinates.shape)}"
        )
    if order not in (0, 1):
        raise ValueError(f"map_coordinates: expected order 0 or 1, got {order}")
    _fill_mode("map_coordinates", fill_mode)
    dtype = x.dtype
    wide = as_float(x)
    y = _sample(wide, joining.unstack(coordinates, axis=0), order, fill_mode, fill_value)
    y = OPS["round"](y) if backend.dtypes.is_int(dtype) else y
    return backend.cast(y, dtype)


@op(inputs=("images", "transform"))
def affine_transform(
    images, transform, interpolation="bilinear", fill_mode="constant", fill_value=0,
    data_format=None,
):  # fmt: skip
    """Images moved by projective maps of the plane.

    Args:
        transform: (8,) or (batch, 8): output (x, y) shows the input at
            ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k) with k = c0 x + c1 y + 1, for
            [a0, a1, a2, b0, b1, b2, c0, c1]; x counts columns.
        interpolation: "nearest" or "bilinear".
        fill_mode: "constant", "nearest", "wrap", "mirror" or "reflect".
    """
    name = "affine_transform"
    order = _order(name, interpolation)
    _fill_mode(name, fill_mode)
    x, layout = to_batch(name, images, data_format)
    n, h, w, _ = x.shape
    t = backend.cast(backend.convert_to_tensor(transform), "float32")
    t = shapes.expand_dims(t, 0) if t.ndim == 1 else t
    if t.ndim != 2 or t.shape[1] != 8 or t.shape[0] not in (1, n):
        raise ValueError(f"{name}: expected a transform (8,) or ({n}, 8), got {tuple(t.shape)}")
    t = shapes.reshape(t, (t.shape[0], 8, 1, 1))
    a0, a1, a2, b0, b1, b2, c0, c1 = (t[:, i] for i in range(8))
    rows, columns = _grid(n, h, w)
    k = c0 * columns + c1 * rows + 1
    at_columns = (a0 * columns + a1 * rows + a2) / k
    at_rows = (b0 * columns + b1 * rows + b2) / k
    y = _sample_images(x, at_rows, at_columns, order, fill_mode, fill_value)
    return restored(y, layout)


def _perspective_matrix(start, end):
    """The 8 numbers of the map that takes each of four `end` points to its `start` point."""
    ones, zeros = creation.ones_like(end[..., 0]), creation.zeros_like(end[..., 0])
    x, y, u, v = end[..., 0], end[..., 1], start[..., 0], start[..., 1]
    first = joining.stack([x, y, ones, zeros, zeros, zeros, -u * x, -u * y], axis=-1)
    second = joining.stack([zeros, zeros, zeros, x, y, ones, -v * x, -v * y], axis=-1)
    matrix = joining.concatenate([first, second], axis=-2)
    return linalg.solve(matrix, joining.concatenate([u, v], axis=-1))


@op(inputs=("images", "start_points", "end_points"))
def perspective_transform(
    images, start_points, end_points, interpolation="bilinear", fill_value=0, data_format=None
):
    """Images moved so that four `start_points` come to lie at `end_points`.

    Args:
        start_points, end_points: (4, 2) or (batch, 4, 2): (x, y) of the corners.
    """
    name = "perspective_transform"
    start, end = (
        backend.cast(backend.convert_to_tensor(p), "float32") for p in (start_points, end_points)
    )
    if tuple(start.shape[-2:]) != (4, 2) or tuple(end.shape) != tuple(start.shape):
        raise ValueError(
            f"{name}: expected points (4, 2) or (batch, 4, 2) twice, got {tuple(start.shape)} and "
            f"{tuple(end.shape)}"
        )
    transform = _perspective_matrix(start, end)
    _order(name, interpolation)
    return affine_transform(
        images, transform, interpolation=interpolation, fill_mode="constant",
        fill_value=fill_value, data_format=data_format,
    )  # fmt: skip


@op(inputs=("images",))
def elastic_transform(
    images, alpha=20.0, sigma=5.0, interpolation="bilinear", fill_mode="reflect", fill_value=0.0,
    seed=None, data_format=None,
):  # fmt: skip
    """Images distorted by smooth random displacements (Simard et al., 2003).

    Args:
        alpha: size of the displacements, in pixels before smoothing.
        sigma: deviation of the Gaussian that smooths them.
        seed: an int, a `hornbeam.random.SeedGenerator`, or None.
    """
    name = "elastic_transform"
    order = _order(name, interpolation)
    _fill_mode(name, fill_mode)
    x, layout = to_batch(name, images, data_format)
    n, h, w, _ = x.shape
    from hornbeam import random  # itself made of ops

    noise = random.normal((n, h, w, 2), dtype="float32", seed=seed)
    size = max(3, 2 * int(4 * sigma + 0.5) + 1)
    places = np.arange(size) - (size - 1) / 2
    g = np.exp(-0.5 * (places / sigma) ** 2)
    g = g / g.sum()

    for kernel_shape in ((size, 1, 1, 1), (1, size, 1, 1)):
        kernel = np.tile(g.reshape(kernel_shape), (1, 1, 2, 1)).astype("float32")
        noise = convolution.depthwise_conv(
            noise, kernel, padding="same", data_format="channels_last"
        )
    shift = noise * alpha
    rows, columns = _grid(n, h, w)
    y = _sample_images(
        x, rows + shift[..., 0], columns + shift[..., 1], order, fill_mode, fill_value
    )
    return restored(y, layout)
