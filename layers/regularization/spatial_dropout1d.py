"""SpatialDropout1D."""

from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.regularization.dropout import Dropout


class SpatialDropout1D(Dropout):
    """Dropout of whole channels of `(batch, time, channels)` (Tompson et al., 2014).

    Args:
        rate: share of channels that become zero, in [0, 1].
        seed: seed.
    """

    def __init__(self, rate, seed=None, name=None, dtype=None, **kwargs):
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)
        self.input_spec = InputSpec(ndim=3)

    _config_omit = (*Dropout._config_omit, "noise_shape")

    def _noise_shape(self, inputs):
        return (inputs.shape[0], 1, inputs.shape[2])

    def get_config(self):
        config = super().get_config()
        del config["trainable"]  # not an argument in Keras
        return config
