"""Settings of what is minimized and how."""

import dataclasses
import math
from typing import Literal

from flaxmobile.errors import check_flags


@dataclasses.dataclass(frozen=True)
class OptimizationSettings:
    """Flags about the loss, the optimizer and the learning rate."""

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "rmsprop-torch"] = "sgd"
    """sgd has heavy-ball momentum; rmsprop is TensorFlow's, with epsilon inside the root, and
    rmsprop-torch PyTorch's."""
    learning_rate: float = 0.05
    """Peak learning rate."""
    momentum: float = 0.9
    """Momentum of sgd and rmsprop."""
    nesterov: bool = False
    """Nesterov's momentum, for sgd."""
    rho: float = 0.9
    """Decay of rmsprop's mean square."""
    epsilon: float | None = None
    """Added to the denominator; by default 0.002 for rmsprop, 0.0316 for rmsprop-torch, 1e-8 for
    adam and adamw."""
    weight_decay: float = 4e-5
    """Weight decay of convolution and dense kernels; normalization and biases have none. Decoupled
    for adamw, added to the gradient for the others."""
    schedule: Literal["constant", "cosine", "linear", "exponential", "step"] = "cosine"
    """Learning rate after the warm-up: cosine and linear fall to 0; exponential multiplies it by
    decay-rate every decay-epochs; step multiplies it by decay-rate at each milestone."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly from 0."""
    decay_rate: float = 0.1
    """Factor of the exponential and step schedules."""
    decay_epochs: float = 30.0
    """Epochs between two drops of the exponential schedule."""
    milestones: tuple[float, ...] = (30.0, 60.0, 80.0)
    """Epochs of the drops of the step schedule."""
    label_smoothing: float = 0.0
    """Share of each label's probability that is spread evenly over all classes."""
    loss: Literal["softmax", "bce"] = "softmax"
    """Cross entropy over the classes, or binary cross entropy of each class by itself."""
    mixup: float = 0.0
    """Mix pairs of images: parameter of the Beta distribution of their shares (0.2 is usual); 0 is
    off."""
    cutmix: float = 0.0
    """Replace a box of each image by that of another (1.0 is usual); 0 is off. With --mixup each
    step takes one of them at random."""
    accumulate: int = 1
    """Gradient accumulation: micro-batches into which a batch is split to save memory. Batch
    normalization takes the statistics of each."""
    clip: float = 0.0
    """Gradient clipping: largest norm of all gradients together; 0 is off."""
    lr_scale: tuple[str, ...] = ()
    """Factors of the learning rate by parameter name, such as 'stage[1-3].*=0.1'; the first pattern
    that matches the whole name holds. 0 freezes; 'stage[1-3].*=0@5' does so for the first 5
    epochs."""
    distill_from: str | None = None
    """Weights, published or in a directory, of a teacher of the same classes whose probabilities
    are targets too."""
    distill_temperature: float = 2.0
    """Divides the logits of teacher and student, to soften their probabilities."""
    distill_weight: float = 0.5
    """Share of the teacher in the loss."""
    ema_decay: float = 0.0
    """Decay of the moving average of weights and statistics, which is then evaluated and saved; 0
    is off."""
    norm_warmup: bool = True
    """Average the running statistics of normalization over fewer steps at first: the momentum is at
    most (1 + step) / (10 + step), and the network's once the run is long. Without it, as in the
    references, statistics of a short run are still near their start."""

    def check_optimization(self) -> None:
        """Raise InputError for a value that is wrong for any network."""
        positive, share = "numbers above 0", "0 up to but not including 1"
        accepted = {
            "learning_rate": (0 < self.learning_rate < math.inf, positive),
            "momentum": (0 <= self.momentum < 1, share),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 and more"),
            "warmup_epochs": (0 <= self.warmup_epochs < math.inf, "0 and more"),
            "decay_rate": (0 < self.decay_rate <= 1, "numbers above 0 up to 1"),
            "decay_epochs": (0 < self.decay_epochs < math.inf, positive),
            "milestones": (all(m > 0 for m in self.milestones), positive),
            "label_smoothing": (0 <= self.label_smoothing < 1, share),
            "rho": (0 <= self.rho < 1, share),
            "epsilon": (self.epsilon is None or 0 < self.epsilon < math.inf, positive),
            "mixup": (0 <= self.mixup < math.inf, "0 and more"),
            "cutmix": (0 <= self.cutmix < math.inf, "0 and more"),
            "accumulate": (self.accumulate >= 1, "1 and more"),
            "clip": (0 <= self.clip < math.inf, "0 and more"),
            "distill_temperature": (0 < self.distill_temperature < math.inf, positive),
            "distill_weight": (0 <= self.distill_weight <= 1, "0 to 1"),
            "ema_decay": (0 <= self.ema_decay < 1, share),
        }
        check_flags(self, accepted)
