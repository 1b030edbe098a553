"""Every setting of the product, declared once: types, units, ranges and defaults live here and nowhere else."""
