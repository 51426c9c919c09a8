"""`radloop audit`: who saw and changed what, and whether the record is whole."""
