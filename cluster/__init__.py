"""What the cluster is: its vocabulary (contracts), its durable state (store), its settings and its commands."""

__version__ = "0.1.0"
