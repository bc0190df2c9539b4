"""TF-slim's networks as its checkpoints hold them, with 1001 classes."""

from convert.rules.slim import inception, mobilenets

RULES = mobilenets.RULES | inception.RULES
