import pytest

import flaxmobile
from flaxmobile import cli
from flaxmobile.registry import model_options


@pytest.mark.parametrize("name", flaxmobile.list_models())
def test_every_option_is_explained_with_its_default(name, capsys):
    assert cli.main(["info", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    for option, field in model_options(name).items():
        place = next(i for i, line in enumerate(lines) if line.startswith(f"  {option} = "))
        shown = lines[place].partition(" = ")[2]
        assert option == "dtype" or eval(shown) == field.default
        assert lines[place + 1].startswith(" " * 6)
        assert not lines[place + 1].strip().startswith("see ")


def test_paper_figures_and_choices_are_said(capsys):
    assert cli.main(["info", "v3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mobilenet_v3_large (v3, v3-large)\nSearching for MobileNetV3")
    assert "5.48 M parameters, 216.6 M multiply-adds at 224×224" in printed
    assert "75.3% top-1 on ImageNet (torchvision IMAGENET1K_V2)" in printed
    assert '  last_channel = "torchvision"\n' in printed
    assert "Where the paper and the implementations do not all agree" in printed


def test_an_unknown_name_is_one_line_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["info", "mobilenetv3"])
    assert stop.value.code == 2
    assert "did you mean 'mobilenet_v3_large'" in capsys.readouterr().err
