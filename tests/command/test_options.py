import pytest

from flaxmobile.command.options import read_options
from flaxmobile.errors import InputError


def test_values_are_json_or_words():
    words = ["groups=8", "aux_logits=true", "flavour=paper", "alpha=0.5", "repeats=[1, 2]", "a=b=c"]
    words += ["dilated=True", "split=False"]
    assert read_options(words) == {
        "groups": 8,
        "aux_logits": True,
        "flavour": "paper",
        "alpha": 0.5,
        "repeats": [1, 2],
        "a": "b=c",
        "dilated": True,
        "split": False,
    }


def test_flags_that_were_given_are_options_too():
    assert read_options(["groups=3"], alpha=0.5, num_classes=None) == {"alpha": 0.5, "groups": 3}


@pytest.mark.parametrize("word", ["groups", "=8", ""])
def test_a_word_without_name_or_value_is_refused(word):
    with pytest.raises(InputError, match=f"--options has '{word}'; accepted: NAME=VALUE"):
        read_options([word])


def test_an_option_given_twice_is_refused():
    with pytest.raises(InputError, match="groups twice"):
        read_options(["groups=3", "groups=8"])
    with pytest.raises(InputError, match="alpha twice, or beside --alpha"):
        read_options(["alpha=0.5"], alpha=1.4)
