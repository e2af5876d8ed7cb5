"""`python train.py ...` is `attnlstm train ...`."""

from attnlstm.cli.train import main

if __name__ == "__main__":
    main()
