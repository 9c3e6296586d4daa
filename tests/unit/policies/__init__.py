"""Default rules, and who checks them."""
