"""Small networks that together use every kind of layer, in every way that matters for a Gram matrix."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Net(nn.Module):
    """A module from a function of its input, so that a test reads as the network it is about."""

    body: object

    @nn.compact
    def __call__(self, x, *, train=False):
        return self.body(self, x)


def convolutions(net, x):
    """Strides, padding of every form, dilation of kernel and input, groups, depthwise, no bias, 1×1."""
    del net
    x = nn.tanh(nn.Conv(6, (3, 3), strides=2, padding=((2, 1), (0, 2)))(x))
    x = nn.tanh(nn.Conv(8, (3, 2), padding="SAME", kernel_dilation=(2, 1), feature_group_count=2)(x))
    x = nn.tanh(nn.Conv(8, (3, 3), strides=(2, 1), padding="SAME", feature_group_count=8, use_bias=False)(x))
    x = nn.tanh(nn.Conv(5, (2, 2), padding=1, input_dilation=(2, 1))(x))
    x = nn.tanh(nn.Conv(3, (1, 1), padding="VALID")(x))
    return nn.Dense(4)(x.reshape(x.shape[0], -1))


def sequences(net, x):
    """A one-dimensional convolution, and a dense layer at several positions."""
    del net
    x = x[:, :, :, 0]
    x = nn.tanh(nn.Dense(6)(nn.tanh(nn.Conv(5, (3,), strides=2)(x))))
    return nn.Dense(4)(x.mean(1))


def volumes(net, x):
    """A three-dimensional convolution."""
    del net
    x = nn.tanh(nn.Conv(3, (2, 3, 2), strides=(1, 2, 2))(x[:, :4, :, :, None]))
    return nn.Dense(4)(x.reshape(x.shape[0], -1))


def batch_norm(net, x):
    """Batch normalisation with running statistics, with its arguments by name and by place."""
    del net
    x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(6, (3, 3))(x)))
    x = nn.BatchNorm(use_scale=False)(nn.Conv(6, (3, 3), use_bias=False)(x), True)
    x = nn.BatchNorm(use_bias=False)(x, use_running_average=True)
    return nn.Dense(4)(nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1))


def other_norms(net, x):
    """Layer, group and RMS normalisation, some without scale or bias, one over other axes."""
    del net
    x = nn.tanh(nn.GroupNorm(num_groups=2)(nn.Conv(6, (3, 3), strides=2)(x)))
    x = nn.tanh(nn.LayerNorm(use_bias=False)(nn.Dense(6)(x)))
    x = nn.tanh(nn.LayerNorm(reduction_axes=(1, 2, 3))(nn.Dense(6)(x)))
    x = nn.RMSNorm()(nn.GroupNorm(num_groups=3, use_scale=False)(x))
    return nn.Dense(4)(x.mean((1, 2)))


def odd_norms(net, x):
    """Normalisation whose scale lies along other axes: a layer that is not known."""
    del net
    x = nn.LayerNorm(reduction_axes=(1, 2), feature_axes=(1, 2))(nn.Dense(3)(x))
    return nn.Dense(4)(nn.BatchNorm(axis=1, use_running_average=True)(x).mean((1, 2)))


def tokens(x):
    """Pixels as indices 0..8, some of them counted from the end of the table."""
    ids = (x[:, ::3, ::3, 0] * 8.99).astype(jnp.int32).reshape(x.shape[0], -1)
    return jnp.where(ids == 8, -1, ids)


def embedding(net, x):
    """An embedding, each row met several times, and a table of one row."""
    del net
    x = nn.Embed(9, 5)(tokens(x)) + nn.Embed(1, 5)(tokens(x))
    return nn.Dense(4)(nn.tanh(nn.Dense(6)(x)).sum(1))


def large_table(net, x):
    """An embedding with far more rows than positions."""
    del net
    return nn.Dense(4)(nn.tanh(nn.Embed(500, 5)(tokens(x) + 20)).sum(1))


def shared(net, x):
    """Layers called twice at different sizes, with and without each other: kernel, bias, scale, embedding."""
    del net
    conv, dense, norm, embed = nn.Conv(4, (3, 3)), nn.Dense(4), nn.LayerNorm(), nn.Embed(9, 4)
    ids = tokens(x)
    x = nn.tanh(conv(nn.tanh(conv(jnp.tile(x, (1, 1, 1, 4)))[:, ::2, ::3])))
    x = norm(nn.tanh(dense(norm(x)))).mean((1, 2))
    x = nn.tanh(dense(x)) + embed(ids).sum(1) + embed(ids[:, :2] // 2).sum(1)
    return dense(x)


def tied(net, x):
    """A table that is the output layer as well, and a kernel that is also used as a plain array."""
    embed, dense = nn.Embed(9, 5), nn.Dense(5)
    x = nn.tanh(dense(embed(tokens(x)).mean(1)))
    x = x + 0.1 * net.variables["params"]["Dense_0"]["kernel"].sum(0)[None]
    return embed.attend(x)[:, :4]


def hidden_use(net, x):
    """A kernel that reaches the logits through another layer too, and one that decides an embedding's output."""
    x = nn.tanh(nn.Dense(5)(x[:, :4, 0, 0]))
    x = nn.tanh(nn.Dense(5)(x * net.variables["params"]["Dense_0"]["kernel"][0][None]))
    return nn.Dense(4)(x)


def unknown(net, x):
    """Parameters of the module itself, layers that are not known, and options that are out of the ordinary."""
    x = nn.tanh(nn.ConvTranspose(3, (2, 2), strides=(2, 2))(x[:, ::4, ::4]))
    x = nn.tanh(nn.Conv(3, (3, 3), mask=np.tri(9).repeat(3)[:81].reshape(3, 3, 3, 3))(x))
    x = nn.tanh(nn.Conv(3, (3, 3), padding="CIRCULAR")(x)) * net.param(
        "gain", nn.initializers.normal(1.0), (1, 1, 1, 3)
    )
    x = nn.tanh(nn.Conv(3, (2, 2), conv_general_dilated=lambda *a, **k: 2 * jax.lax.conv_general_dilated(*a, **k))(x))
    x = nn.Dense(4, dot_general=lambda *a, **k: jax.lax.dot_general(*a, **k) ** 2)(x.reshape(x.shape[0], -1))
    return nn.DenseGeneral((2, 2))(x).reshape(-1, 4)


def transformed(net, x):
    """Layers inside transformations, and a layer whose kernel is made from its parameter."""
    del net
    x = x[:, :6, :6, 0]
    x = nn.tanh(nn.remat(nn.Dense)(5)(x))
    x = nn.tanh(
        nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=1, out_axes=1)(5)(x)
    )
    x = nn.tanh(nn.WeightNorm(nn.Dense(5))(x))
    dense = nn.Dense(5)
    dense(x[:, 0])
    x = x + jax.vmap(dense, in_axes=1, out_axes=1)(x)
    cell = nn.scan(nn.SimpleCell, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)(5)
    _, x = cell(jnp.zeros((x.shape[0], 5), x.dtype), x)
    return nn.Dense(4)(nn.MultiHeadDotProductAttention(num_heads=1)(x).mean(1))


def residual(net, x):
    """A residual block with a projection, as in a ResNet."""
    del net
    norm = lambda y: nn.BatchNorm(use_running_average=True)(y)  # noqa: E731
    y = nn.relu(norm(nn.Conv(6, (3, 3), strides=2, padding=1, use_bias=False)(x)))
    y = norm(nn.Conv(6, (3, 3), padding=1, use_bias=False)(y))
    return nn.Dense(4)(nn.relu(y + norm(nn.Conv(6, (1, 1), strides=2, use_bias=False)(x))).mean((1, 2)))


BODIES = [
    convolutions, sequences, volumes, batch_norm, other_norms, odd_norms, embedding, large_table, shared, tied,
    hidden_use, unknown, transformed, residual,
]  # fmt: skip

# What is known in the networks that need the fallback for some of their parameters.
NOT_ALL_KNOWN = {
    odd_norms: {"Dense_0/kernel", "Dense_0/bias", "Dense_1/kernel", "Dense_1/bias"},
    embedding: {f"Dense_{i}/{name}" for i in (0, 1) for name in ("kernel", "bias")} | {"Embed_0/embedding"},
    tied: {"Dense_0/bias"},
    hidden_use: {f"Dense_{i}/{name}" for i in (0, 1, 2) for name in ("kernel", "bias")} - {"Dense_0/kernel"},
    unknown: set(),
    transformed: {"Dense_2/kernel", "Dense_2/bias"},
}
