import pytest

from train.pictures import draw_curves

VALIDATED = [0.5, 0.9, 0.9, 0.7]


def lines():
    """Four epochs of 10 steps; the second is the first of the two best."""
    for step in range(2, 41, 2):
        epoch = (step - 1) // 10 + 1
        train = {"loss": 1 / step, "accuracy": step / 40, "learning_rate": 0.1 / step}
        yield {"split": "train", "step": step, "epoch": epoch, **train}
        if step % 10 == 0:
            numbers = {"loss": 2 / step, "accuracy": VALIDATED[epoch - 1]}
            yield {"split": "validation", "step": step, "epoch": epoch, **numbers}
    yield {"split": "best", "step": 40, "loss": 0.1, "accuracy": 0.9}  # has its mark already


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_curves_have_the_rate_the_epochs_and_the_best_one_marked():
    figure = draw_curves(list(lines()), "accuracy", "a run of $1")
    loss, accuracy, rate = figure.axes
    assert figure.get_suptitle() == "a run of $1"
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert legend(loss) == ["train 0.025", "validation 0.050"]
    assert legend(accuracy) == ["train 1.000", "validation 0.700", "best 0.900 (epoch 2)"]
    mark = accuracy.lines[-1]
    assert (*mark.get_xdata(), *mark.get_ydata()) == (20, 0.9)
    assert rate.lines[0].get_ydata()[0] == pytest.approx(0.05)
    figure.draw_without_rendering()
    (epochs,) = accuracy.child_axes
    low, high = epochs.get_xlim()
    assert (low, high) == pytest.approx([step / 10 for step in accuracy.get_xlim()])
    assert all(tick == int(tick) for tick in epochs.get_xticks())


def test_curves_without_a_validation_have_no_epochs_and_no_best():
    figure = draw_curves([line for line in lines() if line["split"] == "train"], "accuracy")
    assert not any(axes.child_axes for axes in figure.axes)
    assert legend(figure.axes[1]) == ["train 1.000"]
