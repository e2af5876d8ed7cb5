"""How bytes become records: one file per kind of file."""
