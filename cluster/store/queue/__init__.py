"""The durable queue: submissions, claims under leases, the stage ledger, and who is alive."""
