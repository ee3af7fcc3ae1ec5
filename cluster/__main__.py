"""``python -m cluster`` is ``heimdex``."""

from cluster.cli.main import main

if __name__ == "__main__":
    main()
