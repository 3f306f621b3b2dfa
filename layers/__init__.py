"""Layers (`keras.layers`)."""

from hornbeam.layers.activations.activation import Activation as Activation
from hornbeam.layers.activations.elu import ELU as ELU
from hornbeam.layers.activations.leaky_relu import LeakyReLU as LeakyReLU
from hornbeam.layers.activations.prelu import PReLU as PReLU
from hornbeam.layers.activations.relu import ReLU as ReLU
from hornbeam.layers.activations.softmax import Softmax as Softmax
from hornbeam.layers.attention.additive_attention import AdditiveAttention as AdditiveAttention
from hornbeam.layers.attention.attention import Attention as Attention
from hornbeam.layers.attention.group_query_attention import (
    GroupQueryAttention as GroupQueryAttention,
)
from hornbeam.layers.attention.multi_head_attention import MultiHeadAttention as MultiHeadAttention
from hornbeam.layers.convolutional.conv1d import Conv1D as Conv1D
from hornbeam.layers.convolutional.conv1d_transpose import Conv1DTranspose as Conv1DTranspose
from hornbeam.layers.convolutional.conv2d import Conv2D as Conv2D
from hornbeam.layers.convolutional.conv2d_transpose import Conv2DTranspose as Conv2DTranspose
from hornbeam.layers.convolutional.conv3d import Conv3D as Conv3D
from hornbeam.layers.convolutional.conv3d_transpose import Conv3DTranspose as Conv3DTranspose
from hornbeam.layers.convolutional.depthwise_conv1d import DepthwiseConv1D as DepthwiseConv1D
from hornbeam.layers.convolutional.depthwise_conv2d import DepthwiseConv2D as DepthwiseConv2D
from hornbeam.layers.convolutional.separable_conv1d import SeparableConv1D as SeparableConv1D
from hornbeam.layers.convolutional.separable_conv2d import SeparableConv2D as SeparableConv2D
from hornbeam.layers.core.dense import Dense as Dense
from hornbeam.layers.core.einsum_dense import EinsumDense as EinsumDense
from hornbeam.layers.core.embedding import Embedding as Embedding
from hornbeam.layers.core.identity import Identity as Identity
from hornbeam.layers.core.input_layer import Input as Input
from hornbeam.layers.core.input_layer import InputLayer as InputLayer
from hornbeam.layers.core.lambda_layer import Lambda as Lambda
from hornbeam.layers.core.masking import Masking as Masking
from hornbeam.layers.core.wrapper import Wrapper as Wrapper
from hornbeam.layers.input_spec import InputSpec as InputSpec
from hornbeam.layers.layer import Layer as Layer
from hornbeam.layers.merging.add import Add as Add
from hornbeam.layers.merging.add import add as add
from hornbeam.layers.merging.average import Average as Average
from hornbeam.layers.merging.average import average as average
from hornbeam.layers.merging.concatenate import Concatenate as Concatenate
from hornbeam.layers.merging.concatenate import concatenate as concatenate
from hornbeam.layers.merging.dot import Dot as Dot
from hornbeam.layers.merging.dot import dot as dot
from hornbeam.layers.merging.maximum import Maximum as Maximum
from hornbeam.layers.merging.maximum import maximum as maximum
from hornbeam.layers.merging.minimum import Minimum as Minimum
from hornbeam.layers.merging.minimum import minimum as minimum
from hornbeam.layers.merging.multiply import Multiply as Multiply
from hornbeam.layers.merging.multiply import multiply as multiply
from hornbeam.layers.merging.subtract import Subtract as Subtract
from hornbeam.layers.merging.subtract import subtract as subtract
from hornbeam.layers.normalization.batch_normalization import (
    BatchNormalization as BatchNormalization,
)
from hornbeam.layers.normalization.group_normalization import (
    GroupNormalization as GroupNormalization,
)
from hornbeam.layers.normalization.layer_normalization import (
    LayerNormalization as LayerNormalization,
)
from hornbeam.layers.normalization.rms_normalization import RMSNormalization as RMSNormalization
from hornbeam.layers.normalization.spectral_normalization import (
    SpectralNormalization as SpectralNormalization,
)
from hornbeam.layers.normalization.unit_normalization import UnitNormalization as UnitNormalization
from hornbeam.layers.pooling.adaptive_average_pooling1d import (
    AdaptiveAveragePooling1D as AdaptiveAveragePooling1D,
)
from hornbeam.layers.pooling.adaptive_average_pooling2d import (
    AdaptiveAveragePooling2D as AdaptiveAveragePooling2D,
)
from hornbeam.layers.pooling.adaptive_average_pooling3d import (
    AdaptiveAveragePooling3D as AdaptiveAveragePooling3D,
)
from hornbeam.layers.pooling.adaptive_max_pooling1d import (
    AdaptiveMaxPooling1D as AdaptiveMaxPooling1D,
)
from hornbeam.layers.pooling.adaptive_max_pooling2d import (
    AdaptiveMaxPooling2D as AdaptiveMaxPooling2D,
)
from hornbeam.layers.pooling.adaptive_max_pooling3d import (
    AdaptiveMaxPooling3D as AdaptiveMaxPooling3D,
)
from hornbeam.layers.pooling.average_pooling1d import AveragePooling1D as AveragePooling1D
from hornbeam.layers.pooling.average_pooling2d import AveragePooling2D as AveragePooling2D
from hornbeam.layers.pooling.average_pooling3d import AveragePooling3D as AveragePooling3D
from hornbeam.layers.pooling.global_average_pooling1d import (
    GlobalAveragePooling1D as GlobalAveragePooling1D,
)
from hornbeam.layers.pooling.global_average_pooling2d import (
    GlobalAveragePooling2D as GlobalAveragePooling2D,
)
from hornbeam.layers.pooling.global_average_pooling3d import (
    GlobalAveragePooling3D as GlobalAveragePooling3D,
)
from hornbeam.layers.pooling.global_max_pooling1d import GlobalMaxPooling1D as GlobalMaxPooling1D
from hornbeam.layers.pooling.global_max_pooling2d import GlobalMaxPooling2D as GlobalMaxPooling2D
from hornbeam.layers.pooling.global_max_pooling3d import GlobalMaxPooling3D as GlobalMaxPooling3D
from hornbeam.layers.pooling.max_pooling1d import MaxPooling1D as MaxPooling1D
from hornbeam.layers.pooling.max_pooling2d import MaxPooling2D as MaxPooling2D
from hornbeam.layers.pooling.max_pooling3d import MaxPooling3D as MaxPooling3D
from hornbeam.layers.preprocessing.normalization import Normalization as Normalization
from hornbeam.layers.preprocessing.rescaling import Rescaling as Rescaling
from hornbeam.layers.regularization.activity_regularization import (
    ActivityRegularization as ActivityRegularization,
)
from hornbeam.layers.regularization.alpha_dropout import AlphaDropout as AlphaDropout
from hornbeam.layers.regularization.dropout import Dropout as Dropout
from hornbeam.layers.regularization.gaussian_dropout import GaussianDropout as GaussianDropout
from hornbeam.layers.regularization.gaussian_noise import GaussianNoise as GaussianNoise
from hornbeam.layers.regularization.spatial_dropout1d import SpatialDropout1D as SpatialDropout1D
from hornbeam.layers.regularization.spatial_dropout2d import SpatialDropout2D as SpatialDropout2D
from hornbeam.layers.regularization.spatial_dropout3d import SpatialDropout3D as SpatialDropout3D
from hornbeam.layers.reshaping.cropping1d import Cropping1D as Cropping1D
from hornbeam.layers.reshaping.cropping2d import Cropping2D as Cropping2D
from hornbeam.layers.reshaping.cropping3d import Cropping3D as Cropping3D
from hornbeam.layers.reshaping.flatten import Flatten as Flatten
from hornbeam.layers.reshaping.permute import Permute as Permute
from hornbeam.layers.reshaping.repeat_vector import RepeatVector as RepeatVector
from hornbeam.layers.reshaping.reshape import Reshape as Reshape
from hornbeam.layers.reshaping.up_sampling1d import UpSampling1D as UpSampling1D
from hornbeam.layers.reshaping.up_sampling2d import UpSampling2D as UpSampling2D
from hornbeam.layers.reshaping.up_sampling3d import UpSampling3D as UpSampling3D
from hornbeam.layers.reshaping.zero_padding1d import ZeroPadding1D as ZeroPadding1D
from hornbeam.layers.reshaping.zero_padding2d import ZeroPadding2D as ZeroPadding2D
from hornbeam.layers.reshaping.zero_padding3d import ZeroPadding3D as ZeroPadding3D
from hornbeam.layers.rnn.bidirectional import Bidirectional as Bidirectional
from hornbeam.layers.rnn.gru import GRU as GRU
from hornbeam.layers.rnn.gru_cell import GRUCell as GRUCell
from hornbeam.layers.rnn.lstm import LSTM as LSTM
from hornbeam.layers.rnn.lstm_cell import LSTMCell as LSTMCell
from hornbeam.layers.rnn.rnn import RNN as RNN
from hornbeam.layers.rnn.simple_rnn import SimpleRNN as SimpleRNN
from hornbeam.layers.rnn.simple_rnn_cell import SimpleRNNCell as SimpleRNNCell
from hornbeam.layers.rnn.stacked_rnn_cells import StackedRNNCells as StackedRNNCells
from hornbeam.layers.rnn.time_distributed import TimeDistributed as TimeDistributed
from hornbeam.saving import object_registration, serialization_lib

AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
Convolution1D = Conv1D
Convolution1DTranspose = Conv1DTranspose
Convolution2D = Conv2D
Convolution2DTranspose = Conv2DTranspose
Convolution3D = Conv3D
Convolution3DTranspose = Conv3DTranspose
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D

object_registration.register_namespace("keras.layers", globals(), Layer)


def serialize(layer):
    """Plain data that describes a layer."""
    return serialization_lib.serialize_keras_object(layer)


def deserialize(config, custom_objects=None):
    """The layer that `serialize` described.

    Raises:
        ValueError: the data describes something else.
    """
    layer = serialization_lib.deserialize_keras_object(config, custom_objects=custom_objects)
    if not isinstance(layer, Layer):
        raise ValueError(f"layers.deserialize: expected the config of a layer, got {config}")
    return layer
