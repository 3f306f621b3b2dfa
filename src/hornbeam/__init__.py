"""hornbeam: Keras 3's public API on a dataflow engine of its own."""

from hornbeam.version import __version__ as __version__  # isort: skip
from hornbeam import ops as ops  # isort: skip  (fills the table of ops that operators use)
from hornbeam import activations as activations
from hornbeam import backend as backend
from hornbeam import callbacks as callbacks
from hornbeam import config as config
from hornbeam import constraints as constraints
from hornbeam import datasets as datasets
from hornbeam import dtype_policies as dtype_policies
from hornbeam import initializers as initializers
from hornbeam import layers as layers
from hornbeam import losses as losses
from hornbeam import metrics as metrics
from hornbeam import mixed_precision as mixed_precision
from hornbeam import models as models
from hornbeam import optimizers as optimizers
from hornbeam import profiler as profiler
from hornbeam import random as random
from hornbeam import regularizers as regularizers
from hornbeam import saving as saving
from hornbeam import tree as tree
from hornbeam import utils as utils
from hornbeam.backend import GradientTape as GradientTape
from hornbeam.backend import KerasTensor as KerasTensor
from hornbeam.backend import Variable as Variable
from hornbeam.backend import custom_gradient as custom_gradient
from hornbeam.backend import device as device
from hornbeam.backend import function as function
from hornbeam.backend import name_scope as name_scope
from hornbeam.backend import remat as remat
from hornbeam.backend import stop_gradient as stop_gradient
from hornbeam.dtype_policies import DTypePolicy as DTypePolicy
from hornbeam.dtype_policies import FloatDTypePolicy as FloatDTypePolicy
from hornbeam.initializers import Initializer as Initializer
from hornbeam.layers import Input as Input
from hornbeam.layers import InputSpec as InputSpec
from hornbeam.layers import Layer as Layer
from hornbeam.layers.operation import Operation as Operation
from hornbeam.losses import Loss as Loss
from hornbeam.metrics import Metric as Metric
from hornbeam.models import Model as Model
from hornbeam.models import Sequential as Sequential
from hornbeam.models.function import Function as Function
from hornbeam.optimizers import Optimizer as Optimizer
from hornbeam.regularizers import Regularizer as Regularizer
from hornbeam.version import version as version
