"""The RQ task: the only thing that travels through Redis.

It holds an id and nothing else; parameters and URLs are fetched at claim. The RQ job's id is the
attempt's id, and the serializer is `rq.serializers.JSONSerializer` on both sides.
"""

RUN_ATTEMPT = "worker_vm.tasks.run_attempt"
"""The only function a worker may be asked to call; its one argument is the attempt's id."""
