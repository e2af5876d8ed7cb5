"""`python predict.py ...` is `attnlstm predict ...`."""

from attnlstm.cli.predict import main

if __name__ == "__main__":
    main()
