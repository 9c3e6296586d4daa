"""What an image says of itself: OS type, CPU architecture, virtualization."""
