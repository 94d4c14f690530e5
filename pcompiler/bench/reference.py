"""The published figures that a suite answers, as data. All times in seconds."""

# End to end: one million prompts, mean time for one. The reference system compiled no language
# model's state; ours is the time to find a prompt that was compiled before.
COMPILE_MEAN_S = 0.75e-3
# The reference's alert threshold for one compilation.
COMPILE_ALERT_S = 1.0
