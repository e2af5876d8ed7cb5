"""From files and named data sets to padded batches: read, check, split, encode, batch."""
