"""`python -m prunus` is the command `prunus`."""

from prunus.cli import main

# The engines of the benchmark are processes that import this module anew, under another name.
if __name__ == "__main__":
    main()
