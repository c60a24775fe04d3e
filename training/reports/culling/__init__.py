"""Reports on culling: which frames were kept, and what that costs and is worth."""
