"""Progress in logs: lines with the time left."""

from train.progress import ProgressLines


def test_a_log_has_a_line_every_half_minute_and_at_the_last_step(capsys):
    times = iter([0.0, 40.0, 50.0, 60.0, 69.0, 71.0])  # the first step waits for compilation
    progress = ProgressLines(total=1000, initial=10, clock=lambda: next(times))
    for step in range(11, 16):
        progress.set_postfix_str(f"loss {step}", refresh=False)
        progress.update()
    progress.close()
    last = ProgressLines(total=2, initial=1, clock=lambda: 5.0)
    last.set_postfix_str("loss 2", refresh=False)
    last.update()
    assert capsys.readouterr().err.splitlines() == [
        "step 11 of 1000, loss 11, ? left",
        "step 15 of 1000, loss 15, 2:07:13 left",  # 4 steps took 31 s
        "step 2 of 2, loss 2, 00:00 left",
    ]
