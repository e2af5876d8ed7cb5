"""`python evaluate.py ...` is `attnlstm evaluate ...`."""

from attnlstm.cli.evaluate import main

if __name__ == "__main__":
    main()
