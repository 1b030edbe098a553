"""How an adapter starts and changes while it trains: one method per file, one contract (method.py)."""
