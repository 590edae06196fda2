"""Image metrics that several rooms share."""
