"""Learned policies against tuned schedules and controls, on problems nobody trained them on."""
