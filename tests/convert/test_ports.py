"""Other ports' names of the same networks."""

import pytest
from torch import nn

from convert.recognition import recognise
from convert.rules import RULES
from convert.sources import Source
from flaxmobile.layers import round_channels
from tests.convert.rules import facts_of, fill
from tests.convert.states import random_state
from tests.convert.test_bad_input import tensors_of
from tests.models.parity import NUM_CLASSES, assert_logits_agree, published


def flat(name):
    """torchvision's name of a tensor, as it is where a block is a flat list."""
    first, index, *rest = name.split(".")
    if len(rest) < 3 or rest[0] != "conv":
        return name
    units = 1 if index == "1" else 2  # before the projection, whose layers stand in the list
    place = int(rest[1])
    inner = [3 * place + int(rest[2])] if place < units else [3 * units + place - units]
    return ".".join([first, index, "conv", *map(str, inner), rest[-1]])


@pytest.mark.parametrize(
    ("head", "classifier"),
    [("features.18", "classifier"), ("features.18", "classifier.1"), ("conv", "classifier")],
)
def test_mobilenet_v2_of_flat_blocks_has_torchvisions_numbers(head, classifier):
    state = {name: tensor.numpy() for name, tensor in random_state(0.35, 5).items()}
    ported = {
        flat(name).replace("features.18", head).replace("classifier.1", classifier): array
        for name, array in state.items()
    }
    assert ported["features.1.conv.3.weight"].shape == (16 // 2, 16, 1, 1)
    assert ported["features.2.conv.7.weight"].ndim == 1
    origin, reading = recognise("mobilenet_v2", "auto", Source(ported, "0" * 64))
    assert origin == "ports"
    expected = fill(RULES["torchvision", "mobilenet_v2"], "mobilenet_v2", state)
    found = fill(reading.rule, "mobilenet_v2", ported)
    assert found.options == expected.options
    for ours, theirs in zip(found.used, expected.used, strict=True):
        assert ported[ours] is state[theirs]


def test_cadenes_xception_is_timms():
    model, tensors = tensors_of("timm", "xception")
    old = {
        name.replace("fc.", "last_linear."): array[..., 0, 0] if "pointwise" in name else array
        for name, array in tensors.items()
    }
    found = fill(RULES["timm", "xception"], "xception", old)
    assert found.model == model
    assert found.variables["params"]["exit_separable1"]["pointwise"]["conv"]["kernel"].ndim == 4


class Squeeze(nn.Module):
    """The squeeze-excite of d-li14/mobilenetv3.pytorch."""

    def __init__(self, channels):
        super().__init__()
        squeezed = round_channels(channels // 4)
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, channels)
        )

    def forward(self, x):
        return x * nn.functional.hardsigmoid(self.fc(x.mean((2, 3))))[..., None, None]


class FlatBlock(nn.Module):
    """Its block: where it expands, squeeze-excite comes before the activation."""

    def __init__(self, given, expanded, wanted, kernel, stride, squeezes, activation):
        super().__init__()
        self.adds = stride == 1 and given == wanted
        expands = given != expanded
        expand = (*unit(given, expanded, 1), activation()) if expands else ()
        depthwise = unit(expanded, expanded, kernel, stride, expanded)
        squeeze = Squeeze(expanded) if squeezes else nn.Identity()
        after = (squeeze, activation()) if expands else (activation(), squeeze)
        self.conv = nn.Sequential(*expand, *depthwise, *after, *unit(expanded, wanted, 1))

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


def unit(given, wanted, kernel, stride=1, groups=1):
    conv = nn.Conv2d(given, wanted, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(wanted)


class MobileNetV3Small(nn.Module):
    """d-li14's small network, at 0.75 of its width."""

    def __init__(self, classes):
        super().__init__()
        relu, swish = nn.ReLU, nn.Hardswish
        features, given = [nn.Sequential(*unit(3, 16, 3, 2), swish())], 16
        for kernel, ratio, wanted, squeezes, activation, stride in (
            (3, 1, 16, True, relu, 2), (3, 4.5, 24, False, relu, 2), (3, 3.67, 24, False, relu, 1),
            (5, 4, 32, True, swish, 2), (5, 6, 32, True, swish, 1), (5, 6, 32, True, swish, 1),
            (5, 3, 40, True, swish, 1), (5, 3, 40, True, swish, 1), (5, 6, 72, True, swish, 2),
            (5, 6, 72, True, swish, 1), (5, 6, 72, True, swish, 1),
        ):  # fmt: skip
            expanded = round_channels(given * ratio)
            features += [FlatBlock(given, expanded, wanted, kernel, stride, squeezes, activation)]
            given = wanted
        self.features = nn.Sequential(*features)
        self.conv = nn.Sequential(*unit(given, expanded, 1), swish())
        self.classifier = nn.Sequential(
            nn.Linear(expanded, 1024), swish(), nn.Dropout(0.2), nn.Linear(1024, classes)
        )

    def forward(self, x):
        return self.classifier(self.conv(self.features(x)).mean((2, 3)))


def test_mobilenet_v3_of_flat_blocks_gives_the_same_logits():
    rule = RULES["ports", "mobilenet_v3_small"]
    pair = published(rule, "mobilenet_v3_small", MobileNetV3Small(NUM_CLASSES))
    assert pair.flax.alpha == 0.75
    state = {name: tensor.numpy() for name, tensor in pair.torch.state_dict().items()}
    origin, _ = recognise("mobilenet_v3_small", "auto", Source(state, "0" * 64))
    assert origin == "ports"
    for size in (64, (75, 98)):
        assert_logits_agree(pair, size, batch=1)


def same(x, kernel, stride):
    """Pad as TensorFlow does."""
    sides = []
    for length in (x.shape[-1], x.shape[-2]):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        sides += [total // 2, total - total // 2]
    return nn.functional.pad(x, sides)


class Layer(nn.Module):
    """A layer of transformers' MobileNets."""

    def __init__(self, given, wanted, kernel, stride=1, groups=1, activation=True):
        super().__init__()
        self.convolution = nn.Conv2d(given, wanted, kernel, stride, groups=groups, bias=False)
        self.normalization = nn.BatchNorm2d(wanted, eps=1e-3)
        self.activation = activation

    def forward(self, x):
        x = same(x, self.convolution.kernel_size[0], self.convolution.stride[0])
        x = self.normalization(self.convolution(x))
        return nn.functional.relu6(x) if self.activation else x


class MobileNetV1(nn.Module):
    """transformers' `MobileNetV1ForImageClassification`, at a quarter of its width."""

    def __init__(self, classes):
        super().__init__()
        widths = (16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)
        strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
        given, layers = 8, []
        for wanted, stride in zip(widths, strides, strict=True):
            layers += [Layer(given, given, 3, stride, groups=given), Layer(given, wanted, 1)]
            given = wanted
        self.mobilenet_v1 = nn.Module()
        self.mobilenet_v1.conv_stem = Layer(3, 8, 3, 2)
        self.mobilenet_v1.layer = nn.ModuleList(layers)
        self.classifier = nn.Linear(given, classes)

    def forward(self, x):
        x = self.mobilenet_v1.conv_stem(x)
        for layer in self.mobilenet_v1.layer:
            x = layer(x)
        return self.classifier(x.mean((2, 3)))


class Block(nn.Module):
    def __init__(self, given, wanted, stride):
        super().__init__()
        self.adds = stride == 1 and given == wanted
        self.expand_1x1 = Layer(given, 6 * given, 1)
        self.conv_3x3 = Layer(6 * given, 6 * given, 3, stride, groups=6 * given)
        self.reduce_1x1 = Layer(6 * given, wanted, 1, activation=False)

    def forward(self, x):
        y = self.reduce_1x1(self.conv_3x3(self.expand_1x1(x)))
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """transformers' `MobileNetV2ForImageClassification`, at 0.35 of its width."""

    def __init__(self, classes):
        super().__init__()
        stem, layers, given = nn.Module(), [], 8
        stem.first_conv = Layer(3, 16, 3, 2)
        stem.conv_3x3 = Layer(16, 16, 3, groups=16)
        stem.reduce_1x1 = Layer(16, 8, 1, activation=False)
        for wanted, repeats, stride in (
            (8, 2, 2), (16, 3, 2), (24, 4, 2), (32, 3, 1), (56, 3, 2), (112, 1, 1),
        ):  # fmt: skip
            for number in range(repeats):
                layers.append(Block(given, wanted, 1 if number else stride))
                given = wanted
        self.mobilenet_v2 = nn.Module()
        self.mobilenet_v2.conv_stem = stem
        self.mobilenet_v2.layer = nn.ModuleList(layers)
        self.mobilenet_v2.conv_1x1 = Layer(given, 1280, 1)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x):
        body = self.mobilenet_v2
        for layer in (
            body.conv_stem.first_conv,
            body.conv_stem.conv_3x3,
            body.conv_stem.reduce_1x1,
            *body.layer,
            body.conv_1x1,
        ):
            x = layer(x)
        return self.classifier(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "build"), [("mobilenet_v1", MobileNetV1), ("mobilenet_v2", MobileNetV2)]
)
def test_transformers_networks_give_the_same_logits(name, build):
    pair = published(RULES["transformers", name], name, build(NUM_CLASSES))
    for size in (64, (75, 98)):
        assert_logits_agree(pair, size, batch=1)


def test_transformers_classes_have_imagenets_names():
    facts = facts_of(RULES["transformers", "mobilenet_v2"], num_classes=1001)
    assert facts.class_names[0] == "background"
    assert facts.class_names[286] == "Egyptian cat"
    assert (facts.preprocessing.resize_size, facts.preprocessing.mean) == (256, (0.5, 0.5, 0.5))
