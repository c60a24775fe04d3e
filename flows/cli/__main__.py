"""`python -m tamis.flows.cli` is the command `tamis`."""

from tamis.flows.start import main

if __name__ == "__main__":
    main()
