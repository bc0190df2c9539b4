import json

from convert.published.catalogue import CATALOGUE
from flaxmobile import cli
from flaxmobile.specs import SPECS


def test_table_has_a_row_per_network(capsys):
    assert cli.main(["list"]) == 0
    header, rule, *rows, _, footer = capsys.readouterr().out.splitlines()
    columns = ["name", "aliases", "year", "params", "multiply-adds", "size", "top-1"]
    assert header.split() == columns
    assert "flaxmobile info NAME" in footer
    assert len(rule) <= 80
    assert set(rule) == {"─"}
    assert [row.split()[0] for row in rows] == list(SPECS)
    v2 = next(row for row in rows if row.startswith("mobilenet_v2"))
    figures = ["v2", "2018", "3.50", "M", "300.8", "M", "224×224", "72.2%"]
    assert v2.split()[1:] == figures


def test_json_has_an_object_per_network(capsys):
    assert cli.main(["list", "--json"]) == 0
    networks = json.loads(capsys.readouterr().out)
    assert [network["name"] for network in networks] == list(SPECS)
    v2 = next(network for network in networks if network["name"] == "mobilenet_v2")
    assert v2 == {
        "name": "mobilenet_v2",
        "aliases": ["v2"],
        "year": 2018,
        "params": 3504872,
        "macs": 300774272,
        "image_size": 224,
        "top1": 72.154,
        "top1_source": "torchvision IMAGENET1K_V2",
        "paper": SPECS["mobilenet_v2"].paper,
    }


def test_published_weights_have_a_row_each(capsys):
    assert cli.main(["list", "--pretrained"]) == 0
    header, rule, *rows, _, units, footer, licences, _ = capsys.readouterr().out.splitlines()
    assert len(rule) <= 80
    assert footer.startswith("top-1 from: torchvision's weights enum, Keras's documentation")
    assert header.split() == ["name", "M", "%", "px"]
    assert units.startswith("M: millions of parameters; %: top-1; px: side of the images")
    assert licences == (
        "licences: torchvision BSD-3-Clause, timm Apache-2.0, mediapipe Apache-2.0, "
        "keras Apache-2.0"
    )
    assert [row.split()[0] for row in rows] == list(CATALOGUE)
    row = next(row for row in rows if row.startswith("torchvision:mobilenet_v2.IMAGENET1K_V2"))
    assert row.split()[1:] == ["3.5", "72.2", "224"]


def test_published_weights_as_json(capsys):
    assert cli.main(["list", "--pretrained", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert list(found) == list(CATALOGUE)
    timm = found["timm:mobilenetv1_100.ra4_e3600_r224_in1k"]
    assert (timm["repository"], timm["top1"]) == ("timm/mobilenetv1_100.ra4_e3600_r224_in1k", None)
    assert timm["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    large = found["keras:MobileNetV3Large_1.0"]
    assert (large["top1"], large["top1_source"]) == (75.6, "Keras's documentation of the network")
