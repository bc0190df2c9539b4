"""ONNX files, in the layouts of PyTorch's two exporters, of our own, and of others.

The files of PyTorch are written here as `torch.onnx.export` of 2.14 writes them, with
`dynamo=False` and `dynamo=True`: real ones of torchvision's MobileNet V2 and timm's V3 were read
and run against ONNX Runtime once (largest difference 1e-7); the exporter needs onnxscript.
"""

import re
import sys
from types import SimpleNamespace

import jax
import numpy as np
import onnx
import pytest

from convert.conversion import convert_file
from convert.formats.contents import Statements
from convert.rules import RULES
from convert.sources import read_source
from flaxmobile import InputError
from flaxmobile.exporters.exporting import export
from flaxmobile.folding import fold_batch_norm
from tests.convert.commands import refusal
from tests.convert.rules import fill
from tests.convert.states import random_state
from tests.networks import random_variables, small_model

RULE = RULES["torchvision", "mobilenet_v2"]


@pytest.fixture(scope="module")
def network():
    """torchvision's MobileNet V2, its tensors, and the folded network that they become."""
    tensors = {name: tensor.numpy() for name, tensor in random_state(0.35, 5).items()}
    found = fill(RULE, "mobilenet_v2", tensors)
    model, variables = fold_batch_norm(found.model, found.variables)
    names = [theirs for ours, theirs in RULE.modules(model) if not ours.endswith("/norm")]
    kernels = {f"{name}.weight": tensors[f"{name}.weight"] for name in names}
    return SimpleNamespace(tensors=tensors, model=model, variables=variables, kernels=kernels)


def folded(network):
    """Name of each layer, kernel and bias, in the order in which they run."""
    arrays = jax.tree.map(np.asarray, network.variables["params"])
    for ours, theirs in RULE.modules(network.model):
        if ours.endswith("/norm"):
            continue
        layer = arrays
        for part in ours.split("/"):
            layer = layer[part]
        axes = (3, 2, 0, 1) if layer["kernel"].ndim == 4 else (1, 0)
        yield theirs, layer["kernel"].transpose(axes), layer["bias"]


def scope(module):
    """The path of a torch module in the name of its node: `/conv/conv.0/Conv` of `conv.0`."""
    parts = []
    for part in module.split("."):
        parts.append(f"{parts[-1]}.{part}" if part.isdigit() else part)
    return "/" + "/".join(parts)


def write(path, layers, **how):
    """Write a chain of layers: name of the node, names and arrays of its constants."""
    nodes, constants, last = [], [], "images"
    for number, (node, inputs) in enumerate(layers):
        kinds = {4: ("Conv", {}), 2: ("Gemm", {"transB": 1}), 1: ("BatchNormalization", {})}
        kind, attributes = kinds[inputs[0][1].ndim]
        output = f"value{number}"
        names = [last, *(name for name, _ in inputs)]
        name = f"{node}/{kind}" if node else ""
        nodes.append(onnx.helper.make_node(kind, names, [output], name, **attributes))
        constants += [
            onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in inputs
        ]
        last = output
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in ("images", last)
    ]
    graph = onnx.helper.make_graph(nodes, "graph", values[:1], values[1:], constants)
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), path, **how)
    return path


def of_older_exporter(network):
    for number, (name, kernel, bias) in enumerate(folded(network)):
        kept = f"{name}.weight" if kernel.ndim == 2 else f"onnx::Conv_{3 * number}"
        yield scope(name), [(kept, kernel), (f"onnx::Conv_{3 * number + 1}", bias)]


def of_exporter(network):
    for name, kernel, bias in folded(network):
        kept = "bias" if kernel.ndim == 2 else "weight_bias"
        yield f"node_{name}", [(f"{name}.weight", kernel), (f"{name}.{kept}", bias)]


def without_names(network):
    for number, (_, kernel, bias) in enumerate(folded(network)):
        yield "", [(f"const_{2 * number}", kernel), (f"const_{2 * number + 1}", bias)]


@pytest.mark.parametrize("layers", [of_older_exporter, of_exporter])
def test_folded_weights_are_found_by_the_names_of_torchs_modules(tmp_path, network, layers):
    found = convert_file(write(tmp_path / "w.onnx", layers(network)), "v2")
    assert (found.origin, found.filled.model) == ("torchvision", network.model)
    jax.tree.map(np.testing.assert_array_equal, found.filled.variables, network.variables)
    assert found.assumed == {"padding": "symmetric"}
    assert any("folded into the convolutions" in line for line in found.describe())


def test_weights_with_normalization_are_those_of_the_state_dict(tmp_path, network):
    layers = []
    for name, kernel in network.kernels.items():
        layer = name.removesuffix(".weight")
        if kernel.ndim == 2:
            bias = f"{layer}.bias"
            layers += [(layer, [(name, kernel), (bias, network.tensors[bias])])]
            continue
        norm = re.sub(r"\d+$", lambda place: str(int(place[0]) + 1), layer)
        leaves = [f"{norm}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
        layers += [(layer, [(name, kernel)])]
        layers += [(norm, [(leaf, network.tensors[leaf]) for leaf in leaves])]
    found = convert_file(write(tmp_path / "w.onnx", layers), "v2").filled
    expected = fill(RULE, "mobilenet_v2", network.tensors)
    assert found.model == expected.model
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)


def test_layers_without_names_are_taken_in_their_order(tmp_path, network):
    path = write(tmp_path / "w.onnx", without_names(network))
    with pytest.raises(InputError, match=r"name the file's origin with --source"):
        convert_file(path, "v2")
    found = convert_file(path, "v2", source="torchvision").filled
    assert found.model == network.model
    jax.tree.map(np.testing.assert_array_equal, found.variables, network.variables)
    with pytest.raises(InputError, match=r"mnasnet .*cannot be filled"):
        convert_file(path, "mnasnet", source="torchvision")
    with pytest.raises(InputError, match="of inception_v3 stand side by side; accepted"):
        convert_file(path, "inception_v3")


@pytest.mark.parametrize(("kind", "number"), [("Mul", 1 / 6), ("Div", 6.0)])
def test_the_3_of_a_hard_sigmoid_is_taken_out_of_a_bias(tmp_path, kind, number):
    bias = np.asarray([2.5, 3.5], np.float32)
    layers = [("", [("kernel", np.ones((2, 3, 1, 1), np.float32)), ("add", bias)])]
    model = onnx.load(write(tmp_path / "w.onnx", layers))
    nodes = [("Clip", ["value0"], "clipped"), (kind, ["clipped", "number"], "gate")]
    model.graph.node.extend(onnx.helper.make_node(op, given, [made]) for op, given, made in nodes)
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.asarray(number, np.float32), "number")
    )
    onnx.save(model, tmp_path / "w.onnx")
    np.testing.assert_array_equal(read_source(tmp_path / "w.onnx").tensors["0.bias"], bias - 3)


def test_what_a_graph_does_with_images_is_asked_for(tmp_path, network):
    path = write(tmp_path / "w.onnx", of_exporter(network))
    model = onnx.load(path)
    first = model.graph.node[0]
    scaled = onnx.helper.make_node("Mul", ["images", "scale"], ["scaled"])
    first.input[0] = "scaled"
    model.graph.node.insert(0, scaled)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "scale"))
    onnx.save(model, path)
    with pytest.raises(InputError, match="images go through Mul, which cannot be read: say with"):
        convert_file(path, "v2")
    stated = Statements({"mean": (0.0,) * 3, "std": (1.0,) * 3})
    assert convert_file(path, "v2", stated=stated).facts.preprocessing.std == (1.0,) * 3


def test_what_we_export_is_read_back(tmp_path):
    model = small_model("mobilenet_v3_small")
    variables = random_variables(model)
    export(model, variables, tmp_path / "w.onnx", "onnx", image_size=64)
    found = convert_file(tmp_path / "w.onnx", "v3-small", source="torchvision").filled
    _, expected = fold_batch_norm(model, variables)
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected)


def test_numbers_in_a_file_beside_it_are_read_from_there(tmp_path, network):
    beside = {"save_as_external_data": True, "location": "w.onnx.data", "size_threshold": 0}
    path = write(tmp_path / "w.onnx", of_exporter(network), **beside)
    found = convert_file(path, "v2").filled
    jax.tree.map(np.testing.assert_array_equal, found.variables, network.variables)
    (tmp_path / "w.onnx.data").unlink()
    assert "is damaged, or lacks a file beside it" in refusal(path)


def test_the_origins_network_cannot_verify_what_is_folded(tmp_path, network):
    path = write(tmp_path / "w.onnx", of_exporter(network))
    with pytest.raises(InputError, match="leave --verify out"):
        convert_file(path, "v2", images=[tmp_path / "a.png"])


def test_a_damaged_file_is_refused(tmp_path, network):
    path = write(tmp_path / "w.onnx", of_exporter(network))
    path.write_bytes(path.read_bytes()[:100_000])
    assert "is damaged" in refusal(path)
    assert "has no convolutions" in refusal(write(path, []))


def test_without_the_library_the_error_names_the_extra(tmp_path, network, monkeypatch):
    path = write(tmp_path / "w.onnx", of_exporter(network))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"pip install -e '.*\[onnx\]'"):
        convert_file(path, "v2")
