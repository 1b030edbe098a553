"""What servers make of an adapter: one rule for each, from its configuration, ranks and shapes alone. No torch."""
