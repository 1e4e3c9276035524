"""Pipeline `inflate`: a picture blown up like a balloon, on the CPU and without any weights."""
