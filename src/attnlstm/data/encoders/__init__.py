"""How rows become numbers, and the cache of what was encoded."""
