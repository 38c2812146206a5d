"""The one training loop: stages, checkpoints, schedules, logs."""
