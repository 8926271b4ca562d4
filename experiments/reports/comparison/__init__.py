"""The report on several runs side by side."""
