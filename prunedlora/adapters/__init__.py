"""The only importer of PEFT: attach adapters, walk their factors, shrink them, measure, export and verify them."""
