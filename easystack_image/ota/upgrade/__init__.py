"""Installing, upgrading and rolling back, step by step."""
