"""`python -m attnlstm ...` is `attnlstm ...`."""

from attnlstm.cli.verbs import main

if __name__ == "__main__":
    main()
