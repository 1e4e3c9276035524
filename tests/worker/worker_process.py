"""Starts `worker_vm` as `python -m worker_vm` does, with the test pipeline registered."""

import sys

from worker_vm.__main__ import main
from worker_vm.pipelines import registry

if __name__ == "__main__":
    registry.PIPELINES["scripted"] = "scripted_pipeline:Scripted"
    sys.exit(main())
