"""The orchestrator: model catalog, job life cycle, dispatching and the worker's API."""

__version__ = "0.1.0"
