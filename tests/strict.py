"""Python for a child process of a test, in which warnings are errors as they are in the tests.

What a newer dependency finds old in itself or in another is none of ours (see `filterwarnings` in pyproject.toml).
"""

import sys

_THEIRS = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")
STRICT = [sys.executable, "-W", "error", *(word for kind in _THEIRS for word in ("-W", f"default::{kind}"))]
