"""The whole platform on one machine: embedded servers, one command to run it, one to try it.

Development and tests only; nothing in `app` or `worker_vm` imports it.
"""
