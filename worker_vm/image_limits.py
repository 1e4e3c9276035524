"""What pictures may be decoded; shared by `worker_vm.images` and its confined child."""

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 4096 * 4096
MAX_SIDE = 16384
MIN_SIDE = 16
