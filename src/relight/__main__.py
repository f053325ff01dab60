"""`python -m relight`: the command line."""

from relight.cli.main import main

if __name__ == "__main__":
    main()
