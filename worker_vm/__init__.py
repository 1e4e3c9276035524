"""What runs on the GPU machine: takes attempts from one queue and runs their pipelines."""

__version__ = "0.1.0"
