"""Which dtypes a layer computes in and keeps its variables in (`keras.dtype_policies`)."""

from __future__ import annotations

import re

from hornbeam import backend
from hornbeam.saving import object_registration, serialization_lib

_MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


class DTypePolicy:
    """A compute dtype and a variable dtype.

    Args:
        name: a dtype (both are it), `"mixed_float16"` or `"mixed_bfloat16"` (compute in 16 bits,
            variables in float32); the global policy when None.

    Raises:
        ValueError: an unknown name.

    Example:

    >>> import hornbeam as keras
    >>> keras.DTypePolicy("mixed_bfloat16").compute_dtype
    'bfloat16'
    """

    def __init__(self, name=None):
        if name is None:
            name = dtype_policy().name
        if not isinstance(name, str):
            raise TypeError(
                f"DTypePolicy: `name` must be a string such as 'mixed_float16'; got {name!r} of "
                f"type {type(name).__name__}"
            )
        self._name = name
        if name in _MIXED:
            self._compute_dtype, self._variable_dtype = _MIXED[name], "float32"
        else:
            try:
                self._compute_dtype = self._variable_dtype = backend.standardize_dtype(name)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"DTypePolicy: unknown policy; expected a dtype, 'mixed_float16' or "
                    f"'mixed_bfloat16', got {name!r}"
                ) from error

    @property
    def name(self):
        return self._name

    @property
    def compute_dtype(self):
        """dtype of a layer's inputs, computations and outputs."""
        return self._compute_dtype

    @property
    def variable_dtype(self):
        """dtype of a layer's variables."""
        return self._variable_dtype

    @property
    def quantization_mode(self):
        return None

    def convert_input(self, x, autocast, dtype):
        """`x` as a tensor; floating point values in `dtype` if `autocast`; other leaves unchanged."""  # noqa: E501
        if not backend.is_tensor(x) and not isinstance(x, backend.KerasTensor):
            if not hasattr(x, "__array__"):
                return x
            x = backend.convert_to_tensor(x)
        if autocast and x.dtype != dtype and _both_float(x.dtype, dtype):
            return backend.cast(x, dtype)
        return x

    def get_config(self):
        return {"name": self._name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(self._name)

    def __repr__(self):
        return f'<DTypePolicy "{self._name}">'


class QuantizedDTypePolicy(DTypePolicy):
    """Computes as another policy does, with large weights as integers.

    Args:
        mode: `"int8"`.
        source_name: name of the policy for all the rest; the global one when None.

    Raises:
        ValueError: another mode, or computation in float16, whose range products of int8 exceed.
    """

    def __init__(self, mode, source_name=None):
        source = DTypePolicy(source_name)
        self._compute_dtype, self._variable_dtype = source.compute_dtype, source.variable_dtype
        if mode != "int8":
            raise ValueError(f"QuantizedDTypePolicy: expected the mode 'int8', got {mode!r}")
        if self._compute_dtype == "float16":
            raise ValueError(
                "QuantizedDTypePolicy: sums of int8 products exceed the range of float16; expected "
                f"a source such as 'float32' or 'mixed_bfloat16', got {source.name!r}"
            )
        self._mode, self._source_name = mode, source.name
        self._name = f"{mode}_from_{source.name}"

    @property
    def source_name(self):
        return self._source_name

    @property
    def quantization_mode(self):
        return self._mode

    def get_config(self):
        return {"mode": self._mode, "source_name": self._source_name}


class FloatDTypePolicy(DTypePolicy):
    """The older name of `DTypePolicy`."""


class DTypePolicyMap(DTypePolicy):
    """Policies by layer path; keys are exact paths or regular expressions.

    Args:
        default_policy: policy of the paths without an entry; the global one when None.
        policy_map: dictionary from path to policy.
    """

    def __init__(self, default_policy=None, policy_map=None):
        if isinstance(default_policy, DTypePolicyMap):
            raise ValueError("DTypePolicyMap: `default_policy` cannot be a DTypePolicyMap")
        if policy_map is not None and not isinstance(policy_map, dict):
            raise TypeError(
                f"DTypePolicyMap: `policy_map` must be a dict, got {type(policy_map).__name__}"
            )
        self._default = None if default_policy is None else get(default_policy)
        self._map = {key: get(value) for key, value in (policy_map or {}).items()}

    @property
    def default_policy(self):
        return get(self._default)

    @property
    def name(self):
        return "map_" + self.default_policy.name

    @property
    def compute_dtype(self):
        return self.default_policy.compute_dtype

    @property
    def variable_dtype(self):
        return self.default_policy.variable_dtype

    @property
    def quantization_mode(self):
        return self.default_policy.quantization_mode

    def with_entry(self, path, policy):
        """A copy in which `path` has this policy."""
        return DTypePolicyMap(self._default, {**self._map, path: policy})

    def __getitem__(self, path):
        if path in self._map:
            return self._map[path]
        matches = [key for key in self._map if re.fullmatch(key, path)]
        if len(matches) > 1:
            raise ValueError(
                f"DTypePolicyMap: path '{path}' matches more than one entry: {matches}"
            )
        return self._map[matches[0]] if matches else self.default_policy

    def __setitem__(self, path, policy):
        if path in self._map:
            raise ValueError(f"DTypePolicyMap: '{path}' already has the policy {self._map[path]}")
        self._map[path] = get(policy)

    def __delitem__(self, path):
        del self._map[path]

    def __contains__(self, path):
        return path in self._map

    def __len__(self):
        return len(self._map)

    def __iter__(self):
        return iter(self._map)

    def get_config(self):
        return {"default_policy": self._default, "policy_map": self._map}

    @classmethod
    def from_config(cls, config):
        return cls(**serialization_lib.deserialize_keras_object(config))

    def __hash__(self):
        return id(self)

    def __repr__(self):
        return f"<DTypePolicyMap default={self.default_policy.name} {self._map}>"


def _both_float(a, b):
    return backend.dtypes.is_float(a) and backend.dtypes.is_float(b)


_global_policy = None


def dtype_policy():
    """The global policy, which layers take that are given no `dtype`; initially `floatx()`."""
    if _global_policy is None:
        return DTypePolicy(backend.floatx())
    return _global_policy


def set_dtype_policy(policy):
    """Set the global policy.

    Args:
        policy: a `DTypePolicy` or its name.

    Example:

    >>> import hornbeam as keras
    >>> keras.config.set_dtype_policy("mixed_bfloat16")
    >>> keras.layers.Dense(1).compute_dtype
    'bfloat16'
    >>> keras.config.set_dtype_policy("float32")
    """
    global _global_policy
    _global_policy = None if policy is None else get(policy)


def serialize(dtype_policy):
    """Plain data that describes a policy."""
    return serialization_lib.serialize_keras_object(dtype_policy)


def deserialize(config, custom_objects=None):
    """The policy that `serialize` described."""
    return serialization_lib.deserialize_keras_object(config, custom_objects=custom_objects)


def get(identifier):
    """A policy from a policy, its name, its config, a dtype, or None (the global policy).

    Raises:
        ValueError: none of these.
    """
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        mode, from_, source = identifier.partition("_from_")
        return QuantizedDTypePolicy(mode, source) if from_ else DTypePolicy(identifier)
    try:
        return DTypePolicy(backend.standardize_dtype(identifier))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"dtype policy: expected a policy, a name or a dtype, got {identifier!r}"
        ) from error


object_registration.register_builtin(DTypePolicy, "keras")
object_registration.register_namespace("keras.dtype_policies", globals(), DTypePolicy)
