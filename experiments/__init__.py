"""Launchers, a screen each: parse, build, call, write. Run them from the repository root."""
