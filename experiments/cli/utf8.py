"""File names in UTF-8 whatever the locale says, as the libraries that write checkpoints have them."""

import os
import sys

_SETTING = "PYTHONUTF8"


def use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode where names would be decoded otherwise.

    Orbax and TensorStore encode every name as UTF-8. In a latin-1 locale a folder would have two
    names, and in plain ASCII one with other letters could not be written. The mode can only be set
    before the interpreter starts; processes that this one starts inherit it.
    """
    # Set already: an option of the interpreter overrules it, and starting again would not end.
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get(_SETTING) == "1":
        return
    words = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, words, {**os.environ, _SETTING: "1"})
