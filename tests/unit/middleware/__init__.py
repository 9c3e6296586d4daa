"""What stands in the pipeline, without Glance around it."""
