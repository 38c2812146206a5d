"""``python -m segadapt``."""

from segadapt.cli import main

if __name__ == "__main__":  # processes that render the toy world import this file again
    main()
