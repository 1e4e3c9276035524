"""Telling people and programs what has become of jobs: webhooks, callbacks and e-mail."""
