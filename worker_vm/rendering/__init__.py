"""Pictures of a mesh on the CPU: no window system, no GPU, no system packages."""
