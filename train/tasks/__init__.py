"""Tasks that can be trained, one file each: see `train.tasks.task`."""
