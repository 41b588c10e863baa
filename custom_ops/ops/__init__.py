"""One folder per operator; see the README of `custom_ops`."""
