"""What does ``python -m wdyn`` do? The same as ``wdyn``."""

from wdyn.cli import main

if __name__ == "__main__":
    main()
