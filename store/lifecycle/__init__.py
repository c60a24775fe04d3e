"""What happens to published things: they are removed, restored and renamed (`tamis.store.tables.lives`).

Whoever may not be without a thing is named, and the thing stays.
"""

from tamis.store.lifecycle.going import Going, Removal
from tamis.store.lifecycle.removable import Removable, Renamable

__all__ = ["Going", "Removable", "Removal", "Renamable"]
