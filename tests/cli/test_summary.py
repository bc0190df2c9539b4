import json
import re

import pytest

from flaxmobile import cli, create_model, create_segmenter, registry, summarize


def test_table_is_for_224_pixels_and_1000_classes_by_default(capsys):
    assert cli.main(["summary", "v2", "--alpha", "1.4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "params", "mult-adds", "share"]
    assert lines[-2].split() == ["total", "6,108,776", "582,195,824", "100.0%"]
    assert lines[-1] == "1×1 convolutions do 91.8% of the multiply-adds at 224×224"


def test_json_is_the_librarys_for_the_given_width_size_and_classes(capsys):
    argv = ["--alpha=0.35", "--image-size", "64", "--num_classes", "5", "--json"]
    assert cli.main(["summary", "mobilenet_v2", *argv]) == 0
    summary = summarize(create_model("v2", alpha=0.35, num_classes=5), 64)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(summary.to_json()))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["v9"], "unknown model 'v9'; accepted: "),
        (["v2", "--alpha", "0"], "alpha is 0.0; accepted: "),
        (["v2", "--alpha", "nan"], "alpha is nan; accepted: "),
        (["v2", "--num-classes", "-1"], "num_classes is -1; accepted: 0 or more"),
        (["v2", "--options", "api=nnx"], "--options has api, which is for Python alone"),
        (["v2", "--image-size", "31"], "[1, 31, 31, 3]; accepted: "),
        (["v2", "--image-size", "1", "2", "3"], "image_size is (1, 2, 3); accepted: the side, or "),
        (["v2", "--image-size", "-1"], "image_size is -1; accepted: "),
    ],
)
def test_a_value_that_the_network_does_not_offer_is_one_line_and_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["summary", *argv])
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_an_option_that_the_network_does_not_have_is_refused(monkeypatch, capsys):
    options = {k: v for k, v in registry.model_options("v2").items() if k != "alpha"}
    monkeypatch.setattr(registry, "model_options", lambda name: options)
    with pytest.raises(SystemExit):
        cli.main(["summary", "v2", "--alpha", "1"])
    assert "unknown option of mobilenet_v2 'alpha'" in capsys.readouterr().err


def test_a_head_and_images_of_two_sides_are_counted_too(capsys):
    argv = ["summary", "lraspp", "--options", "backbone=v2", "--image-size", "64", "96", "--json"]
    assert cli.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    summary = summarize(create_segmenter("lraspp", "v2", num_classes=21), (64, 96))
    assert found == json.loads(json.dumps(summary.to_json()))
    assert found["image_size"] == [64, 96]


def test_picture_has_the_blocks_and_the_share_of_each_kind_of_layer(tmp_path, capsys):
    picture = tmp_path / "v2.svg"
    assert cli.main(["summary", "v2", "--plot", str(picture)]) == 0
    text = picture.read_text()
    assert {"stage7_block1", "conv 1x1, 89.1 %"} <= set(re.findall("<!-- (.*) -->", text))
