"""Programs that a training reports to besides its own log, one module each.

Only the first process calls them, through `jcl.training.logger`. What they get is the same for all: values, pictures,
and at the beginning what the training is (`jcl.training.trackers.tracker.About`).
"""
