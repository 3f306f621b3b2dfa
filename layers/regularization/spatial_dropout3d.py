"""SpatialDropout3D."""

from hornbeam.layers.arguments import standardize_data_format
from hornbeam.layers.input_spec import InputSpec
from hornbeam.layers.regularization.dropout import Dropout


class SpatialDropout3D(Dropout):
    """Dropout of whole channels of `(batch, depth, height, width, channels)` (Tompson et al.).

    Args:
        rate: share of channels that become zero, in [0, 1].
        data_format: where the channels are; the global setting when None.
        seed: seed.
    """

    def __init__(self, rate, data_format=None, seed=None, name=None, dtype=None, **kwargs):
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=5)

    _config_omit = (*Dropout._config_omit, "noise_shape")

    def _noise_shape(self, inputs):
        shape = inputs.shape
        if self.data_format == "channels_first":
            return (shape[0], shape[1], 1, 1, 1)
        return (shape[0], 1, 1, 1, shape[-1])

    def get_config(self):
        config = super().get_config()
        del config["trainable"]  # not an argument in Keras
        return config
