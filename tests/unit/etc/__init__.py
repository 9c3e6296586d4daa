"""What a deployer copies."""
