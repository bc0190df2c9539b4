"""Layouts: each framework's names and axes, shared by every origin that uses it."""

from convert.rule import Counter, Layout

TORCH = Layout(
    leaves={
        "params/kernel": "weight",
        "params/scale": "weight",
        "params/bias": "bias",
        "batch_stats/mean": "running_mean",
        "batch_stats/var": "running_var",
    },
    axes={
        4: (2, 3, 1, 0),  # [out, in / groups, kh, kw] -> [kh, kw, in / groups, out]
        2: (1, 0),  # [out, in] -> [in, out]
        1: (0,),
    },
    counter=Counter(
        "num_batches_tracked",
        beside="running_var",
        reason="BatchNorm's step counter, which a fixed momentum does not use",
    ),
    may_be_inside=True,
    may_be_part=True,
    ignored={
        r"(^|\.)total_(ops|params)$": "thop's counts of operations and parameters",
        r"(^|\.)n_averaged$": "the number of networks in an average",
        r"^(criterion|loss|loss_fn|loss_func)\.": "the loss's own tensors",
        r"(^|[._])(acc|accuracy|auroc|f1|metrics?|confmat|precision|recall)(_?\d+)?\.\w+$": (
            "a metric's counts"
        ),
    },
)

_TRAINED = {
    r"\.scale_activation\.": "the range of a gate, which is always the same",
    r"\.(activation_post_process|weight_fake_quant)\.": "the observers of its training",
    r"\.bn\.num_batches_tracked$": "BatchNorm's step counter",
    r"\.(scale|zero_point)$": "ranges of sums that the network does not compute",
}
QUANTIZED = TORCH._replace(
    leaves={
        "params/kernel": "weight",
        "params/bias": "bias",
        "batch_stats/kernel_steps": "steps",
        "batch_stats/least": "least",
        "batch_stats/most": "most",
    },
    axes={**TORCH.axes, 0: ()},
    ignored={**TORCH.ignored, **_TRAINED},
)
"""The names that `convert.quantized` gives."""
WITHOUT_RANGES = TORCH._replace(
    ignored={
        **TORCH.ignored,
        **_TRAINED,
        r"\.(least|most|steps)$": "steps and ranges of the quantized network",
    },
)
"""The same, for the float network of the same kernels."""

TFLITE = Layout(
    leaves={"params/kernel": "Kernel", "params/bias": "Bias"},
    axes={4: (1, 2, 3, 0), 1: (0,)},  # [out, kh, kw, in] -> [kh, kw, in, out]
    depthwise_axes=(1, 2, 0, 3),  # [1, kh, kw, out] -> [kh, kw, 1, out]
    separator="/",
)
"""The names that Keras's layers have in MediaPipe's TFLite files."""

KERAS = Layout(
    leaves={
        "params/kernel": "kernel",
        "params/bias": "bias",
        "params/scale": "gamma",
        "params/norm/bias": "beta",
        "batch_stats/mean": "moving_mean",
        "batch_stats/var": "moving_variance",
    },
    axes={rank: tuple(range(rank)) for rank in (1, 2, 4)},
    separator="/",
    splits_depthwise=True,
    ignored={
        r"^optimizer(_weights)?/": "the optimizer's state",
        r"\bseed_generator/": "the state of dropout's random numbers",
    },
)
"""The names that `convert.formats.keras` gives."""

SLIM = Layout(
    leaves={
        "params/kernel": "weights",
        "params/bias": "biases",
        "params/scale": "gamma",
        "params/norm/bias": "beta",
        "batch_stats/mean": "moving_mean",
        "batch_stats/var": "moving_variance",
    },
    axes=KERAS.axes,
    may_be_inside=True,
    separator="/",
    splits_depthwise=True,
    ignored={
        r"^global_step$": "the number of steps",
        r"/(Momentum|RMSProp(_1)?|Adam(_1)?)$|^beta[12]_power$": "the optimizer's state",
    },
)
"""The names that TF-slim's layers have in checkpoints, as `convert.formats.tf_checkpoint` reads
them."""
