"""The published figures that a suite answers, as data. All times in seconds."""

# End to end: one million prompts, mean time to compile one.
COMPILE_MEAN_S = 0.75e-3
