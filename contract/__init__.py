"""What the orchestrator (`app`) and the GPU worker (`worker_vm`) say to each other.

Pydantic models only; nothing of ours is imported, so either side can be upgraded alone. Every
message is kept as a golden JSON file under `tests/contract/golden/`.
"""
