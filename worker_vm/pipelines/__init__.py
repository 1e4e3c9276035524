"""The pipelines a model of the catalog may select."""
