"""The fleet: which workers are alive and what they can run."""
