"""oslo.config options, one module per group."""
