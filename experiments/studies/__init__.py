"""Studies: what is varied, trained and put into one table."""
