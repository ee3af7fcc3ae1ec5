"""The scheduler: claims, leases, how much is admitted, who is alive. `actor` is the Ray actor around it."""
