"""The engine: tensors, variables, the graph, differentiation, compiled functions."""

from hornbeam.backend import dtypes as dtypes
from hornbeam.backend import registry as registry
from hornbeam.backend import symbolic as symbolic
from hornbeam.backend import tree as tree
from hornbeam.backend.autodiff import GradientTape as GradientTape
from hornbeam.backend.autodiff import custom_gradient as custom_gradient
from hornbeam.backend.autodiff import remat as remat
from hornbeam.backend.devices import device as device
from hornbeam.backend.devices import list_devices as list_devices
from hornbeam.backend.devices import memory_stats as memory_stats
from hornbeam.backend.dtypes import epsilon as epsilon
from hornbeam.backend.dtypes import floatx as floatx
from hornbeam.backend.dtypes import image_data_format as image_data_format
from hornbeam.backend.dtypes import result_type as result_type
from hornbeam.backend.dtypes import set_epsilon as set_epsilon
from hornbeam.backend.dtypes import set_floatx as set_floatx
from hornbeam.backend.dtypes import set_image_data_format as set_image_data_format
from hornbeam.backend.dtypes import standardize_dtype as standardize_dtype
from hornbeam.backend.executor import ExecutionError as ExecutionError
from hornbeam.backend.graph import Graph as Graph
from hornbeam.backend.graph import Value as Value
from hornbeam.backend.graph import convert_to_tensor as convert_to_tensor
from hornbeam.backend.graph import is_tracing as is_tracing
from hornbeam.backend.registry import Spec as Spec
from hornbeam.backend.registry import stop_gradient as stop_gradient
from hornbeam.backend.scope import name_scope as name_scope
from hornbeam.backend.symbolic import KerasTensor as KerasTensor
from hornbeam.backend.tensor import OPS as OPS
from hornbeam.backend.tensor import Tensor as Tensor
from hornbeam.backend.tensor import from_dlpack as from_dlpack
from hornbeam.backend.trace import Concrete as Concrete
from hornbeam.backend.trace import Function as Function
from hornbeam.backend.trace import function as function
from hornbeam.backend.variable import Variable as Variable
from hornbeam.backend.variable import standardize_shape as standardize_shape


def cast(x, dtype):
    """`x` converted to `dtype`."""
    return OPS["cast"](x, dtype)


def is_tensor(x) -> bool:
    """Whether `x` is a hornbeam tensor (concrete or symbolic)."""
    return isinstance(x, (Tensor, Value, KerasTensor))


def convert_to_numpy(x):
    """`x` as a NumPy array of its own (bfloat16 as float32, unless ml_dtypes is loaded)."""
    import numpy as np

    if isinstance(x, (list, tuple)):
        x = convert_to_tensor(x)
    return x.numpy() if isinstance(x, (Tensor, Variable)) else np.array(x)
