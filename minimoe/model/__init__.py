"""The architecture, one concept a file: layers, rope, attention, mla, router, moe, mtp, transformer."""
